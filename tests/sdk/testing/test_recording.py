"""The recorder of calls, in both faces."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from ringback import CallbackError, ClientCallback, ServerCallback, UsageError
from ringback._roles.base import RoleBase
from ringback.testing import (
    AioCalls,
    AioEndpoints,
    Calls,
    Endpoints,
    LocalBroker,
    RecordedCall,
    reconnected,
    recording,
    until_disconnected,
    until_joined,
)


def row(call: RecordedCall) -> tuple[object, ...]:
    return call.caller, call.called, call.key, call.payload, call.source, call.outcome, call.results


def refuse(source: Any, payload: Any) -> None:
    raise CallbackError("too poor", code="TOO_POOR")


def test_who_called_what(ringback_endpoints: Endpoints, ringback_calls: Calls) -> None:
    server, operator = ringback_endpoints.server(), ringback_endpoints.operator()
    player = ringback_endpoints.player(7)
    until_joined(server, 7)
    server.register_server_callback("echo", lambda source, payload, cb: cb(source, payload))
    server.register_server_callback("buy", refuse)
    server.register_server_callback("wait", lambda source, payload, cb: None)
    player.register_client_callback("beep", lambda payload: "beep")
    payload = {"item": ["rope"]}
    player.trigger_server_callback("echo", payload).result()
    payload["item"].append("changed later")
    operator.trigger_callback("echo", "ann").result()
    server.trigger_callback("wait", 9).cancel()
    player.trigger_server_callback("buy")
    server.trigger_all_client_callbacks("beep", players=[7, 8]).all()
    operator.trigger_client_callback("beep", 7, object())
    assert [row(call) for call in ringback_calls.until(7)] == [
        ("player 7", "server", "echo", {"item": ["rope"]}, 7, "OK", (7, {"item": ["rope"]})),
        ("operator", "server", "echo", None, "ann", "OK", ("ann", None)),
        ("server", "server", "wait", None, 9, "CANCELLED", ()),
        ("player 7", "server", "buy", None, 7, "TOO_POOR", ()),
        ("server", "player 7", "beep", None, None, "OK", ("beep",)),
        ("server", "player 8", "beep", None, None, "UNKNOWN_PLAYER", ()),
        ("operator", "player 7", "beep", ringback_calls[6].payload, None, "INVALID_PAYLOAD", ()),
    ]
    assert len(ringback_calls) == 7 and ringback_calls[-1].key == "beep"
    assert [call.called for call in ringback_calls[4:6]] == ["player 7", "player 8"]
    outcomes = [call.outcome for call in ringback_calls.until(3, "beep")]
    assert outcomes == ["OK", "UNKNOWN_PLAYER", "INVALID_PAYLOAD"]
    assert repr(ringback_calls[1]) == "<operator -> server: echo None: OK 'ann' None>"
    ringback_calls.clear()
    assert list(ringback_calls) == []


def test_calls_are_in_the_order_in_which_they_were_made(
    ringback_endpoints: Endpoints, ringback_calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler calls back before the call that runs it is recorded."""
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    until_joined(server, 7)
    player.register_client_callback("inner", lambda payload: payload)
    server.register_server_callback(
        "outer", lambda source, payload: server.trigger_client_callback("inner", source, payload).result()
    )
    target_of = recording._target_of

    def late(endpoint: Any, *arguments: Any) -> Any:
        if endpoint is player:
            ringback_calls.until(1, "inner")
        return target_of(endpoint, *arguments)

    monkeypatch.setattr(recording, "_target_of", late)
    assert player.trigger_server_callback("outer", 5).result() == 5
    assert [call.key for call in ringback_calls.until(2)] == ["outer", "inner"]


def test_calls_that_have_not_ended(ringback_endpoints: Endpoints, ringback_calls: Calls) -> None:
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    replies: list[Any] = []
    server.register_server_callback("later", lambda source, payload, cb: replies.append(cb))
    call = player.trigger_server_callback("later")
    [recorded] = ringback_calls
    assert (recorded.ended, recorded.outcome, recorded.error, recorded.results) == (False, None, None, ())
    with pytest.raises(
        TimeoutError, match=r"(?s)^only 0 of 1 calls of 'later' have ended .*later None: pending>"
    ):
        ringback_calls.until(1, "later", timeout=0.05)
    call.cancel()
    assert [call.outcome for call in ringback_calls.until(1)] == ["CANCELLED"]
    error = recorded.error
    assert error is not None and error.executed == "maybe"


@dataclass
class Offer:
    good: str
    count: int


