"""All errors of ringback can be pickled and copied, with all that they carry."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from ringback import CallbackError, RingbackError, errors
from ringback.errors import InvalidPayload, RejectCode, fresh, stripped


class Missing(CallbackError):
    """An error of an application, with an `__init__` of its own."""

    def __init__(self, item: str, count: int) -> None:
        super().__init__(f"no {item}", code="MISSING", data={"item": item, "count": count})
        self.item = item


def subclasses(of: type[Exception]) -> set[type[Exception]]:
    return {of}.union(*(subclasses(below) for below in of.__subclasses__()))


def examples() -> list[Exception]:
    made: list[Exception] = [Missing("rope", 2), errors.UsageError("u"), errors.ProtocolError("p")]
    for kind in sorted(subclasses(RingbackError), key=lambda kind: kind.__name__):
        if kind.__module__.startswith("ringback.") and kind is not Missing:
            if issubclass(kind, errors.Refused):
                made.append(kind(RejectCode.FULL, "full"))
            elif issubclass(kind, CallbackError):
                made.append(kind("why", executed="maybe", data={"a": [1]}))
            else:
                made.append(kind("why"))
    return made


@pytest.mark.parametrize("error", examples(), ids=lambda error: type(error).__name__)
def test_each_error_can_be_pickled_and_copied(error: Any) -> None:
    error.add_note("a note")
    error.__cause__ = ValueError("the cause")
    twins = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for twin in (*twins, copy.copy(error), copy.deepcopy(error), fresh(error)):
        assert type(twin) is type(error) and twin is not error
        assert (twin.args, vars(twin), str(twin)) == (error.args, vars(error), str(error))
    for twin in (copy.copy(error), fresh(error)):
        assert twin.__cause__ is error.__cause__ and twin.__suppress_context__
        twin.add_note("another")
        assert error.__notes__ == ["a note"]


def test_a_kept_error_holds_no_frames() -> None:
    """Neither its own, nor those of the errors that it came from."""
    try:
        try:
            raise KeyError("of the program")
        except KeyError as cause:
            raise InvalidPayload("cannot be encoded", data=7) from cause
    except InvalidPayload as error:
        kept = stripped(error)
    assert kept.__traceback__ is kept.__cause__ is kept.__context__ is None
    assert (kept.message, kept.data) == ("cannot be encoded", 7)


def test_an_error_whose_subclass_left_out_super_init_has_a_text() -> None:
    class Bare(CallbackError):
        def __init__(self, item: str) -> None:
            self.item = item

    assert str(Bare("rope")) == "rope"
