"""Tests of `game.py`, with a real broker for each test."""

import asyncio

import pytest
from game import RIVER, add_game

from ringback import CallbackError


@pytest.fixture
async def player(ringback_aio_endpoints):
    server = await ringback_aio_endpoints.server()
    add_game(server)
    return await ringback_aio_endpoints.player(7)


async def test_gold_is_found_once(player):
    assert await player.trigger_server_callback("gold:dig", 3) == RIVER[3]
    assert await player.trigger_server_callback("gold:dig", 3) == 0


@pytest.mark.parametrize("place", [-1, 200, 1.5, True, "3", None, [3]])
async def test_odd_places_are_refused(player, place):
    with pytest.raises(CallbackError, match="NO_SUCH_PLACE"):
        await player.trigger_server_callback("gold:dig", place)


async def test_nobody_buys_with_the_same_gold_twice(player):
    agree = asyncio.Event()

    async def confirm(price):
        await agree.wait()
        return True

    player.register_client_callback("bot:confirm", confirm)
    await player.trigger_server_callback("gold:dig", 4)
    calls = [player.trigger_server_callback("gold:buy") for _ in range(4)]
    await player.trigger_server_callback("gold:purse")  # the server has begun the four before it
    agree.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert sorted(map(str, outcomes)) == 3 * ["TOO_POOR: a shovel costs 50"] + ["True"]
    assert await player.trigger_server_callback("gold:purse") == {"gold": 14, "shovels": 1}
