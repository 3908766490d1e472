"""Calls of a contract: their payload is converted before they leave, their result when the program looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringback._roles.calls import CallBase, R_co
from ringback._runtime.containment import asks_to_exit
from ringback.contracts import Contract
from ringback.core.conversion import Converter, misfit_error, one_result
from ringback.errors import CallbackError, InvalidPayload, fresh, stripped
from ringback.protocol.envelopes import Encoder


class TypedCallBase(CallBase[R_co]):
    """What the typed calls of both faces have in common.

    A result is converted where the program first looks at it: converting may take long, and runs code of the
    user's classes. The I/O thread does neither.
    """

    __slots__ = ("_converter", "_raw")

    typed = True
    _converter: Converter
    _raw: tuple[Any, ...] | None
    """The results as they came, until they are converted."""

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        """Keep the outcome and wake those who wait. Not for users."""
        self._raw = None if error is not None else results
        super().settle(results, error)

    def convert(self) -> None:
        """Convert the result. A result that does not fit becomes an error. Not for users."""
        raw = self._raw
        if raw is None:
            return
        # Two threads may be in here. Both convert the same, and neither reads what the other has written.
        try:
            self._results = (self._converter.read(one_result(raw)),)
        except BaseException as error:  # whatever it is, somebody waits for an outcome
            if asks_to_exit(error):  # the next look converts again
                raise
            self._error = stripped(misfit_error("result", self._converter, error, "yes"))
            self._results = ()
        self._raw = None

    def _result(self) -> R_co:
        self.convert()
        return super()._result()


class Outgoing:
    """What the calls of one trigger have in common: the type of their result, and their converted payload.

    Attributes:
        payload: the plain payload; None if it could not be converted.
    """

    __slots__ = ("_error", "_result", "payload")

    def __init__(self, contract: Contract[Any, Any], payload: object) -> None:
        types = contract.types
        assert types.payload is not None and types.result is not None  # a contract names both
        self._result = types.result
        self.payload: Any = None
        self._error: InvalidPayload | None = None
        try:
            self.payload = types.payload.write(payload)
        except Exception as error:
            self._error = stripped(misfit_error("payload", types.payload, error, "no"))

    def maker(self, call_class: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that makes a call of this class."""

        def make(*arguments: Any) -> Any:
            call = call_class(*arguments)
            call._converter = self._result
            call._raw = None
            return call

        return make

    def encoder(self, encoder: Encoder) -> Encoder | Outgoing:
        """Return what encodes a call: the encoder, or this object if there is nothing to encode."""
        return encoder if self._error is None else self

    def call(self, *fields: object) -> bytes:
        """Raise the error of a payload that does not fit."""
        assert self._error is not None
        raise fresh(self._error)