@dataclass
class Receipt:
    price: int


BUY = ServerCallback("shop:buy", Offer, Receipt)
PRICE = ClientCallback("shop:price", None, int)


def test_calls_by_contract_and_calls_that_wait(ringback_endpoints: Endpoints, ringback_calls: Calls) -> None:
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    server.register(BUY, lambda source, offer: Receipt(12 * offer.count))
    player.register(PRICE, lambda payload: 12)
    offer = Offer("rope", 3)
    player.trigger(BUY, offer)
    [bought] = ringback_calls.until(1)
    assert (bought.results, bought.outcome) == ((Receipt(36),), "OK")
    offer.count = 4
    server.trigger_all(PRICE, None, players=[7]).all()
    player.trigger_server_callback("shop:buy", {"good": "rope", "count": 1}, wait_for_room=True).result()
    assert [row(call) for call in ringback_calls] == [
        ("player 7", "server", "shop:buy", {"good": "rope", "count": 3}, 7, "OK", (Receipt(36),)),
        ("server", "player 7", "shop:price", None, None, "OK", (12,)),
        ("player 7", "server", "shop:buy", {"good": "rope", "count": 1}, 7, "OK", ({"price": 12},)),
    ]
    server.register_server_callback("shop:buy", lambda source, payload: "nothing", replace=True)
    player.trigger(BUY, offer)
    wrong = ringback_calls.until(4)[3]
    assert (wrong.outcome, wrong.results) == ("INVALID_PAYLOAD", ())


def test_a_call_with_retry_is_one_call(
    ringback_endpoints: Endpoints, ringback_calls: Calls, ringback_broker: LocalBroker
) -> None:
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    server.register_server_callback("echo", lambda source, payload: payload)
    with reconnected(server, player):
        ringback_broker.kill()
        until_disconnected(player)
        call = player.trigger_server_callback("echo", 1, retry=True)
        ringback_broker.start()
    assert call.result() == 1
    assert [row(call) for call in ringback_calls] == [("player 7", "server", "echo", 1, 7, "OK", (1,))]


class Unspeakable:
    def __repr__(self) -> str:
        raise ValueError

    __deepcopy__: Any = 7


def test_a_payload_without_a_repr(ringback_endpoints: Endpoints, ringback_calls: Calls) -> None:
    player = ringback_endpoints.player(7)
    assert player.trigger_server_callback("k", Unspeakable()).error
    with pytest.raises(TimeoutError, match="k <Unspeakable whose repr fails>: INVALID_PAYLOAD"):
        ringback_calls.until(2, timeout=0)


def test_endpoints_at_other_brokers(ringback_calls: Calls) -> None:
    with LocalBroker() as other:
        endpoints = Endpoints(other)
        server = endpoints.server()
        server.register_server_callback("echo", lambda source, payload: payload)
        assert server.trigger_callback("echo", 7, 1).result() == 1
        endpoints.close()
    assert list(ringback_calls) == []


def test_without_a_recorder_nothing_is_changed(request: pytest.FixtureRequest) -> None:
    before = RoleBase._trigger
    request.getfixturevalue("ringback_calls")
    assert RoleBase._trigger is not before


def test_the_recorder_is_gone_after_its_test() -> None:
    assert RoleBase._trigger.__name__ == "_trigger"


def test_asyncio(
    ringback_aio_endpoints: AioEndpoints, ringback_aio_calls: AioCalls, ringback_calls: Calls
) -> None:
    async def run() -> None:
        server = await ringback_aio_endpoints.server()
        player = await ringback_aio_endpoints.player(7)

        @server.register_server_callback("buy")
        async def buy(source: Any, payload: Any) -> Any:
            return await server.trigger_client_callback("confirm", source, payload)

        player.register_client_callback("confirm", lambda payload: payload == "rope")
        call = player.trigger_server_callback("buy", "rope")
        bought, confirmed = await ringback_aio_calls.until(2)
        assert row(bought) == ("player 7", "server", "buy", "rope", 7, "OK", (True,))
        assert row(confirmed) == ("server", "player 7", "confirm", "rope", None, "OK", (True,))
        assert await call is True
        with pytest.raises(TimeoutError, match=r"^only 2 of 3 calls have ended"):
            await ringback_aio_calls.until(3, timeout=0.05)
        with pytest.raises(UsageError, match="would block the event loop"):
            ringback_calls.until(1)

    asyncio.run(run())
    assert [row(call) for call in ringback_calls] == [row(call) for call in ringback_aio_calls]
