"""Use calls as futures, in both faces: an auction house in asyncio, and bidders in plain threads.

    ringback broker
    python examples/auction.py tcp://127.0.0.1:5771 tcp://127.0.0.1:5770

The house runs on uvloop if it is installed, and on the loop of asyncio otherwise.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import as_completed
from contextlib import ExitStack
from queue import SimpleQueue

from ringback import Execution, Player, PlayerID
from ringback.aio import Server

BIDS = {"anna": 30, "ben": 45, "chris": 20}


class House:
    """Sells one item to the player who bids most."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.watching: list[Execution] = []
        self.full = asyncio.Event()
        server.register_server_callback("auction:watch", self.watch)

    def watch(self, source: PlayerID, payload: None, cb: Execution) -> None:
        """Keep a call until the auction is over."""
        self.watching.append(cb)
        if len(self.watching) == len(BIDS):
            self.full.set()

    async def sell(self, item: str) -> None:
        """Ask all players at once, tell each one who has won, and end the calls of those who watch."""
        await self.full.wait()
        calls = await self.server.trigger_all_client_callbacks("auction:bid", item)
        bids = {player_id: call.result() for player_id, call in calls.items()}
        winner = max(bids, key=lambda player_id: bids[player_id])
        async with asyncio.TaskGroup() as tasks:
            for player_id in bids:
                tasks.create_task(self.tell(player_id, f"{item} goes to {winner}"))
        for cb in self.watching:
            cb(bids[winner])

    async def tell(self, player_id: PlayerID, text: str) -> None:
        await self.server.trigger_client_callback("auction:over", player_id, text)


def bidder(address: str, name: str, heard: SimpleQueue[str]) -> Player:
    player = Player(address, name)
    player.register_client_callback("auction:bid", lambda item: BIDS[name])
    player.register_client_callback("auction:over", lambda text: heard.put(f"{name} hears that {text}"))
    return player


def bid(address: str) -> None:
    """Bid for all players, and wait for the end: first not for long, and then until there is one."""
    heard: SimpleQueue[str] = SimpleQueue()  # handlers and done callbacks run in threads of their own
    ends: SimpleQueue[int] = SimpleQueue()
    with ExitStack() as stack:
        players = [stack.enter_context(bidder(address, name, heard)) for name in BIDS]
        first, *others = [player.trigger_server_callback("auction:watch") for player in players[:-1]]
        try:
            first.result(timeout=0.01)
        except TimeoutError:
            print("it is not over, and the call goes on:", not first.done())
        first.add_done_callback(lambda call: ends.put(call.result()))
        others.append(players[-1].trigger_server_callback("auction:watch"))
        for future in as_completed([call.future() for call in others]):
            print("another call ends with", future.result())
        print("the first call ends with", ends.get())
        for _ in players:
            print(heard.get())


async def main(backend: str, players: str) -> None:
    async with Server(backend) as server:
        house = House(server)
        await asyncio.gather(house.sell("the rope"), asyncio.to_thread(bid, players))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/auction.py BACKEND PLAYERS")
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    run(main(*sys.argv[1:]))
