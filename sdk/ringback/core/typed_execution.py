"""The execution of a callback that has types: its payload and its results are converted on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringback.core.conversion import Converter, Misfit, Types, misfit_error, misfit_text, one_result
from ringback.core.execution import Execution, reply_error
from ringback.errors import HandlerError


class WrongResult(Exception):
    """A handler replied with something else than the result that its callback has."""


class TypedExecution(Execution):
    """A call of a callback with types. A payload that does not fit ends it before the handler runs.

    The conversions may take long, and run code of the user's classes. So they run where the handler does.
    """

    __slots__ = ("_types",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        types = self.handler.types
        assert types is not None  # `CallsIn` looked
        self._types: Types = types

    def begin(self, clock: Callable[[], float]) -> tuple[Any, ...] | None:
        """Return the arguments of the handler, with the converted payload.

        If the payload does not fit, refuse the call and return None.
        """
        payload, converter = self.payload, self._types.payload
        if converter is None or self.cancelled:
            return super().begin(clock)
        problem: BaseException | None = None
        try:
            payload = converter.read(payload)
        except BaseException as error:  # also sys.exit() in a user's class: the caller gets a reply
            problem = error
        arguments = super().begin(clock)  # the conversion may have taken long
        if arguments is None:
            return None
        if problem is None:
            values = (payload,) if self.source is None else (self.source, payload)
            return (*values, self) if self.handler.takes_cb else values
        self.began = 0.0  # the handler does not run
        self._refuse(problem, converter)
        return None

    def _refuse(self, problem: BaseException, converter: Converter) -> None:
        """Reply that the payload could not be converted."""
        if isinstance(problem, Misfit):
            self.refuse(misfit_error("payload", converter, problem, "no"))
        elif isinstance(problem, Exception):
            reply = reply_error(problem)
            if isinstance(reply, HandlerError):
                self.shell.handler_failed(self, problem)
                reply = HandlerError("reading the payload failed; the log of the handler's process says why")
            reply.executed = "no"
            self.refuse(reply)
        else:
            text = f"reading the payload ended with {type(problem).__name__}"
            self.refuse(HandlerError(text, executed="no"))
            raise problem

    def __call__(self, *results: Any) -> None:
        """Reply to the call with its one result. A result of another type is logged and becomes an error."""
        converter = self._types.result
        if converter is not None and not self._replied:
            try:
                results = (converter.write(one_result(results)),)
            except Exception as error:
                self.fail(WrongResult(misfit_text("result", converter, error)))
                return
        super().__call__(*results)
