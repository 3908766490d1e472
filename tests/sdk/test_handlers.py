"""Registering callbacks: forms of handlers, decorators, registrations, and what is refused."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import pytest
from support.corefakes import Desk
from support.faces import Asyncio, Blocking, HereBroker, LogLines, Seen, Stage, played

from ringback import Code, Execution, Limits, UsageError
from ringback._runtime.running_handlers import run_plain
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.frames import FrameType, Role, header


def give(*results: Any) -> Any:
    return results if len(results) > 1 else results[0]


class Methods:
    """Handlers that are methods."""

    def plain(self, source: Any, payload: Any) -> Any:
        return ["plain", source, payload]

    def with_cb(self, source: Any, payload: Any, cb: Any) -> None:
        cb("with_cb", source, payload)

    async def coroutine(self, source: Any, payload: Any) -> Any:
        await asyncio.sleep(0)
        return ["coroutine", source, payload]

    async def coroutine_with_cb(self, source: Any, payload: Any, cb: Any) -> None:
        await asyncio.sleep(0)
        cb("coroutine_with_cb", source, payload)

    @staticmethod
    def static(source: Any, payload: Any) -> Any:
        return ["static", source, payload]

    def __call__(self, source: Any, payload: Any) -> Any:
        return ["object", source, payload]


class AsyncObject:
    async def __call__(self, source: Any, payload: Any) -> Any:
        await asyncio.sleep(0)
        return ["async object", source, payload]


def three(first: str, source: Any, payload: Any) -> Any:
    return [first, source, payload]


methods = Methods()
FORMS = {
    "plain": methods.plain,
    "with_cb": methods.with_cb,
    "coroutine": methods.coroutine,
    "coroutine_with_cb": methods.coroutine_with_cb,
    "static": Methods.static,
    "object": methods,
    "async object": AsyncObject(),
    "partial": functools.partial(three, "partial"),
    "a lambda that gives a coroutine": lambda source, payload: methods.coroutine(source, payload),
    "unnamed": lambda a, b, /: ["unnamed", a, b],
    "more by name": lambda source, payload, *, more=1: ["more by name", source, payload],
}


@played
async def test_every_form_of_a_server_callback(stage: Stage) -> None:
    server, player = await stage.pair()
    for name, handler in FORMS.items():
        server.register_server_callback(name, handler)
    for name in FORMS:
        results = await stage.results(player.trigger_server_callback(name, "p"))
        flat = list(results) if "cb" in name else results[0]
        assert flat[1:] == [7, "p"]
        assert flat[0] == name or "lambda" in name


@played
async def test_every_form_of_a_client_callback(stage: Stage) -> None:
    server, player = await stage.pair()

    async def coroutine(payload: Any) -> Any:
        return ["coroutine", payload]

    async def coroutine_with_cb(payload: Any, cb: Any) -> None:
        cb("coroutine with cb", payload)

    player.register_client_callback("plain", lambda payload: ["plain", payload])
    player.register_client_callback("cb", lambda payload, cb: cb("cb", payload))
    player.register_client_callback("coroutine", coroutine)
    player.register_client_callback("coroutine with cb", coroutine_with_cb)
    player.register_client_callback("builtin", len)
    for key, results in (
        ("plain", (["plain", "p"],)),
        ("cb", ("cb", "p")),
        ("coroutine", (["coroutine", "p"],)),
        ("coroutine with cb", ("coroutine with cb", "p")),
        ("builtin", (1,)),
    ):
        assert await stage.results(server.trigger_client_callback(key, 7, "p")) == results


def with_database(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(source: Any, payload: Any) -> Any:
        return function(source, payload, "database")

    return wrapper


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@played
async def test_a_decorated_handler_gets_what_its_wrapper_takes(stage: Stage) -> None:
    server, player = await stage.pair()

    @server.register_server_callback("wrapped")
    @with_database
    def wrapped(source: Any, payload: Any, database: str) -> Any:
        return [source, payload, database]

    @server.register_server_callback("logged")
    @logged
    def replies(source: Any, payload: Any, cb: Any) -> None:
        cb(source, payload)

    @server.register_server_callback("hidden coroutine")
    @logged
    async def coroutine(source: Any, payload: Any) -> Any:
        return [source, payload]

    assert await stage.results(player.trigger_server_callback("wrapped", 5)) == ([7, 5, "database"],)
    assert await stage.results(player.trigger_server_callback("logged", 5)) == (7, 5)
    assert await stage.results(player.trigger_server_callback("hidden coroutine", 5)) == ([7, 5],)


def no_argument() -> None: ...


def a_generator(argument: Any) -> Any:
    yield argument


@pytest.mark.parametrize("function", [no_argument, a_generator, 5])
def test_other_functions_are_judged_as_handlers_are(face: Any, here: HereBroker, function: Any) -> None:
    server = face.module.Server(here.backend)
    for listen in (
        server.on_connected,
        server.on_disconnected,
        server.on_player_joined,
        server.on_player_left,
    ):
        with pytest.raises(TypeError, match="listener"):
            listen(function)
    with pytest.raises(TypeError, match="allow"):
        server.register_server_callback("k", lambda source, payload: None, allow=function)
    if function is not no_argument:
        with pytest.raises(TypeError, match="token"):
            face.module.Player(here.players, token=function, broker_key="0" * 40)


@played
async def test_a_handler_with_cb_does_not_reply_by_returning(stage: Stage) -> None:
    server, player = await stage.pair()

    def handler(source: Any, payload: Any, cb: Any) -> str:
        cb("by cb")
        return "by return"

    async def coroutine(source: Any, payload: Any, cb: Any) -> str:
        cb("by cb")
        return "by return"

    server.register_server_callback("plain", handler)
    server.register_server_callback("coroutine", coroutine)
    for key in ("plain", "coroutine"):
        assert await stage.result(player.trigger_server_callback(key)) == "by cb"
    assert server.counters.duplicate_replies == 0


@played
async def test_a_returned_tuple_is_one_result(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("tuple", lambda source, payload: (1, 2))
    assert await stage.results(player.trigger_server_callback("tuple")) == ([1, 2],)


@played
async def test_a_blocking_handler_in_a_thread(stage: Stage) -> None:
    """The handler waits for an event that a later call sets. The endpoint goes on meanwhile."""
    server, player = await stage.pair()
    opened = threading.Event()
    threads = []

    def waits(source: Any, payload: Any) -> bool:
        threads.append(threading.get_ident())
        return opened.wait(20)

    server.register_server_callback("wait", waits, in_thread=True)
    server.register_server_callback("open", lambda source, payload: opened.set())
    waiting = player.trigger_server_callback("wait")
    await stage.result(player.trigger_server_callback("open"))
    assert await stage.result(waiting) is True
    assert threads[0] != threading.get_ident()


@played
async def test_all_workers_work_at_the_same_time(stage: Stage) -> None:
    """Four handlers wait for each other, but not by calls: each needs a thread of its own."""
    if stage.face.name == "asyncio":
        return
    server, player = await stage.pair(workers=4)
    meeting = threading.Barrier(4)
    server.register_server_callback("meet", lambda source, payload: meeting.wait(20) >= 0)
    for _ in range(30):
        calls = [player.trigger_server_callback("meet") for _ in range(4)]
        assert await stage.within(stage.face.result_of_each(calls)) == [True] * 4


@played
async def test_registering_as_a_decorator_and_unregistering(stage: Stage) -> None:
    server, player = await stage.pair()

    @server.register_server_callback("decorated")
    def decorated(source: Any, payload: Any) -> str:
        return "decorated"

    assert decorated(1, 2) == "decorated"
    handle = server.register_server_callback("handled", lambda source, payload: "handled")
    assert await stage.result(player.trigger_server_callback("decorated")) == "decorated"
    assert await stage.result(player.trigger_server_callback("handled")) == "handled"
    assert handle.key == "handled"
    handle.unregister()
    handle.unregister()
    assert (await stage.failure(player.trigger_server_callback("handled"))).code is Code.UNKNOWN_CALLBACK
    server.register_server_callback("handled", lambda source, payload: "again")
    assert await stage.result(player.trigger_server_callback("handled")) == "again"
    handle.unregister()  # an old registration does not remove a new one
    assert await stage.result(player.trigger_server_callback("handled")) == "again"

    @player.register_client_callback("decorated")
    async def client(payload: Any) -> str:
        return "client"

    assert await stage.result(server.trigger_client_callback("decorated", 7)) == "client"


@played
async def test_a_key_is_registered_once_unless_it_is_replaced(stage: Stage) -> None:
    server, player = await stage.pair()
    old = server.register_server_callback("k", lambda source, payload: "old")
    with pytest.raises(ValueError, match="'k' is registered already"):
        server.register_server_callback("k", lambda source, payload: "new")
    with pytest.raises(ValueError, match="replace=True"):
        server.register_server_callback("k")(lambda source, payload: "new")
    assert await stage.result(player.trigger_server_callback("k")) == "old"
    server.register_server_callback("k", lambda source, payload: "new", replace=True)
    old.unregister()
    assert await stage.result(player.trigger_server_callback("k")) == "new"


def ambiguous(source: Any, payload: Any, cb: Any = None) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        5,
        "text",
        lambda: None,
        lambda payload: None,
        lambda a, b, c, d: None,
        lambda *arguments: None,
        lambda source, payload, *, needed: None,
        ambiguous,
        print,
        type,
    ],
)
def test_a_handler_of_a_wrong_or_ambiguous_signature(face: Any, here: HereBroker, handler: Any) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        with pytest.raises(TypeError, match="handler"):
            server.register_server_callback("k", handler)
        assert (await stage.failure(player.trigger_server_callback("k"))).code is Code.UNKNOWN_CALLBACK
        await stage.still_works(server, player)

    scene(face, here)


@played
async def test_a_coroutine_function_cannot_run_in_a_thread(stage: Stage) -> None:
    server = stage.make("Server", "tcp://127.0.0.1:1")

    async def coroutine(source: Any, payload: Any) -> None: ...

    with pytest.raises(TypeError, match="in_thread"):
        server.register_server_callback("k", coroutine, in_thread=True)


BAD_KEYS: list[Any] = [None, 5, b"k", ["k"], "", "k" * 257, "é" * 129, "\ud800"]


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key)[:12])
def test_keys_that_are_refused_everywhere(face: Any, here: HereBroker, key: Any) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        wrong = TypeError if type(key) is not str else ValueError
        for function in (
            lambda: server.register_server_callback(key, lambda source, payload: None),
            lambda: server.register_server_callback(key),
            lambda: player.register_client_callback(key, lambda payload: None),
            lambda: player.trigger_server_callback(key),
            lambda: server.trigger_client_callback(key, 7),
            lambda: server.trigger_callback(key, 7),
            lambda: server.trigger_all_client_callbacks(key),
        ):
            with pytest.raises(wrong, match="key"):
                function()
        await stage.still_works(server, player)

    scene(face, here)


@played
async def test_the_longest_key_and_ids(stage: Stage) -> None:
    server = await stage.server()
    for player_id in (1, 2**63 - 1, "p", "é" * 32, "7"):
        player = await stage.player(player_id)
        server.register_server_callback("é" * 128, lambda source, payload: source, replace=True)
        assert await stage.result(player.trigger_server_callback("é" * 128)) == player_id


@played
async def test_registering_from_anywhere_at_any_time(stage: Stage) -> None:
    """Other threads may register, while calls go on. The broker learns of each key."""
    server, player = await stage.pair()
    operator = await stage.operator()

    def register(name: str) -> None:
        for number in range(20):
            server.register_server_callback(f"{name} {number}", lambda source, payload: None)

    threads = [threading.Thread(target=register, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    await stage.still_works(server, player)
    for thread in threads:
        thread.join()
    for _ in range(1000):
        rows, _ = await stage.result(operator.query("callbacks"))
        if len([row for row in rows if row[1] == "server"]) == 61:
            return
    raise AssertionError("the broker was not told of all keys")


def test_a_call_that_is_abandoned_as_its_handler_starts_keeps_its_payload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The I/O thread may abandon a call at any moment. The handler gets the payload, or does not run."""
    desk = Desk(Role.PLAYER)
    desk.connect()
    given: list[Any] = []
    desk.core.registry.add("seen", lambda payload: given.append(payload), replace=False)
    desk.gets(header(FrameType.DATA) + join([Encoder(Limits()).call(5, "seen", "sent", None)]))
    [execution] = desk.shell.waiting
    begin = Execution.begin

    def given_up_meanwhile(self: Execution, now: float) -> bool:
        may_run = begin(self, now)
        desk.gets(header(FrameType.DATA) + join([Encoder(Limits()).cancel(5)]))
        return may_run

    monkeypatch.setattr(Execution, "begin", given_up_meanwhile)
    run_plain(execution)
    assert given == ["sent"]
    run_plain(execution)
    assert given == ["sent"]


