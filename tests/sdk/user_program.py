"""A program of a user, written once: an auction house with bidders. It uses every part of the SDK.

python tests/sdk/user_program.py FACE PLAYERS BACKEND

FACE is `blocking`, `anyio`, or the name of a loop in `tests/support/loops.py`. The program prints what
happens, and prints the same on each face and each loop.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from support.user_faces import face_of

from ringback import OPERATORS, CallbackError, ClientCallback, Limits, Retry, ServerCallback, remaining

ITEMS = {"lamp": 10, "clock": 25}
BIDDERS = {1: 40, 2: 30, "carol": 100}
PATIENT = Retry(attempts=1000, first_delay=0.01, longest_delay=0.05)


@dataclass
class Bid:
    item: str
    price: int


BID = ServerCallback("bid", Bid, str)
CONFIRM = ClientCallback("confirm", Bid, bool)
PURSE = ClientCallback("purse", None, int)


class House:
    """A server: it keeps the highest bid for each item, which it shares with the server that follows it."""

    def __init__(self, face: Any, name: str, server: Any, best: dict[str, tuple[int, Any]]) -> None:
        self.face, self.name, self.server, self.best = face, name, server, best
        self.everybody, self.left, self.held = threading.Event(), threading.Event(), threading.Event()
        self.joined: list[Any] = []
        self.cb: Any = None
        server.on_player_joined(self.welcome)
        server.on_player_left(lambda player_id: self.left.set())
        server.register(BID, self.bid)
        server.register_server_callback("items", self.items, idempotent=True)
        server.register_server_callback("sell", self.sell, allow=OPERATORS)
        server.register_server_callback("appraise", self.appraise, limit="1/h")
        server.register_server_callback("hold", self.hold)
        server.register_server_callback("later", self.later)
        server.register_server_callback("catalogue", self.catalogue)

    def welcome(self, player_id: Any) -> None:
        self.joined.append(player_id)
        if len(self.joined) == len(BIDDERS):
            self.everybody.set()

    def items(self, source: Any, payload: Any) -> list[Any]:
        return [self.name, {item: price for item, (price, _) in self.best.items()}]

    async def bid(self, source: Any, bid: Bid) -> str:
        """Ask the bidder to confirm, before the bid counts."""
        if bid.item not in self.best:
            raise CallbackError("there is no such item", code="NO_ITEM", data=sorted(self.best))
        if bid.price <= self.best[bid.item][0]:
            return f"{bid.price} is too low"
        if not await self.face.end(self.server.trigger(CONFIRM, source, bid)):
            return "taken back"
        self.best[bid.item] = (bid.price, source)
        return f"{bid.item} for {bid.price}"

    def sell(self, source: Any, payload: str, cb: Any) -> None:
        price, buyer = self.best.pop(payload)
        cb(payload, price, buyer)  # three results

    def appraise(self, source: Any, payload: str) -> int:
        return 2 * ITEMS[payload]

    def hold(self, source: Any, payload: Any, cb: Any) -> None:
        """Do not reply now. The caller's time ends, or it cancels, or this replies later."""
        self.cb = cb
        self.held.set()

    def later(self, source: Any, payload: Any, cb: Any) -> None:
        """Reply from another thread."""
        threading.Thread(target=cb, args=(f"later, {payload}, {0 < (remaining() or 0) <= 15}",)).start()

    def catalogue(self, source: Any, payload: Any, cb: Any) -> None:
        for page in range(1, 4):
            cb.progress(page)
        cb("all pages")


def bidder(player: Any, purse: int) -> Any:
    """Register what the house asks of a bidder."""

    @player.register(CONFIRM)
    def confirm(bid: Bid) -> bool:
        return bid.price <= purse

    @player.register_client_callback("purse")
    async def has(payload: Any) -> int:
        return purse

    return player


async def failure(face: Any, call: Any) -> str:
    """Return how a call failed."""
    try:
        await face.end(call)
    except CallbackError as error:
        return f"{error.code_name} ({error.executed}) {error.data}"
    return "it did not fail"


async def bid_for_items(face: Any, operator: Any, first: Any, second: Any, carol: Any) -> None:
    """Use contracts, errors, permissions and rate limits."""
    for player, bid in ((first, Bid("lamp", 20)), (second, Bid("lamp", 15)), (second, Bid("lamp", 35))):
        print(f"{player.player_id} bids {bid.price}:", await face.end(player.trigger(BID, bid)))
    print("carol bids for a boat:", await failure(face, carol.trigger(BID, Bid("boat", 1))))
    call = carol.trigger_server_callback("bid", {"item": "lamp", "price": "much"})
    print("carol bids much:", await failure(face, call))
    print("a player sells:", await failure(face, first.trigger_server_callback("sell", "lamp")))
    print("the operator sells:", await face.end(operator.trigger_callback("sell", 1, "lamp")))
    print("appraised:", await face.end(second.trigger_server_callback("appraise", "clock")))
    call = second.trigger_server_callback("appraise", "clock")
    print("appraised again:", (await failure(face, call)).split(":")[0])
    print("nothing there:", await failure(face, first.trigger_server_callback("boats")))


