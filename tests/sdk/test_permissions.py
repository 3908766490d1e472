"""Who may call a callback, and how often: through a broker, in both faces."""

from __future__ import annotations

import asyncio
from typing import Any

from support.faces import LogLines, Seen, Stage, played

import ringback
import ringback.aio
from ringback import OPERATORS


def test_both_faces_have_the_constant() -> None:
    assert ringback.aio.OPERATORS is ringback.OPERATORS


async def forbidden(stage: Stage, call: Any) -> None:
    error = await stage.failure(call)
    assert type(error) is ringback.Forbidden and error.executed == "no", error


async def limited(stage: Stage, call: Any) -> float:
    """Wait for a call that must end with RATE_LIMITED. Return its `retry_after`."""
    error = await stage.failure(call)
    assert type(error) is ringback.RateLimited and error.executed == "no", error
    retry_after = error.data["retry_after"]
    assert error.data == {"retry_after": retry_after} and type(retry_after) is float and retry_after > 0
    return retry_after


@played
async def test_player_ids(stage: Stage) -> None:
    server, player = await stage.pair()
    other, operator = await stage.player("7"), await stage.operator()
    ran = Seen()
    server.register_server_callback("k", lambda source, payload: ran(source), allow={7})
    await stage.result(player.trigger_server_callback("k"))
    await forbidden(stage, other.trigger_server_callback("k"))
    await stage.result(operator.trigger_callback("k", 7))
    await forbidden(stage, operator.trigger_callback("k", 8))
    await stage.result(server.trigger_callback("k", 9))
    assert ran.items == [7, 7, 9]
    await stage.still_works(server, other)


@played
async def test_a_function(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    admins: set[Any] = set()
    asked = Seen()

    def is_admin(source: Any) -> bool:
        asked(source)
        return source in admins

    @server.register_server_callback("k", allow=is_admin)
    def handler(source: Any, payload: Any) -> Any:
        return source

    await forbidden(stage, player.trigger_server_callback("k"))
    admins.add(7)
    assert await stage.result(player.trigger_server_callback("k")) == 7
    await forbidden(stage, operator.trigger_callback("k", "nobody"))
    assert await stage.result(server.trigger_callback("k", "nobody")) == "nobody"
    assert asked.items == [7, 7, "nobody"]


@played
async def test_operators_only(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    server.register_server_callback("k", lambda source, payload: source, allow=OPERATORS)
    await forbidden(stage, player.trigger_server_callback("k"))
    assert await stage.result(operator.trigger_callback("k", 7)) == 7
    assert await stage.result(server.trigger_callback("k", 7)) == 7
    await forbidden(stage, player.trigger_server_callback("k"))


@played
async def test_nobody(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("k", lambda source, payload: source, allow=[])
    await forbidden(stage, player.trigger_server_callback("k"))
    assert await stage.result(server.trigger_callback("k", 7)) == 7


def test_a_function_that_fails(face: Any, here: Any, sdk_log: LogLines) -> None:
    """The call is forbidden, the exception is logged, and the endpoint goes on."""

    async def run() -> None:
        async with Stage(face, here) as stage:
            server, player = await stage.pair()
            cancelled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            players = {7: 1}
            waits = Seen()

            def asks_the_player(source: Any) -> bool:
                call = server.trigger_client_callback("is admin", source, callback=waits, on_error=waits)
                return bool(call.result())

            for number, allow in enumerate(
                [
                    lambda source: {}[source],
                    lambda source: cancelled.result(),
                    lambda source: players.get(source),
                    asks_the_player,
                ]
            ):
                key = f"k{number}"
                server.register_server_callback(key, lambda source, payload: "ran", allow=allow)
                await forbidden(stage, player.trigger_server_callback(key))
                record = await sdk_log.wait_for(f"the allow of '{key}' failed")
                assert record.levelname == "ERROR" and record.exc_info is not None
            assert isinstance(record.exc_info[1], ringback.UsageError | asyncio.InvalidStateError)
            await waits.count(1)
            await stage.still_works(server, player)

    asyncio.run(run())


@played
async def test_a_limit_on_a_server(stage: Stage) -> None:
    server, player = await stage.pair()
    other, operator = await stage.player(8), await stage.operator()
    server.register_server_callback("k", lambda source, payload: payload, limit="2/h")
    server.register_server_callback("free", lambda source, payload: payload)
    for number in range(2):
        assert await stage.result(player.trigger_server_callback("k", number)) == number
    assert 1000.0 < await limited(stage, player.trigger_server_callback("k")) <= 1800.0
    assert await stage.result(player.trigger_server_callback("free", "free")) == "free"
    assert await stage.result(other.trigger_server_callback("k", "other")) == "other"
    for number in range(2):
        assert await stage.result(operator.trigger_callback("k", 7, number)) == number
    await limited(stage, operator.trigger_callback("k", 7))
    assert await stage.result(operator.trigger_callback("k", 8, "another source")) == "another source"
    for number in range(4):
        assert await stage.result(server.trigger_callback("k", 7, number)) == number


@played
async def test_a_limit_on_a_player(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()

    @player.register_client_callback("k", limit="1/min")
    def handler(payload: Any) -> Any:
        return payload

    for caller in (server, operator):
        assert await stage.result(caller.trigger_client_callback("k", 7, "first")) == "first"
        assert 30.0 < await limited(stage, caller.trigger_client_callback("k", 7)) <= 60.0


@played
async def test_retry_after_is_enough(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("k", lambda source, payload: payload, limit="2/s")
    calls = [player.trigger_server_callback("k", number) for number in range(3)]
    assert [await stage.result(call) for call in calls[:2]] == [0, 1]
    retry_after = await limited(stage, calls[2])
    assert retry_after < 0.501
    await asyncio.sleep(retry_after)  # the test is about the time itself
    assert await stage.result(player.trigger_server_callback("k", "again")) == "again"


@played
async def test_a_new_registration_counts_anew(stage: Stage) -> None:
    server, player = await stage.pair()

    def register(**terms: Any) -> Any:
        return server.register_server_callback("k", lambda source, payload: payload, replace=True, **terms)

    register(limit="1/h", allow=[7])
    for _ in range(2):
        assert await stage.result(player.trigger_server_callback("k", 1)) == 1
        await limited(stage, player.trigger_server_callback("k"))
        handle = register(limit="1/h")
    register(allow=[8])
    await forbidden(stage, player.trigger_server_callback("k"))
    handle.unregister()  # does nothing: this registration was replaced
    await forbidden(stage, player.trigger_server_callback("k"))
    register().unregister()
    error = await stage.failure(player.trigger_server_callback("k"))
    assert type(error) is ringback.UnknownCallback


@played
async def test_a_player_that_comes_back_counts_anew(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("k", lambda source, payload: payload, limit="1/h")
    for _ in range(2):
        assert await stage.result(player.trigger_server_callback("k", 1)) == 1
        await limited(stage, player.trigger_server_callback("k"))
        await stage.face.close(player)
        player = await stage.player(7)
