"""Exit codes."""

from __future__ import annotations

from ringback import CallbackError, Code, HandlerError, InvalidPayload, UnknownNode
from ringback.errors import ERROR_CLASSES
from ringback_cli.exits import MEANINGS, Exit, exit_of


def test_each_error_has_an_exit_code() -> None:
    for code, kind in ERROR_CLASSES.items():
        expected = Exit[code.name]
        assert exit_of(kind("x")) is expected
        if kind is UnknownNode:  # no call of a callback ends with it
            continue
        tens = expected // 10
        assert tens == {"no": 1, "maybe": 2, "yes": 3}[kind.default_executed]
    assert exit_of(CallbackError("x", code="MY_OWN")) is Exit.APPLICATION_ERROR
    assert exit_of(InvalidPayload("the answer", executed="yes")) is Exit.INVALID_ANSWER
    assert exit_of(HandlerError("x", executed="no")) is Exit.NOT_BEGUN
    assert exit_of(CallbackError("x", code="MY_OWN", executed="no")) is Exit.NOT_BEGUN
    assert exit_of(HandlerError("x", executed="maybe")) is Exit.UNCERTAIN
    assert set(Code.__members__) <= set(Exit.__members__)
    assert set(MEANINGS) == set(Exit)
