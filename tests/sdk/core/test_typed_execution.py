"""The execution of a callback with types, and the errors of values that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from support.corefakes import Desk, connected, data, only_error

from ringback.core.conversion import MAX_PATH_CHARS, Misfit, Types, misfit_error, one_result
from ringback.core.execution import Execution
from ringback.core.registry import Handler
from ringback.core.typed_execution import TypedExecution, WrongResult
from ringback.errors import CallbackError, Code
from ringback.protocol.envelopes import CANCEL, RESULT, Encoder, join
from ringback.protocol.frames import Role
from ringback.protocol.limits import Limits

write = Encoder(Limits())
DATA_0 = data()[:8]


class Doubled:
    """A type whose values are even ints. A plain value is the half of one."""

    name = "Doubled"

    def read(self, value: Any) -> Any:
        if isinstance(value, BaseException):
            raise value
        if type(value) is not int:
            raise Misfit("expected an int", "$.half")
        return value * 2

    def write(self, value: Any) -> Any:
        if value % 2:
            raise Misfit("expected an even int")
        return value // 2


def desk(types: Types, *, takes_cb: bool = True, **limits: int) -> Desk:
    """Return a player whose callback `k` has these types."""
    found = connected(Role.PLAYER)
    found.shell.encoder = Encoder(Limits(**limits))  # of what its handlers give
    found.core.registry.handlers["k"] = Handler(lambda *_: None, takes_cb, False, False, types=types)
    return found


def only_execution(player: Desk, payload: Any) -> Execution:
    player.gets(data(write.call(5, "k", payload, None)))
    [execution] = player.shell.waiting
    return execution


def test_a_payload_and_a_result_are_converted() -> None:
    player = desk(Types(Doubled(), Doubled()))
    execution = only_execution(player, 4)
    assert type(execution) is TypedExecution
    assert execution.begin(player.clock.read) == (8, execution)
    execution(10)
    player.flush()
    assert player.bodies() == [[[RESULT, 5, [5]]]]


def test_the_handler_of_a_server_gets_its_source_too() -> None:
    handler = Handler(lambda *_: None, False, False, False, types=Types(Doubled(), None))
    execution = TypedExecution(None, b"", 7, 5, "k", 3, None, handler)
    assert execution.begin(lambda: 1000.0) == (7, 6)


def test_types_may_leave_a_payload_or_results_as_they_are() -> None:
    player = desk(Types(None, None))
    execution = only_execution(player, "x")
    assert execution.begin(player.clock.read) == ("x", execution)
    execution(1, 2)
    player.flush()
    assert player.bodies() == [[[RESULT, 5, [1, 2]]]]


def test_a_payload_that_does_not_fit_is_refused() -> None:
    player = desk(Types(Doubled(), None))
    execution = only_execution(player, "x")
    assert execution.begin(player.clock.read) is None
    assert execution.began == 0.0
    assert only_error(player) == (5, Code.INVALID_PAYLOAD, 0)


def test_a_refusal_leaves_however_low_the_limits_are() -> None:
    player = desk(Types(Doubled(), None), max_call_bytes=30)
    execution = only_execution(player, "x")
    assert execution.begin(player.clock.read) is None
    assert only_error(player) == (5, Code.INVALID_PAYLOAD, 0)


def test_a_class_whose_error_cannot_be_encoded_did_not_run() -> None:
    player = desk(Types(Doubled(), None))
    execution = only_execution(player, 1)
    execution.payload = CallbackError("of a class", code="SOLD_OUT", data={(1, 2): 3})
    assert execution.begin(player.clock.read) is None
    assert only_error(player) == (5, Code.HANDLER_ERROR, 0)


def test_a_class_that_fails_is_a_handler_that_fails() -> None:
    player = desk(Types(Doubled(), None))
    execution = only_execution(player, 1)
    execution.payload = KeyError("of a class")
    assert execution.begin(player.clock.read) is None
    assert [type(error) for error in player.shell.failures] == [KeyError]
    assert only_error(player) == (5, Code.HANDLER_ERROR, 0)


def test_a_class_may_fail_with_a_code_of_the_application() -> None:
    player = desk(Types(Doubled(), None))
    execution = only_execution(player, 1)
    execution.payload = CallbackError("not this one", code="NOT_THIS")
    assert execution.begin(player.clock.read) is None
    assert player.shell.failures == []
    assert only_error(player) == (5, "NOT_THIS", 0)


def test_a_class_that_exits_leaves_no_caller_without_a_reply() -> None:
    player = desk(Types(Doubled(), None))
    execution = only_execution(player, 1)
    execution.payload = SystemExit()
    with pytest.raises(SystemExit):
        execution.begin(player.clock.read)
    assert only_error(player) == (5, Code.HANDLER_ERROR, 0)


def test_an_abandoned_call_is_not_converted() -> None:
    read: list[Any] = []

    class Noted(Doubled):
        def read(self, value: Any) -> Any:
            read.append(value)

    player = desk(Types(Noted(), None))
    execution = only_execution(player, 1)
    player.gets(DATA_0 + join([write.cancel(5)]))
    assert CANCEL and execution.cancelled
    assert execution.begin(player.clock.read) is None
    assert read == []


def test_a_conversion_that_takes_too_long_ends_the_call() -> None:
    player = desk(Types(Doubled(), None))
    player.gets(data(write.call(5, "k", 1, 100)))
    [execution] = player.shell.waiting
    assert execution.begin(lambda: player.clock.now + 0.2) is None
    assert only_error(player) == (5, Code.TIMEOUT, 0)


@pytest.mark.parametrize("results", [(3,), ("x",), (2, 4), ()], ids=repr)
def test_a_result_that_does_not_fit_is_an_error_of_the_handler(results: tuple[Any, ...]) -> None:
    player = desk(Types(None, Doubled()))
    execution = only_execution(player, None)
    execution.begin(player.clock.read)
    execution(*results)
    [failure] = player.shell.failures
    assert isinstance(failure, WrongResult)
    assert str(failure).startswith("the result does not fit Doubled: $: ")
    assert only_error(player) == (5, Code.HANDLER_ERROR, 2)
    execution(4)
    assert player.shell.duplicates == 1


def test_a_callback_with_types_has_one_result() -> None:
    assert one_result(()) is None
    assert one_result((5,)) == 5
    with pytest.raises(Misfit, match="expected one result, got 2"):
        one_result((1, 2))


def test_the_error_names_the_field() -> None:
    error = misfit_error("payload", Doubled(), Misfit("it is odd", "$.half"), "no")
    assert (error.message, error.data) == (
        "the payload does not fit Doubled: $.half: it is odd",
        {"path": "$.half"},
    )
    assert misfit_error("result", Doubled(), KeyError("x"), "yes").data == {"path": "$"}
    assert len(Misfit("long", "$" * 1000).path) == MAX_PATH_CHARS