async def call_many(face: Any, server: Any, first: Any) -> None:
    """Use groups, and wait for room. The first player may have four calls in flight."""
    calls = await face.all(server.trigger_all(PURSE, None))
    print("all purses:", sorted((str(player_id), call.result()) for player_id, call in calls.items()))
    group = server.trigger_all_client_callbacks("purse", players=[1, "nobody"])
    print("no purse:", [player_id for player_id, call in await face.ends(group) if call.error])
    print("nobody:", await failure(face, server.trigger_client_callback("purse", 99)))
    held = [first.trigger_server_callback("hold") for _ in range(4)]
    print("no room:", await failure(face, first.trigger_server_callback("items")))
    waiting = [first.trigger_server_callback("items", wait_for_room=True) for _ in range(50)]
    print("cancelled:", [(call.cancel(), await failure(face, call))[0] for call in held])
    print("there is room:", len([await face.end(call) for call in waiting]))
    calls = []
    for _ in range(50):
        await face.ready_to_call(first)
        calls.append(first.trigger_server_callback("items"))
    print("there was room:", len([await face.end(call) for call in calls]))


async def wait_in_all_ways(face: Any, player: Any) -> None:
    """Use callbacks, calls as futures, deadlines and progress."""
    seen: list[Any] = []
    ended = threading.Event()

    def then(line: str) -> Callable[..., None]:
        return lambda *values: (seen.append((line, *values)), ended.set())[0]

    player.trigger_server_callback("later", "a callback", then("came"))
    print("a callback ran:", await face.wait(ended), seen.pop())
    ended.clear()
    failed = then("failed")
    player.trigger_server_callback("boats", callback=failed, on_error=lambda error: failed(error.code_name))
    print("it failed:", await face.wait(ended), seen.pop())
    ended.clear()
    call = player.trigger_server_callback("hold")
    call.add_done_callback(lambda call: ended.set())
    print("not yet:", await face.ends_within(call, 0.01), call.done(), call.cancelled())
    print("taken back:", call.cancel(), await face.wait(ended), call.cancelled(), call.exception().code_name)
    call = player.trigger_server_callback("hold", timeout=0.05)
    print("too late:", (await failure(face, call)).split(" ")[0])
    ended.clear()
    player.trigger_server_callback("catalogue", None, then("result"), on_progress=seen.append)
    print("progress:", await face.wait(ended), seen)
    call = player.trigger_server_callback("catalogue", progress=True)
    pages = [page async for page in face.each(call.progress())]
    print("progress in a loop:", pages, await face.end(call))
    large = await face.end(player.trigger_server_callback("later", "x" * 300_000))
    print("a large payload:", len(large))


async def run(face: Any, players: str, backend: str) -> None:
    """Hold the auction. Print what happens."""
    best: dict[str, tuple[int, Any]] = {item: (price, None) for item, price in ITEMS.items()}
    async with AsyncExitStack() as stack:
        limits = Limits(max_in_flight=4)
        bidders = [
            await face.enter(stack, bidder(face.module.Player(players, player_id, limits=limits), purse))
            for player_id, purse in BIDDERS.items()
        ]
        print("no house yet:", await failure(face, bidders[0].trigger_server_callback("items")))
        early = bidders[0].trigger_server_callback("items", retry=PATIENT)
        old = House(face, "the old house", face.module.Server(backend, standby=True), best)
        server = await face.enter(stack, old.server)
        operator = await face.enter(stack, face.module.Operator(backend))
        print("tried again:", await face.end(early))
        print("everybody is here:", await face.wait(old.everybody), sorted(map(str, old.joined)))
        await bid_for_items(face, operator, *bidders)
        await call_many(face, server, bidders[0])
        await wait_in_all_ways(face, bidders[1])

        new = House(face, "the new house", face.module.Server(backend, standby=True), best)
        heir = await face.enter(stack, new.server)
        print("who acts:", server.acting, heir.acting)
        old.held.clear()
        begun = bidders[2].trigger_server_callback("hold")
        print("it has begun:", await face.wait(old.held))
        heir.on_acting(lambda acting: acting and old.cb("by the old house"))
        await face.hand_over(server)
        print("it was finished:", await face.end(begun))
        print("items:", await face.end(bidders[2].trigger_server_callback("items")), heir.acting)
        print("everybody is here:", await face.wait(new.everybody))
        await face.close(bidders[2])
        print("carol has left:", await face.wait(new.left), sorted(map(str, heir.players)))
        rows, _ = await face.end(operator.query("players"))
        print("the broker knows:", sorted(str(row[0]) for row in rows))
    print("connected at the end:", server.connected, heir.connected, bidders[0].connected)


if __name__ == "__main__":
    name, *addresses = sys.argv[1:]
    chosen = face_of(name)
    chosen.run(run(chosen, *addresses))
