"""Calls in both directions: results, errors, `cb` in all its forms, nested calls, and many calls at once."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from support.faces import HereBroker, LogLines, Seen, Stage, played
from support.harness import PATIENCE_S

import ringback
from ringback import CallbackError, Code


@played
async def test_the_five_functions_of_the_table(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    server.register_server_callback("up", lambda source, payload, cb: cb(source, payload))
    player.register_client_callback("down", lambda payload, cb: cb(payload, "from 7"))
    seen = Seen()
    player.trigger_server_callback("up", {"a": 1}, seen)
    assert await seen.count(1) == [(7, {"a": 1})]
    server.trigger_client_callback("down", 7, [1, 2], seen)
    assert (await seen.count(2))[1] == ([1, 2], "from 7")
    server.trigger_callback("up", "somebody", 5, seen)
    assert (await seen.count(3))[2] == ("somebody", 5)
    operator.trigger_callback("up", 99, 6, seen)
    assert (await seen.count(4))[3] == (99, 6)
    operator.trigger_client_callback("down", 7, 7, seen)
    assert (await seen.count(5))[4] == (7, "from 7")


SCALARS: list[Any] = [None, True, -(2**63), 2**64 - 1, 0.5, float("inf"), "", "\u00e9\0", b"\x00\xff"]
VALUES = [*SCALARS, [], {}, [None, [1, {"a": [b""]}]], {1: 2, None: 3, b"k": 4, 1.5: 5, "é": 6}, SCALARS]


@played
async def test_values_arrive_unchanged_in_both_directions(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("echo", lambda source, payload: payload)
    player.register_client_callback("echo", lambda payload: payload)
    for value in VALUES:
        assert await stage.result(player.trigger_server_callback("echo", value)) == value
        assert await stage.result(server.trigger_client_callback("echo", 7, value)) == value
        assert await stage.result(server.trigger_callback("echo", 1, value)) == value


@played
async def test_none_one_and_many_results(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("give", lambda source, payload, cb: cb(*payload))
    for results, value in (
        ((), None),
        ((None,), None),
        ((5,), 5),
        ((1, None), (1, None)),
        (([1, 2],), [1, 2]),
    ):
        call = player.trigger_server_callback("give", list(results))
        assert await stage.result(call) == value
        assert call.results == results
        assert call.result() == value
        assert call.error is None and call.done()
    seen = Seen()
    player.trigger_server_callback("give", [], lambda *results: seen(("called with", results)))
    assert await seen.count(1) == [("called with", ())]


@played
async def test_a_payload_is_optional(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("k", lambda source, payload: [payload])
    player.register_client_callback("k", lambda payload: [payload])
    assert await stage.result(player.trigger_server_callback("k")) == [None]
    assert await stage.result(server.trigger_client_callback("k", 7)) == [None]
    assert await stage.result(server.trigger_callback("k", 7)) == [None]


def shuffled_replies(stage: Stage, count: int) -> tuple[Any, threading.Thread]:
    """Return a handler that keeps each `cb`. A thread replies to all, shuffled, with twice the payload."""
    waiting: list[Any] = []
    complete = threading.Event()

    def handler(source: Any, payload: Any, cb: Any) -> None:
        waiting.append((payload, cb))
        if len(waiting) == count:
            complete.set()

    def reply() -> None:
        assert complete.wait(PATIENCE_S)
        random.Random(1).shuffle(waiting)
        for payload, cb in waiting:
            cb(payload * 2)

    return handler, threading.Thread(target=reply)


@played
async def test_a_thousand_calls_at_a_time_in_any_order(stage: Stage) -> None:
    server, player = await stage.pair()
    handler, replying = shuffled_replies(stage, 1000)
    server.register_server_callback("double", handler)
    replying.start()
    calls = [player.trigger_server_callback("double", number) for number in range(1000)]
    results = await stage.within(stage.face.result_of_each(calls))
    replying.join()
    assert results == [number * 2 for number in range(1000)]
    assert player.counters.results == 1000 and player.counters.stray_replies == 0
    assert server.counters.executions == 1000


@pytest.mark.parametrize("workers", [1, 4])
def test_a_handler_that_triggers_back(face: Any, here: HereBroker, workers: int) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair(workers=workers)

        def ping(source: Any, payload: Any) -> Any:
            if payload == 0:
                return player.trigger_server_callback("floor")
            return server.trigger_client_callback("pong", source, payload)

        def pong(payload: Any) -> Any:
            return player.trigger_server_callback("ping", payload - 1)

        server.register_server_callback("ping", stage.face.handler(ping))
        server.register_server_callback("floor", lambda source, payload: "floor")
        player.register_client_callback("pong", stage.face.handler(pong))
        assert await stage.result(player.trigger_server_callback("ping", 10)) == "floor"

    scene(face, here)


@played
async def test_a_worker_that_waits_for_a_call_of_another_endpoint_makes_room(stage: Stage) -> None:
    """A handler of one endpoint waits for a call that another endpoint of the same process makes."""
    server, player = await stage.pair(workers=1)
    other = await stage.player(8, workers=1)
    server.register_server_callback(
        "ask 7", stage.face.handler(lambda source, payload: server.trigger_client_callback("ask 8", 7))
    )
    player.register_client_callback(
        "ask 8", stage.face.handler(lambda payload: other.trigger_server_callback("ask 7 more"))
    )
    server.register_server_callback(
        "ask 7 more", stage.face.handler(lambda source, payload: server.trigger_client_callback("end", 7))
    )
    player.register_client_callback("end", lambda payload: "the end")
    assert await stage.result(other.trigger_server_callback("ask 7", timeout=PATIENCE_S)) == "the end"


@played
async def test_calls_of_one_key_may_be_nested(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("next", lambda source, payload, cb: cb(payload + 1))
    seen = Seen()

    def first(number: int) -> None:
        player.trigger_server_callback("next", number, second)

    def second(number: int) -> None:
        seen(number)
        if number < 20:
            first(number)

    player.trigger_server_callback("next", 0, first)
    player.trigger_server_callback("next", 0, first)
    items = await seen.count(38)
    assert sorted(items) == sorted([*range(2, 21)] * 2)


# -- cb


def test_cb_twice_is_ignored_logged_and_counted(face: Any, here: HereBroker, sdk_log: LogLines) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()

        def twice(source: Any, payload: Any, cb: Any) -> None:
            cb("first")
            cb("second")

        server.register_server_callback("twice", twice)
        assert await stage.result(player.trigger_server_callback("twice")) == "first"
        record = await sdk_log.wait_for("'twice' replied a second time")
        assert record.levelname == "WARNING"
        assert server.counters.duplicate_replies == 1
        await stage.still_works(server, player)
        assert player.counters.stray_replies == 0

    scene(face, here)


@played
async def test_cb_after_the_timeout_is_dropped_and_counted(stage: Stage) -> None:
    server, player = await stage.pair()
    kept = Seen()
    server.register_server_callback("late", lambda source, payload, cb: kept(cb))
    error = await stage.failure(player.trigger_server_callback("late", timeout=0.05))
    assert error.code is Code.TIMEOUT and error.executed == "maybe" and isinstance(error, TimeoutError)
    (cb,) = await kept.count(1)
    await stage.until(player, lambda: cb.cancelled, "the handler sees that its caller no longer waits")
    cb("too late")
    await stage.until(player, lambda: server.counters.late_replies == 1, "the late reply was counted")
    assert player.counters.stray_replies == 0
    await stage.still_works(server, player)


@played
async def test_cb_from_another_thread(stage: Stage) -> None:
    server, player = await stage.pair()
    threads = []

    def handler(source: Any, payload: Any, cb: Any) -> None:
        threads.append(threading.Thread(target=cb, args=(payload, "from a thread")))
        threads[-1].start()

    server.register_server_callback("thread", handler)
    calls = [player.trigger_server_callback("thread", number) for number in range(20)]
    assert await stage.within(stage.face.result_of_each(calls)) == [(n, "from a thread") for n in range(20)]
    for thread in threads:
        thread.join()


@played
async def test_a_call_without_a_reply_ends_by_its_timeout_on_both_sides(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("never", lambda source, payload, cb: None)
    calls = [player.trigger_server_callback("never", timeout=0.05) for _ in range(50)]
    for call in calls:
        assert (await stage.failure(call)).code is Code.TIMEOUT

    def empty() -> bool:
        return bool(server._endpoint.load().executions == 0)

    await stage.until(player, empty, "the executions left the table")
    assert server.counters.executions == 50


@played
async def test_cb_after_its_endpoint_has_closed_does_nothing(stage: Stage) -> None:
    server, player = await stage.pair()
    kept = Seen()
    server.register_server_callback("k", lambda source, payload, cb: kept(cb))
    call = player.trigger_server_callback("k")
    (cb,) = await kept.count(1)
    await stage.face.close(server)
    error = await stage.failure(call)
    assert error.code is Code.SERVER_LOST and error.executed == "maybe"
    assert cb.cancelled
    cb("nobody hears this")
    thread = threading.Thread(target=cb, args=("nor this",))
    thread.start()
    thread.join()


# -- handlers that fail


class OutOfStock(CallbackError):
    default_code = "OUT_OF_STOCK"


class Careless(CallbackError):
    def __init__(self) -> None:  # it does not call super().__init__(), so it has no code
        pass


def with_code(message: str, code: Any) -> CallbackError:
    """Return an error whose code was changed after its construction, which checks it."""
    error = CallbackError(message)
    error.code = code
    return error


def raising(error: BaseException) -> Any:
    def handler(source: Any, payload: Any, cb: Any) -> None:
        raise error

    return handler


@played
async def test_an_error_of_the_application_reaches_the_caller(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("with cb", raising(OutOfStock("no bread", data={"left": 0})))

    def plain(source: Any, payload: Any) -> None:
        raise CallbackError("by code", code="TOO_POOR")

    async def coroutine(source: Any, payload: Any) -> None:
        raise OutOfStock("later", executed="no")  # the handler did run, whatever its error says

    server.register_server_callback("plain", plain)
    server.register_server_callback("coroutine", coroutine)
    error = await stage.failure(player.trigger_server_callback("with cb"))
    assert (error.code, error.message, error.data, error.executed) == (
        "OUT_OF_STOCK",
        "no bread",
        {"left": 0},
        "yes",
    )
    error = await stage.failure(player.trigger_server_callback("plain"))
    assert (error.code, error.message, error.data, error.executed) == ("TOO_POOR", "by code", None, "yes")
    error = await stage.failure(player.trigger_server_callback("coroutine"))
    assert (error.code, error.executed) == ("OUT_OF_STOCK", "yes")
    error = await stage.failure(server.trigger_callback("with cb", 7))
    assert (error.code, error.data) == ("OUT_OF_STOCK", {"left": 0})


@pytest.mark.parametrize(
    "error",
    [
        ValueError("the password is 1234"),
        ringback.UnknownPlayer("a code that is not the handler's to give"),
        with_code("a code that is too long", "X" * 65),
        with_code("an empty code", ""),
        with_code("a code that is no str", 5.5),
        CallbackError("data that cannot be encoded", code="MINE", data=object()),
        Careless(),
        RecursionError("deep"),
    ],
    ids=lambda error: f"{type(error).__name__}: {error.args}"[:40],
)
def test_any_other_exception_hides_its_details(
    face: Any, here: HereBroker, sdk_log: LogLines, error: Exception
) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair(workers=1)
        server.register_server_callback("fail", raising(error))
        got = await stage.failure(player.trigger_server_callback("fail"))
        assert got.code is Code.HANDLER_ERROR and got.executed == "yes" and got.data is None
        assert "1234" not in got.message
        await stage.still_works(server, player)
        assert any(levelname == "ERROR" for levelname, _, _ in sdk_log.seen.items)

    scene(face, here)


def test_the_traceback_is_in_the_handlers_log(face: Any, here: HereBroker, sdk_log: LogLines) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("fail", raising(ValueError("secret")))
        await stage.failure(player.trigger_server_callback("fail"))
        record = await sdk_log.wait_for("handler of 'fail' failed")
        assert record.exc_info is not None and record.exc_info[0] is ValueError

    scene(face, here)


@played
async def test_a_handler_that_raises_system_exit_does_not_end_its_worker(stage: Stage) -> None:
    if stage.face.name == "asyncio":
        return  # in asyncio, SystemExit ends the loop, as in any asyncio program
    server, player = await stage.pair(workers=1)

    async def cancelled(source: Any, payload: Any) -> None:
        import asyncio

        raise asyncio.CancelledError

    server.register_server_callback("exit", raising(SystemExit(1)))
    server.register_server_callback("cancelled", cancelled)
    for key in ("exit", "cancelled") * 3:
        error = await stage.failure(player.trigger_server_callback(key))
        assert error.code is Code.HANDLER_ERROR
    await stage.still_works(server, player)


@played
async def test_a_handler_that_fails_after_its_reply_changes_nothing(stage: Stage) -> None:
    server, player = await stage.pair()

    def handler(source: Any, payload: Any, cb: Any) -> None:
        cb("replied")
        raise ValueError("afterwards")

    server.register_server_callback("k", handler)
    assert await stage.result(player.trigger_server_callback("k")) == "replied"
    await stage.still_works(server, player)


@pytest.mark.parametrize(
    "result", [object(), {1, 2}, 2**64, "\ud800", b"x" * (1 << 20)], ids=lambda r: str(r)[:12]
)
def test_a_result_that_cannot_be_encoded(face: Any, here: HereBroker, result: Any) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("cb", lambda source, payload, cb: cb(result))
        server.register_server_callback("return", lambda source, payload: result)
        for key in ("cb", "return"):
            error = await stage.failure(player.trigger_server_callback(key))
            assert error.code is Code.HANDLER_ERROR and error.executed == "yes"
        await stage.still_works(server, player)

    scene(face, here)


# -- callbacks of calls


def test_a_failure_without_on_error_is_logged(face: Any, here: HereBroker, sdk_log: LogLines) -> None:
    @played
    async def scene(stage: Stage) -> None:
        _, player = await stage.pair()
        seen = Seen()
        player.trigger_server_callback("unknown", None, seen)
        record = await sdk_log.wait_for("'unknown' failed, and it has no on_error.*UNKNOWN_CALLBACK")
        assert record.levelname == "WARNING"
        player.trigger_server_callback("unknown", None, seen, on_error=seen)
        player.trigger_server_callback("unknown", on_error=seen)
        items = await seen.count(2)
        assert [error.code for error in items] == [Code.UNKNOWN_CALLBACK] * 2
        assert len([text for _, text, _ in sdk_log.seen.items if "failed" in text]) == 1

    scene(face, here)


def test_a_failed_call_that_nobody_looked_at_is_logged(
    face: Any, here: HereBroker, sdk_log: LogLines
) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        player.trigger_server_callback("unknown")
        looked_at = server.trigger_all_client_callbacks("unknown too")
        await stage.face.all(looked_at)
        del looked_at
        record = await sdk_log.wait_for("'unknown' failed, and nobody looked at its error")
        assert record.levelname == "WARNING"
        await stage.failure(player.trigger_server_callback("seen"))
        await stage.still_works(server, player)
        assert not any("'seen'" in text or "unknown too" in text for _, text, _ in sdk_log.seen.items)

    scene(face, here)


def test_a_callback_that_fails_does_no_harm(face: Any, here: HereBroker, sdk_log: LogLines) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair(workers=1)
        server.register_server_callback("k", lambda source, payload: 1)

        def broken(*_: Any) -> None:
            raise ValueError("in a callback")

        player.trigger_server_callback("k", None, broken)
        player.trigger_server_callback("unknown", None, print, on_error=broken)
        await sdk_log.wait_for("callback of a call of 'k' failed")
        await sdk_log.wait_for("callback of a call of 'unknown' failed")
        await stage.still_works(server, player)

    scene(face, here)


@played
async def test_a_callback_may_trigger_and_wait(stage: Stage) -> None:
    """A callback may wait for a call, even if there is only one worker."""
    server, player = await stage.pair(workers=1)
    server.register_server_callback("k", lambda source, payload: payload)
    seen = Seen()
    if stage.face.name == "blocking":

        def callback(value: Any) -> None:
            seen(player.trigger_server_callback("k", value + 1).result())

        player.trigger_server_callback("k", 1, callback)
    else:

        async def later(value: Any) -> None:
            seen(await player.trigger_server_callback("k", value + 1))

        player.trigger_server_callback("k", 1, later)
    assert await seen.count(1) == [2]


# -- unknown keys, unknown players, no server


@played
async def test_a_call_that_nobody_can_handle_fails_at_once(stage: Stage) -> None:
    """An unknown key, an unknown player, no server: the best of several tries takes less than 50 ms."""
    import time

    player = await stage.player(7)

    async def fails(trigger: Any, code: Code) -> None:
        best = PATIENCE_S
        for _ in range(10):
            began = time.monotonic()
            error = await stage.failure(trigger())
            best = min(best, time.monotonic() - began)
            assert error.code is code and error.executed == "no"
        assert best < 0.05

    await fails(lambda: player.trigger_server_callback("k", timeout=PATIENCE_S), Code.NO_SERVER)
    operator = await stage.operator()
    await fails(lambda: operator.trigger_callback("k", 1, timeout=PATIENCE_S), Code.NO_SERVER)
    server = await stage.server()
    await fails(lambda: player.trigger_server_callback("k", timeout=PATIENCE_S), Code.UNKNOWN_CALLBACK)
    await fails(lambda: server.trigger_client_callback("k", 7, timeout=PATIENCE_S), Code.UNKNOWN_CALLBACK)
    await fails(lambda: server.trigger_callback("k", 7, timeout=PATIENCE_S), Code.UNKNOWN_CALLBACK)
    await fails(lambda: operator.trigger_callback("k", 7, timeout=PATIENCE_S), Code.UNKNOWN_CALLBACK)
    await fails(lambda: server.trigger_client_callback("k", 8, timeout=PATIENCE_S), Code.UNKNOWN_PLAYER)
    await fails(lambda: server.trigger_client_callback("k", "7", timeout=PATIENCE_S), Code.UNKNOWN_PLAYER)
    await fails(lambda: operator.trigger_client_callback("k", 8, timeout=PATIENCE_S), Code.UNKNOWN_PLAYER)
    await stage.still_works(server, player)


@played
async def test_an_unknown_player_and_a_huge_list(stage: Stage) -> None:
    """The bounce returns a list that no receiver accepts. The caller must decode it all the same."""
    server, player = await stage.pair()
    for payload in ([None] * 200_000, dict.fromkeys(range(20000))):
        call = server.trigger_client_callback("k", 8, payload, timeout=PATIENCE_S)
        assert (await stage.failure(call)).code is Code.UNKNOWN_PLAYER
    call = server.trigger_client_callback("k", 8, {(1, 2): 3}, timeout=PATIENCE_S)
    assert (await stage.failure(call)).code is Code.INVALID_PAYLOAD
    await stage.still_works(server, player)


# -- queries of operators


@played
async def test_the_queries_of_an_operator(stage: Stage) -> None:
    server, _ = await stage.pair()
    server.register_server_callback("listed", lambda source, payload: None)
    operator = await stage.operator()
    assert await stage.result(operator.ping()) is None
    rows, following = await stage.result(operator.query("players"))
    assert [row[0] for row in rows] == [7] and following is None
    for bad, error in (
        ({"subject": "nonsense"}, ValueError),
        ({"subject": "players", "after": -1}, ValueError),
    ):
        with pytest.raises(error):
            operator.query(**bad)
    with pytest.raises(TypeError):
        operator.query("players", after="1")
    for wrong in (7, "players", [("a", 1)]):
        with pytest.raises(TypeError):
            operator.query_realm("players", after=wrong)
    with pytest.raises(TypeError):
        operator.query("players", node=7)
    with pytest.raises(ValueError):
        operator.query_realm("players", after={"a": -1})
    with pytest.raises(ValueError):
        operator.query_realm("players", after={"a.b": 1})
    # A broker alone is the one node of its realm.
    assert operator.node is None
    found, after, missing = await stage.result(operator.query_realm("players"))
    assert [row[:2] for row in found] == [[None, 7]] and after is None and not missing
    assert (await stage.result(operator.query("players", player_id=8)))[0] == []
    found, _, _ = await stage.result(operator.query_realm("players", player_id=7))
    assert [row[:2] for row in found] == [[None, 7]]
    for call in (operator.query, operator.query_realm):
        with pytest.raises(ValueError, match="only a query of players"):
            call("events", player_id=7)
        with pytest.raises(ValueError):
            call("players", player_id=0)
    found, _ = await stage.result(operator.query("nodes"))
    assert [(row[0], row[6], row[7]) for row in found] == [(None, 1, 1)]
    error = await stage.failure(operator.kick(7, node="b"))
    assert error.code is Code.UNKNOWN_NODE and error.executed == "no"
    assert await stage.result(operator.ping()) is None


@played
async def test_cancelling_a_query_does_not_end_the_session(stage: Stage) -> None:
    operator = await stage.operator()
    disconnected = Seen()
    operator.on_disconnected(disconnected)
    for _ in range(10):
        for call in (operator.ping(), operator.query("players")):
            call.cancel()  # the broker's answer may arrive before the I/O thread cancels
            error = await stage.within(stage.face.error(call))
            assert error is None or error.code is Code.CANCELLED
    for _ in range(3):
        await stage.result(operator.ping())
    assert disconnected.items == []
