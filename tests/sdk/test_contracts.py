"""Contracts: callbacks whose payload and result have types, in both faces."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from queue import Queue
from typing import Any

import pytest
from support.faces import LogLines, Seen, Stage, played
from support.harness import PATIENCE_S

import ringback
from ringback import CallbackError, ClientCallback, Code, ServerCallback


@dataclass
class Item:
    name: str
    count: int = 1


@dataclass
class Order:
    items: list[Item]
    note: str | None = None


@dataclass
class Receipt:
    total: int


@dataclass
class Fussy:
    """Its own code looks at the values, and tells where it runs."""

    value: int

    def __post_init__(self) -> None:
        built.append(threading.get_ident())
        if self.value == 1:
            raise ValueError("no ones")
        if self.value == 2:
            raise KeyError("two")
        if self.value == 3:
            raise SystemExit


built: list[int] = []
"""The thread of each `Fussy`."""

BUY = ServerCallback("shop:buy", Order, Receipt)
WHERE = ClientCallback("player:where", None, tuple[float, float])
FUSSY = ServerCallback("fussy", Fussy, None)
FUSSY_RESULT = ServerCallback("fussy result", None, Fussy)

ORDER = Order([Item("rope"), Item("torch", 3)])
PLAIN = {"items": [{"name": "rope"}, {"name": "torch", "count": 3}]}


def sell(source: Any, order: Order) -> Receipt:
    return Receipt(sum(item.count for item in order.items))


@played
async def test_both_sides_see_the_types(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    orders: list[Any] = []

    @server.register(BUY)
    def buy(source: Any, order: Order) -> Receipt:
        orders.append((source, order))
        return sell(source, order)

    player.register(WHERE, lambda payload: (1, 2.5))
    assert await stage.result(player.trigger(BUY, ORDER)) == Receipt(4)
    assert orders == [(7, ORDER)]
    for trusted in (server, operator):
        assert await stage.result(trusted.trigger(BUY, 8, ORDER)) == Receipt(4)
        assert await stage.result(trusted.trigger(WHERE, 7, None)) == (1.0, 2.5)
        calls = await stage.within(stage.face.all(trusted.trigger_all(WHERE, None)))
        assert {player_id: call.result() for player_id, call in calls.items()} == {7: (1.0, 2.5)}
    assert await stage.results(server.trigger(WHERE, 7, None)) == ((1.0, 2.5),)
    assert buy(7, ORDER) == Receipt(4)  # still the function itself


@played
async def test_coroutines_and_handlers_with_cb_have_types_too(stage: Stage) -> None:
    server, player = await stage.pair()

    async def later(source: Any, order: Order) -> Receipt:
        return sell(source, order)

    def with_cb(source: Any, order: Order, cb: ringback.Execution) -> None:
        threading.Thread(target=cb, args=[sell(source, order)]).start()

    async def later_with_cb(source: Any, order: Order, cb: ringback.Execution) -> None:
        cb(sell(source, order))

    for handler in (later, with_cb, later_with_cb):
        server.register(BUY, handler, replace=True)
        assert await stage.result(player.trigger(BUY, ORDER)) == Receipt(4)
    server.register(BUY, sell, replace=True, in_thread=True)
    assert await stage.result(player.trigger(BUY, ORDER)) == Receipt(4)


@played
async def test_a_peer_without_types_works_with_one_that_has_them(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register(BUY, sell)
    assert await stage.result(player.trigger_server_callback("shop:buy", PLAIN)) == {"total": 4}
    server.register_server_callback("shop:buy", lambda source, payload: {"total": len(payload)}, replace=True)
    assert await stage.result(player.trigger(BUY, ORDER)) == Receipt(2)
    player.register_client_callback("player:where", lambda payload: [0, 0])
    assert await stage.result(server.trigger(WHERE, 7, None)) == (0.0, 0.0)


@played
async def test_a_wrong_payload_never_reaches_the_handler(stage: Stage) -> None:
    server, player = await stage.pair()
    ran: list[Any] = []

    @server.register(BUY)
    def buy(source: Any, order: Order) -> Receipt:
        ran.append(order)
        return Receipt(0)

    for payload, path in (
        ({"items": [{"name": "rope", "count": "3"}]}, "$.items[0].count"),
        ({"items": []} | {"note": 5}, "$.note"),
        ({}, "$"),
        (None, "$"),
    ):
        error = await stage.failure(player.trigger_server_callback("shop:buy", payload))
        assert isinstance(error, ringback.InvalidPayload)
        assert (error.code, error.executed, error.data) == (Code.INVALID_PAYLOAD, "no", {"path": path})
        assert error.message.startswith(f"the payload does not fit Order: {path}: ")
    assert ran == []


@played
async def test_a_wrong_payload_is_not_sent(stage: Stage) -> None:
    server, player = await stage.pair()
    came: list[Any] = []
    server.register_server_callback("shop:buy", lambda source, payload: came.append(payload))
    wrong: Any = Order([Item("rope", "3")])
    error = await stage.failure(player.trigger(BUY, wrong))
    assert (error.code, error.executed) == (Code.INVALID_PAYLOAD, "no")
    assert error.data == {"path": "$.items[0].count"}
    assert (await stage.failure(player.trigger(BUY, object()))).code is Code.INVALID_PAYLOAD
    failed = Seen()
    player.trigger(BUY, wrong, lambda receipt: None, on_error=failed)
    assert [error.executed for error in await failed.count(1)] == ["no"]
    calls = await stage.within(stage.face.all(server.trigger_all(WHERE, 5, players=[7, 9])))
    assert [call.error.data for call in calls.values()] == [{"path": "$"}, {"path": "$"}]
    assert came == []


@pytest.mark.parametrize("with_cb", [False, True])
@pytest.mark.parametrize("wrong", [Receipt("4"), {"total": 4.5}, None, object()])
def test_a_wrong_result_never_leaves(
    face: Any, here: Any, sdk_log: LogLines, wrong: Any, with_cb: bool
) -> None:
    @played
    async def check(stage: Stage) -> None:
        server, player = await stage.pair()
        if with_cb:
            server.register(BUY, lambda source, order, cb: cb(wrong))
        else:
            server.register(BUY, lambda source, order: wrong)
        error = await stage.failure(player.trigger(BUY, ORDER))
        assert (error.code, error.executed, error.data) == (Code.HANDLER_ERROR, "yes", None)
        line = await sdk_log.wait_for("the handler of 'shop:buy' failed for player 7")
        assert line.exc_info is not None
        assert str(line.exc_info[1]).startswith("the result does not fit Receipt: $")

    check(face, here)


@played
async def test_cb_takes_one_result_and_one_reply(stage: Stage) -> None:
    server, player = await stage.pair()
    nothing = ServerCallback("nothing", None, None)
    server.register(nothing, lambda source, payload, cb: cb())
    assert await stage.result(player.trigger(nothing, None)) is None
    server.register(nothing, lambda source, payload, cb: cb(None, None), replace=True)
    assert (await stage.failure(player.trigger(nothing, None))).code is Code.HANDLER_ERROR

    def twice(source: Any, order: Order, cb: ringback.Execution) -> None:
        cb(Receipt(1))
        cb("wrong, but too late")

    server.register(BUY, twice)
    assert await stage.result(player.trigger(BUY, ORDER)) == Receipt(1)


@played
async def test_a_wrong_result_is_an_error_at_the_caller(stage: Stage) -> None:
    server, player = await stage.pair()
    results: list[tuple[Any, ...]] = [({"total": "4"},), (), (4,), ({"total": 4}, 5)]
    paths = ["$.total", "$", "$", "$"]
    for values, path in zip(results, paths, strict=True):
        server.register_server_callback(
            "shop:buy", lambda source, payload, cb, *, values=values: cb(*values), replace=True
        )
        call = player.trigger(BUY, ORDER)
        error = await stage.failure(call)
        assert (error.code, error.executed, error.data) == (Code.INVALID_PAYLOAD, "yes", {"path": path})
        assert error.message.startswith(f"the result does not fit Receipt: {path}: ")
        with pytest.raises(ringback.InvalidPayload):
            call.result()
        with pytest.raises(ringback.InvalidPayload):
            call.results  # noqa: B018
    succeeded, failed = Seen(), Seen()
    player.trigger(BUY, ORDER, succeeded, on_error=failed)
    assert [error.executed for error in await failed.count(1)] == ["yes"]
    player.register_client_callback("player:where", lambda payload: "nowhere")
    [(_, call)] = await stage.within(stage.face.items(server.trigger_all(WHERE, None)))
    assert call.error.code is Code.INVALID_PAYLOAD
    assert succeeded.items == []


@played
async def test_a_callback_gets_the_result_with_its_type(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register(BUY, sell)
    succeeded = Seen()
    player.trigger(BUY, ORDER, succeeded, timeout=PATIENCE_S)
    assert await succeeded.count(1) == [Receipt(4)]


@played
async def test_the_options_are_those_of_other_callbacks(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register(BUY, sell, allow=[8])
    with pytest.raises(ValueError, match="registered already"):
        server.register(BUY, sell)
    assert (await stage.failure(player.trigger(BUY, ORDER))).code is Code.FORBIDDEN
    registration = server.register(BUY, sell, limit="1/h", replace=True)
    assert await stage.result(player.trigger(BUY, ORDER)) == Receipt(4)
    assert (await stage.failure(player.trigger(BUY, ORDER))).code is Code.RATE_LIMITED
    registration.unregister()
    assert (await stage.failure(player.trigger(BUY, ORDER))).code is Code.UNKNOWN_CALLBACK
    assert (await stage.failure(player.trigger(BUY, ORDER, timeout=0))).code is Code.TIMEOUT
    for name in ("timout", "retries"):
        with pytest.raises(TypeError, match=rf"trigger\(\) got an unexpected keyword argument '{name}'"):
            player.trigger(BUY, ORDER, **{name: 1})
        with pytest.raises(TypeError, match=rf"trigger\(\) got an unexpected keyword argument '{name}'"):
            server.trigger(BUY, 7, ORDER, **{name: 1})
        with pytest.raises(TypeError, match=rf"trigger_all\(\) got an unexpected keyword argument '{name}'"):
            server.trigger_all(WHERE, None, **{name: 1})
        for endpoint, contract in ((server, BUY), (player, WHERE)):
            with pytest.raises(TypeError, match=rf"register\(\) got an unexpected .* '{name}'"):
                endpoint.register(contract, **{name: 1})


@played
async def test_a_contract_of_the_other_kind_is_refused(stage: Stage) -> None:
    server, player = await stage.pair()
    for wrong in (
        lambda: server.register(WHERE, lambda source, payload: None),
        lambda: server.register(WHERE),
        lambda: player.register(BUY, lambda payload: None),
        lambda: player.trigger(WHERE, None),
        lambda: server.trigger_all(BUY, ORDER),
    ):
        with pytest.raises(TypeError, match=r"the contract must be a .*Callback$"):
            wrong()


@played
async def test_a_key_and_a_contract_are_not_the_same(stage: Stage) -> None:
    """The error says which function takes what was given."""
    server, player = await stage.pair()
    for wrong, instead in (
        (lambda: server.register("k", print), "register_server_callback"),
        (lambda: player.register("k"), "register_client_callback"),
        (lambda: player.trigger("k", ORDER), "trigger_server_callback"),
        (lambda: server.trigger("k", 7, ORDER), "trigger_client_callback or trigger_callback"),
        (lambda: server.trigger_all("k", ORDER), "trigger_all_client_callbacks"),
    ):
        with pytest.raises(TypeError, match=f"must be a .*, not of type str; with a key, use {instead}$"):
            wrong()
    for wrong, instead in (
        (lambda: server.register_server_callback(BUY, print), "register"),
        (lambda: player.register_client_callback(WHERE), "register"),
        (lambda: player.trigger_server_callback(BUY, ORDER), "trigger"),
        (lambda: server.trigger_client_callback(WHERE, 7), "trigger"),
        (lambda: server.trigger_callback(BUY, 7, ORDER), "trigger"),
        (lambda: server.trigger_all_client_callbacks(WHERE), "trigger_all"),
    ):
        with pytest.raises(
            TypeError, match=f"a key must be a str, not .*Callback; with a contract, use {instead}$"
        ):
            wrong()


@played
async def test_code_of_a_class_runs_where_its_handler_does(stage: Stage) -> None:
    """A class may refuse a value, or fail: then the handler does not run, and the caller gets its error."""
    server, player = await stage.pair()
    ran: list[int] = []
    server.register(FUSSY, lambda source, fussy: ran.append(threading.get_ident()))
    built.clear()
    await stage.result(player.trigger_server_callback("fussy", {"value": 0}))
    assert built == ran
    error = await stage.failure(player.trigger_server_callback("fussy", {"value": 1}))
    assert (error.code, error.executed, error.data) == (Code.INVALID_PAYLOAD, "no", {"path": "$"})
    assert "no ones" in error.message
    error = await stage.failure(player.trigger_server_callback("fussy", {"value": 2}))
    assert (error.code, error.executed) == (Code.HANDLER_ERROR, "no")
    assert error.message.startswith("reading the payload failed; the log")
    assert len(ran) == 1
    await stage.still_works(server, player)


@played
async def test_code_of_a_class_runs_where_the_program_looks(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("fussy result", lambda source, payload: {"value": 5})
    call = player.trigger(FUSSY_RESULT, None)
    await stage.until(player, call.done, "the call ends")
    built.clear()
    assert call.result() == Fussy(5)
    assert set(built) == {threading.get_ident()}
    server.register_server_callback("fussy result", lambda source, payload: {"value": 2}, replace=True)
    error = await stage.failure(player.trigger(FUSSY_RESULT, None))
    assert (error.code, error.executed) == (Code.INVALID_PAYLOAD, "yes")


def test_a_future_has_the_result_with_its_type(here: Any) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:
        server.register(FUSSY_RESULT, lambda source, payload: Fussy(5))
        built.clear()
        ended_in = []
        future = player.trigger(FUSSY_RESULT, None).future()
        future.add_done_callback(lambda _: ended_in.append(threading.current_thread().name))
        assert future.result(PATIENCE_S) == Fussy(5)
        assert player._shell._io.thread.ident not in built
        server.register_server_callback("fussy result", lambda source, payload: 5, replace=True)
        with pytest.raises(ringback.InvalidPayload):
            player.trigger(FUSSY_RESULT, None).future().result(PATIENCE_S)


def test_a_class_that_exits_leaves_nobody_without_an_outcome(here: Any) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:
        server.register_server_callback("fussy result", lambda source, payload: {"value": 3})
        failed: Queue[CallbackError] = Queue()
        player.trigger(FUSSY_RESULT, None, on_error=failed.put)
        assert failed.get(timeout=PATIENCE_S).code is Code.INVALID_PAYLOAD
        player.trigger(FUSSY_RESULT, None, on_error=failed.put, on_progress=print)
        assert failed.get(timeout=PATIENCE_S).executed == "yes"
        error = player.trigger(FUSSY_RESULT, None).future().exception(PATIENCE_S)
        assert isinstance(error, ringback.InvalidPayload)
        with pytest.raises(SystemExit):  # here in the main thread, the program itself may want to exit
            player.trigger(FUSSY_RESULT, None).result(PATIENCE_S)


def test_a_class_that_exits_ends_no_handler_without_a_reply(here: Any) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:
        server.register(FUSSY, lambda source, fussy: None)
        with pytest.raises(ringback.HandlerError, match="ended with SystemExit"):
            player.trigger_server_callback("fussy", {"value": 3}, timeout=PATIENCE_S).result()


@played
async def test_a_payload_whose_time_is_over_is_not_converted(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register(FUSSY, lambda source, fussy: None)
    error = await stage.failure(player.trigger_server_callback("fussy", {"value": 1}, timeout=0))
    assert error.code is Code.TIMEOUT


def test_a_contract_shows_itself_and_is_checked_at_once() -> None:
    assert repr(BUY) == "ServerCallback('shop:buy', Order, Receipt)"
    assert repr(WHERE) == "ClientCallback('player:where', None, tuple[float, float])"
    with pytest.raises(ValueError, match="key"):
        ServerCallback("", Order, Receipt)
    with pytest.raises(TypeError, match="complex cannot be a type of a callback: there is no conversion"):
        ServerCallback("key", complex, None)
    with pytest.raises(TypeError, match="5 cannot be a type"):
        ServerCallback("key", 5, None)


def test_calls_without_types_are_as_before(here: Any) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:
        seen: list[Any] = []
        registration = server.register_server_callback(
            "plain", lambda source, payload, cb: seen.append(cb) or cb()
        )
        assert registration.handler.types is None
        call = player.trigger_server_callback("plain")
        call.result()
        assert type(call) is ringback.Call
        assert type(seen[0]) is ringback.Execution
        with pytest.raises(CallbackError, match="cannot be encoded"):
            player.trigger_server_callback("plain", ORDER).result()
