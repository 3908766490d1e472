"""Mistakes of a program: each raises a clear error, and the endpoint works afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
import socket
from typing import Any

import pytest
from support.faces import FACES, Face, HereBroker, Seen, Stage, played

import ringback
from ringback import Limits, Retry


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


PAYLOADS: list[tuple[Any, type[ringback.CallbackError], str]] = [
    ({1, 2}, ringback.InvalidPayload, "set"),
    (object(), ringback.InvalidPayload, "object"),
    (2**64, ringback.InvalidPayload, "cannot be encoded"),
    ("\ud800", ringback.InvalidPayload, "cannot be encoded"),
    (nested(65), ringback.InvalidPayload, "at most 64 levels"),
    (endless(), ringback.InvalidPayload, "cannot be encoded"),
    (bytes(1024 * 1024), ringback.TooLarge, "1048576 are allowed"),
]


@played
async def test_payloads_that_cannot_be_encoded(stage: Stage) -> None:
    server, player = await stage.pair()
    for payload, kind, text in PAYLOADS:
        for call in (
            player.trigger_server_callback("still works", payload),
            server.trigger_client_callback("still works", 7, payload),
            server.trigger_callback("still works", 7, payload),
        ):
            error = await stage.failure(call)
            assert type(error) is kind and error.executed == "no" and text in error.message
    await stage.still_works(server, player)


@played
async def test_payloads_at_the_limits(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("size", lambda source, payload: len(payload))
    server.register_server_callback("echo", lambda source, payload: payload)
    large = bytes(1024 * 1024 - 64)
    assert await stage.result(player.trigger_server_callback("size", large)) == len(large)
    assert await stage.result(player.trigger_server_callback("echo", nested(64))) == nested(64)


@played
async def test_the_limits_of_the_receiver(stage: Stage) -> None:
    """The receiver has lower limits than the sender. The error says so, and no handler runs."""
    limits = Limits(max_depth=3, max_array_len=10, max_map_len=8, max_call_bytes=500)
    server = await stage.server(limits=limits)
    player = await stage.player(7)
    ran = Seen()
    server.register_server_callback("note", lambda source, payload: ran(payload))
    for payload in (nested(4), list(range(11)), dict.fromkeys("abcdefghi"), "x" * 500):
        error = await stage.failure(player.trigger_server_callback("note", payload))
        assert type(error) is ringback.InvalidPayload and error.executed == "no"
    assert not ran.items
    await stage.still_works(server, player)


@pytest.mark.parametrize(
    ("player_id", "kind"),
    [
        (0, ValueError),
        (-1, ValueError),
        (2**63, ValueError),
        ("", ValueError),
        ("x" * 65, ValueError),
        ("é" * 33, ValueError),
        (True, TypeError),
        (1.0, TypeError),
        (None, TypeError),
        (b"x", TypeError),
        ([], TypeError),
    ],
)
@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_player_ids_that_are_refused(face: Face, here: HereBroker, player_id: Any, kind: type) -> None:
    async def run() -> None:
        async with Stage(face, here) as stage:
            server, player = await stage.pair()
            if player_id is not None:  # a player may pass None: the broker then chooses
                with pytest.raises(kind, match="player ID"):
                    stage.make("Player", here.players, player_id)
            with pytest.raises(kind, match="player ID"):
                server.trigger_client_callback("x", player_id)
            with pytest.raises(kind, match="player ID"):
                server.trigger_callback("x", player_id)
            with pytest.raises(kind, match="player ID"):
                server.trigger_all_client_callbacks("x", players=[player_id])
            await stage.still_works(server, player)

    asyncio.run(run())


@played
async def test_functions_that_are_not_callable(stage: Stage) -> None:
    server, player = await stage.pair()
    with pytest.raises(TypeError, match="callback must be a function"):
        player.trigger_server_callback("x", 1, 5)
    with pytest.raises(TypeError, match="on_error must be a function"):
        server.trigger_client_callback("x", 7, 1, print, on_error="no")
    with pytest.raises(TypeError, match="listener must be a function"):
        server.on_player_joined(None)
    await stage.still_works(server, player)


@pytest.mark.parametrize(
    ("allow", "kind", "why"),
    [
        ("ann", TypeError, "allow must be None, OPERATORS, a set, list or tuple of player IDs"),
        (7, TypeError, "not int"),
        (True, TypeError, "not bool"),
        ({7: True}, TypeError, "not dict"),
        ([7, None], TypeError, "a player ID must be an int or a str, not NoneType"),
        ({0}, ValueError, "a player ID must be from 1 to"),
        (("",), ValueError, "a player ID must have 1 to 64"),
        (lambda: True, TypeError, r"must be a function of \(source\)"),
        (asyncio.sleep, TypeError, "not the coroutine function"),
    ],
)
@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_an_allow_that_is_refused(face: Face, allow: Any, kind: type[Exception], why: str) -> None:
    server = face.module.Server("tcp://127.0.0.1:1")
    handle = server.register_server_callback("x", lambda source, payload: None)
    for handler in (lambda source, payload: None, None):
        with pytest.raises(kind, match=why):
            server.register_server_callback("x", handler, replace=True, allow=allow)
    assert server._endpoint.registry.handlers["x"] is handle.handler
    with pytest.raises(TypeError, match="allow"):
        face.module.Player("tcp://127.0.0.1:1").register_client_callback("x", allow={7})


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        *[(text, ValueError) for text in ("", "5", "0/s", "-1/s", "5/sec", "5 / s", "nan/s", "1e3/s", "x/h")],
        *[(other, TypeError) for other in (5, 5.0, True, b"5/s", (5, "s"))],
    ],
)
@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_a_limit_that_is_refused(face: Face, limit: Any, kind: type[Exception]) -> None:
    server, player = (getattr(face.module, role)("tcp://127.0.0.1:1") for role in ("Server", "Player"))
    for handler in (lambda source, payload: None, None):
        with pytest.raises(kind, match=r"limit must be a .*'5/s'"):
            server.register_server_callback("x", handler, limit=limit)
    for handler in (lambda payload: None, None):
        with pytest.raises(kind, match=r"limit must be a .*'5/s'"):
            player.register_client_callback("x", handler, limit=limit)
    assert server._endpoint.registry.keys() == player._endpoint.registry.keys() == ()


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_a_decorator_without_a_key(face: Face) -> None:
    server, player = (getattr(face.module, role)("tcp://127.0.0.1:1") for role in ("Server", "Player"))
    for register in (server.register_server_callback, player.register_client_callback):
        advice = rf"as a decorator, write {register.__name__}\('shop:items'\)$"
        with pytest.raises(TypeError, match=rf"^a key must be a str, not function; {advice}"):

            @register
            def handler(payload: Any) -> None: ...

        with pytest.raises(TypeError, match=r"^a key must be a str, not int$"):
            register(7)


@played
async def test_before_start_and_after_close(stage: Stage) -> None:
    server, _ = await stage.pair()
    for late in (False, True):
        other = stage.make("Player", stage.broker.players)
        if late:
            await stage.face.start(other)
            await stage.face.close(other)
            await stage.face.close(other)
        with pytest.raises(ringback.UsageError, match="not started, or closed"):
            other.trigger_server_callback("x")
    with pytest.raises(ringback.UsageError, match="already started"):
        await stage.face.start(server)
    again = stage.make("Player", stage.broker.players, 8)
    for _ in range(3):
        await stage.face.start(again)
        await stage.still_works(server, again)
        await stage.face.close(again)


@played
async def test_a_start_that_the_broker_refuses(stage: Stage) -> None:
    server, player = await stage.pair()
    with pytest.raises(ringback.IDTaken, match=r"ID_TAKEN.*7"):
        await stage.face.start(stage.make("Player", stage.broker.players, 7))
    with pytest.raises(ringback.ServerTaken, match="another server"):
        await stage.face.start(stage.make("Server", stage.broker.backend, connect_timeout=0.5))
    with pytest.raises(ringback.Refused, match="players' address; servers and operators connect to"):
        await stage.face.start(stage.make("Operator", stage.broker.players))
    with pytest.raises(ringback.Refused, match="this is the backend's address; players connect to"):
        await stage.face.start(stage.make("Player", stage.broker.backend))
    await stage.still_works(server, player)


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_a_refusal_is_no_fault(face: Face, here: HereBroker, caplog: pytest.LogCaptureFixture) -> None:
    """The end of the connection may be seen together with the REJECT, which has already ended the link."""

    async def refused() -> None:
        async with Stage(face, here) as stage:
            await stage.pair()
            for _ in range(60):
                with pytest.raises(ringback.IDTaken):
                    await face.start(stage.make("Player", here.players, 7))

    asyncio.run(refused())
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_arguments_that_are_refused(face: Face) -> None:
    address = "tcp://127.0.0.1:1"
    for role in ("Server", "Operator"):
        with pytest.raises(TypeError, match="only a player may have a player_id"):
            getattr(face.module, role)(address, player_id=7)
    for heartbeat in (0, 0.05, 61, "1", True, float("nan")):
        with pytest.raises(ValueError, match=r"heartbeat must be 0\.1 to 60 seconds"):
            face.module.Player(address, heartbeat=heartbeat)
    allowed = r"^connect_timeout must be a number of seconds above 0 and below 1e\+09, not "
    for timeout, kind in ((None, TypeError), ("5", TypeError), (True, TypeError), (0, ValueError)):
        with pytest.raises(kind, match=allowed):
            face.module.Player(address, connect_timeout=timeout)
    for timeout in (float("inf"), float("nan"), -1):
        with pytest.raises(ValueError, match=allowed):
            face.module.Player(address, connect_timeout=timeout)
    with pytest.raises(TypeError, match=r"limits must be a .*Limits or None, not dict"):
        face.module.Player(address, limits={"max_depth": 3})


@played
async def test_a_subject_that_is_refused(stage: Stage) -> None:
    operator = await stage.operator()
    subjects = "players, callbacks, counters, events, calls, schemas, failures, latencies or nodes"
    allowed = f"subject must be {subjects}, not "
    with pytest.raises(ValueError, match=f"^{allowed}'player': did you mean 'players'\\?$"):
        operator.query("player")
    with pytest.raises(ValueError, match=f"^{allowed}''$"):
        operator.query("")
    with pytest.raises(TypeError, match=r"^subject must be a str, not int$"):
        operator.query(7)
    rows, _ = await stage.result(operator.query("players"))
    assert rows == []


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_no_broker(face: Face) -> None:
    """No program listens on the address, or one that never responds."""

    async def run(address: str) -> None:
        endpoint = face.module.Player(address, connect_timeout=0.5)
        with pytest.raises(
            ringback.BrokerUnreachable, match=r"no broker answered at tcp://.*ringback broker"
        ):
            await face.start(endpoint)
        with pytest.raises(ringback.UsageError):
            endpoint.trigger_server_callback("x")

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        asyncio.run(run(f"tcp://127.0.0.1:{port}"))
    asyncio.run(run(f"tcp://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:1", "tcp://127.0.0.1", "tcp://h:0", "tcp://h:65536", "udp://h:1"]
)
@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_addresses_that_are_refused(face: Face, address: str) -> None:
    with pytest.raises(ValueError, match=r"address|port"):
        face.module.Server(address)
    with pytest.raises(TypeError, match="an address must be a str"):
        face.module.Server(None)


@played
async def test_too_many_calls_in_flight(stage: Stage) -> None:
    server = await stage.server(limits=Limits(max_in_flight=3, max_pending=5))
    player = await stage.player(7)
    taken = Seen()
    server.register_server_callback("hold", lambda source, payload, cb: taken(cb))
    calls = [player.trigger_server_callback("hold") for _ in range(4)]
    error = await stage.failure(calls[3])
    assert type(error) is ringback.Overloaded and error.executed == "no"
    for cb in list(await taken.count(3)):
        cb("at last")
    assert [await stage.result(call) for call in calls[:3]] == ["at last"] * 3
    player.register_client_callback("hold", lambda payload, cb: taken(cb))
    other = await stage.player(8)
    other.register_client_callback("hold", lambda payload, cb: taken(cb))
    calls = [server.trigger_client_callback("hold", 7) for _ in range(4)]
    calls += [server.trigger_client_callback("hold", 8) for _ in range(3)]
    for number, reason in ((3, "3 calls to this peer"), (6, "5 calls wait")):
        error = await stage.failure(calls.pop(number if number == 3 else -1))
        assert type(error) is ringback.Overloaded and reason in error.message
    for cb in list(await taken.count(8))[3:]:
        cb()
    for call in calls:
        await stage.result(call)
    await stage.still_works(server, player)


@played
async def test_a_rate_limit(stage: Stage) -> None:
    server = await stage.server(limits=Limits(max_calls_per_s=2))
    player, other = await stage.player(7), await stage.player(8)
    server.register_server_callback("fast", lambda source, payload: payload)
    for number in range(2):
        assert await stage.result(player.trigger_server_callback("fast", number)) == number
    errors = [await stage.failure(player.trigger_server_callback("fast")) for _ in range(2)]
    error = errors[0]
    assert type(error) is ringback.RateLimited and error.executed == "no"
    assert 0 < error.data["retry_after"] <= 0.5
    assert await stage.result(other.trigger_server_callback("fast", 1)) == 1


MISSPELT: list[tuple[str, str, tuple[Any, ...], str, str]] = [
    ("Server", "register_server_callback", ("k", print), "alow", "allow"),
    ("Server", "register_server_callback", ("k",), "limits", "limit"),
    ("Player", "register_client_callback", ("k", print), "in_tread", "in_thread"),
    ("Player", "trigger_server_callback", ("k",), "timout", "timeout"),
    ("Server", "trigger_client_callback", ("k", 7), "on_eror", "on_error"),
    ("Operator", "trigger_client_callback", ("k", 7), "timout", "timeout"),
    ("Server", "trigger_callback", ("k", 7), "paylod", "payload"),
    ("Server", "trigger_all_client_callbacks", ("k",), "player", "players"),
    ("Operator", "kick", (7,), "reasn", "reason"),
    ("Operator", "drain", (), "graze", "grace"),
    ("Operator", "watch", (), "fors", "for_s"),
    ("Operator", "query", ("players",), "afterr", "after"),
    ("Operator", "query_realm", ("players",), "afterr", "after"),
    ("Operator", "ping", (), "timout", "timeout"),
    ("Player", "ready_to_call", (), "timout", "timeout"),
    ("Server", "hand_over", (), "timout", "timeout"),
]


@pytest.mark.parametrize(("role", "name", "arguments", "wrong", "right"), MISSPELT)
@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_a_misspelt_argument_is_named(
    face: Face, role: str, name: str, arguments: tuple[Any, ...], wrong: str, right: str
) -> None:
    endpoint = getattr(face.module, role)("tcp://127.0.0.1:1")
    with pytest.raises(TypeError) as raised:
        outcome = getattr(endpoint, name)(*arguments, **{wrong: 1})
        asyncio.run(outcome)  # of a coroutine function
    text = f"{name}() got an unexpected keyword argument '{wrong}': did you mean '{right}'?"
    assert str(raised.value) == text


@pytest.mark.parametrize("name", ["start", "close", "run_forever", "ready_to_call", "hand_over"])
def test_coroutine_functions_are_seen_as_such(name: str) -> None:
    """Programs and frameworks ask this to know whether to await."""
    assert inspect.iscoroutinefunction(getattr(ringback.aio.Server, name))
    assert not inspect.iscoroutinefunction(getattr(ringback.Server, name))


@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [
        (Limits, "max_dpth", "max_depth"),
        (Retry, "attempt", "attempts"),
        (ringback.CallbackError, "cod", "code"),
    ],
)
def test_a_misspelt_argument_of_another_class_is_named(kind: Any, wrong: str, right: str) -> None:
    text = rf"{kind.__name__}\(\) got an unexpected keyword argument '{wrong}': did you mean '{right}'\?"
    with pytest.raises(TypeError, match=text):
        kind(**{wrong: 1})
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'zzz': there are .*" + right):
        kind(zzz=1)


def test_signatures_stay_as_they_are() -> None:
    """Editors and `help` show them, also of a function that checks its names."""
    assert list(inspect.signature(Limits).parameters) == [field.name for field in dataclasses.fields(Limits)]
    assert list(inspect.signature(ringback.Operator.drain).parameters) == ["self", "grace", "node", "timeout"]
    assert dataclasses.replace(Limits(), max_depth=3) == Limits(max_depth=3)


@pytest.mark.parametrize("players", [7, "ab", "", b"ab", 7.5, True, object()])
@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_players_that_are_no_iterable_of_ids(face: Face, here: HereBroker, players: Any) -> None:
    async def run() -> None:
        async with Stage(face, here) as stage:
            server, player = await stage.pair()
            with pytest.raises(
                TypeError, match="players must be None or an iterable of player IDs"
            ) as raised:
                server.trigger_all_client_callbacks("x", players=players)
            assert f"not {type(players).__name__}; for one player, use trigger_client_" in str(raised.value)
            player.register_client_callback("x", lambda payload: payload)
            for fits in ([7], {7}, (7,), iter([7]), {7: "seven"}, (one for one in [7])):
                group = server.trigger_all_client_callbacks("x", 1, players=fits)
                assert list(await stage.within(stage.face.all(group))) == [7]
            await stage.still_works(server, player)

    asyncio.run(run())