def test_a_return_value_beside_cb_is_logged(
    face: Blocking | Asyncio, here: HereBroker, sdk_log: LogLines
) -> None:
    """Without the log line, the caller would run into its timeout and nobody would know why."""

    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("wrong", lambda source, payload, cb: payload)
        server.register_server_callback("right", lambda source, payload, cb: cb(payload))
        assert await stage.result(player.trigger_server_callback("right", 1)) == 1
        call = player.trigger_server_callback("wrong", 1, timeout=0.1)
        assert (await stage.failure(call)).code is Code.TIMEOUT
        await sdk_log.wait_for("handler of 'wrong' takes cb: its return value is ignored")
        assert not any("'right'" in text for _, text, _ in sdk_log.seen.items)

    scene(face, here)


# -- asyncio only


def test_an_async_callback_and_listener(
    face: Blocking | Asyncio, here: HereBroker, sdk_log: LogLines
) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("k", lambda source, payload: payload)
        seen = Seen()

        async def callback(value: Any) -> None:
            await asyncio.sleep(0)
            seen(value)

        async def broken(value: Any) -> None:
            raise ValueError

        player.trigger_server_callback("k", 5, callback)
        player.trigger_server_callback("k", 5, broken)
        player.trigger_server_callback("unknown", 5, callback, on_error=callback)
        await seen.count(2)
        await sdk_log.wait_for("player 7: the callback of a call of 'k' failed")
        server.on_player_joined(callback)
        server.on_player_joined(broken)
        await stage.player(8)
        assert 8 in await seen.count(3)
        await stage.still_works(server, player)

    scene(face, here)


def test_an_asyncio_endpoint_belongs_to_the_thread_of_its_loop(here: HereBroker) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("silent", lambda source, payload, cb: None)
        call = player.trigger_server_callback("silent")
        for function in (
            lambda: player.trigger_server_callback("k"),
            lambda: server.trigger_client_callback("k", 7),
            lambda: server.trigger_all_client_callbacks("k"),
            call.cancel,
        ):
            with pytest.raises(UsageError, match="thread"):
                await asyncio.to_thread(function)
        call.cancel()
        assert (await stage.failure(call)).code is Code.CANCELLED
        await stage.still_works(server, player)

    scene(Asyncio(), here)
