"""A program of a user, written once: an auction house with bidders. It runs on both faces and on any loop.

python tests/sdk/user_program.py FACE PLAYERS BACKEND

FACE is `blocking`, `anyio`, or the name of a loop for the asyncio face, as in `tests/support/loops.py`. The
program prints what happens, one line each, and each face prints the same. In the blocking face, nothing waits
for a loop: the coroutines of this program run to their end without one.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import ringback
import ringback.aio
from ringback import OPERATORS, CallbackError, Code, UnknownPlayer

PATIENCE_S = 30.0
ITEMS = {"lamp": 10, "clock": 25}
BIDDERS = {1: 40, 2: 30, "carol": 100}


class BlockingFace:
    """The blocking face behind `async` and `await`: none of these coroutines waits for a loop."""

    module: Any = ringback

    async def enter(self, stack: AsyncExitStack, endpoint: Any) -> Any:
        return stack.enter_context(endpoint)

    async def end(self, call: Any) -> Any:
        return call.result()

    async def ends(self, group: Any) -> list[tuple[Any, Any]]:
        return list(group)

    async def wait(self, event: threading.Event) -> bool:
        return event.wait(PATIENCE_S)

    def run(self, main: Awaitable[None]) -> None:
        with suppress(StopIteration):
            main.__await__().send(None)  # type: ignore[attr-defined]
            raise AssertionError("the blocking face waited for a loop")


class AsyncioFace:
    """The asyncio face, on a loop of some kind."""

    module: Any = ringback.aio

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._new_loop = new_loop

    async def enter(self, stack: AsyncExitStack, endpoint: Any) -> Any:
        return await stack.enter_async_context(endpoint)

    async def end(self, call: Any) -> Any:
        return await call

    async def ends(self, group: Any) -> list[tuple[Any, Any]]:
        return [item async for item in group]

    async def wait(self, event: threading.Event) -> bool:
        return await asyncio.to_thread(event.wait, PATIENCE_S)

    def run(self, main: Awaitable[None]) -> None:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            runner.run(main)  # type: ignore[arg-type]


class AnyioFace(AsyncioFace):
    """The asyncio face in a program of anyio."""

    def run(self, main: Awaitable[None]) -> None:
        import anyio

        async def program() -> None:
            await main

        anyio.run(program, backend="asyncio")


class House:
    """The server: it keeps the highest bid for each item, and tells the others of it."""

    def __init__(self, face: Any, server: Any) -> None:
        self.face, self.server = face, server
        self.best: dict[str, tuple[int, Any]] = {item: (price, None) for item, price in ITEMS.items()}
        self.joined: list[Any] = []
        self.everybody = threading.Event()
        server.on_player_joined(self.welcome)
        server.register_server_callback("items", self.items)
        server.register_server_callback("bid", self.bid)
        server.register_server_callback("sell", self.sell, allow=OPERATORS)
        server.register_server_callback("appraise", self.appraise, limit="1/h")
        server.register_server_callback("wait", self.wait)
        server.register_server_callback("later", self.later)

    def welcome(self, player_id: Any) -> None:
        self.joined.append(player_id)
        if len(self.joined) == len(BIDDERS):
            self.everybody.set()

    def items(self, source: Any, payload: Any) -> dict[str, int]:
        return {item: price for item, (price, _) in self.best.items()}

    async def bid(self, source: Any, payload: dict[str, Any]) -> str:
        """Ask the bidder to confirm, before the bid counts."""
        item, price = payload["item"], payload["price"]
        if item not in self.best:
            raise CallbackError("there is no such item", code="NO_ITEM", data=sorted(self.best))
        if price <= self.best[item][0]:
            return f"{price} is too low"
        call = self.server.trigger_client_callback("confirm", source, {"item": item, "price": price})
        if not await self.face.end(call):
            return "taken back"
        self.best[item] = (price, source)
        return f"{item} for {price}"

    def sell(self, source: Any, payload: str, cb: Any) -> None:
        price, buyer = self.best.pop(payload)
        cb(payload, price, buyer)  # three results

    def appraise(self, source: Any, payload: str) -> int:
        return 2 * ITEMS[payload]

    def wait(self, source: Any, payload: Any, cb: Any) -> None:
        """Never reply: the caller's time ends, or it cancels."""

    def later(self, source: Any, payload: Any, cb: Any) -> None:
        """Reply from another thread."""
        threading.Thread(target=cb, args=(f"later, {payload}",)).start()


def bidder(player: Any, purse: int) -> Any:
    """Register what the house asks of a bidder."""

    @player.register_client_callback("confirm")
    def confirm(payload: dict[str, Any]) -> bool:
        return payload["price"] <= purse

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


async def run(face: Any, players: str, backend: str) -> None:
    """Hold the auction. Print what happens."""
    async with AsyncExitStack() as stack:
        server = await face.enter(stack, face.module.Server(backend))
        house = House(face, server)
        bidders = {
            player_id: await face.enter(stack, bidder(face.module.Player(players, player_id), purse))
            for player_id, purse in BIDDERS.items()
        }
        operator = await face.enter(stack, face.module.Operator(backend))
        print("everybody is here:", await face.wait(house.everybody), house.joined)
        first, second, carol = bidders.values()
        print("items:", await face.end(first.trigger_server_callback("items")))

        for player, item, price in ((first, "lamp", 20), (second, "lamp", 15), (second, "lamp", 35)):
            call = player.trigger_server_callback("bid", {"item": item, "price": price})
            print(f"{player.player_id} bids {price}:", await face.end(call))
        call = carol.trigger_server_callback("bid", {"item": "boat", "price": 1})
        print("carol bids for a boat:", await failure(face, call))

        bids = [{"item": "clock", "price": price} for price in range(20)]
        calls = [carol.trigger_server_callback("bid", bid) for bid in bids]
        print("carol bids often:", [await face.end(call) for call in calls][-1])

        print("a player sells:", await failure(face, first.trigger_server_callback("sell", "lamp")))
        print("the operator sells:", await face.end(operator.trigger_callback("sell", 1, "lamp")))
        print("appraised:", await face.end(second.trigger_server_callback("appraise", "clock")))
        call = second.trigger_server_callback("appraise", "clock")
        with suppress(CallbackError):
            await face.end(call)
        print("appraised again:", call.error.code_name, 0 < call.error.data["retry_after"] <= 3600)

        ended = await face.ends(server.trigger_all_client_callbacks("purse"))
        print("all purses:", sorted((str(player_id), call.result()) for player_id, call in ended))
        group = server.trigger_all_client_callbacks("purse", players=[1, "nobody"])
        failed = sorted(str(player_id) for player_id, call in await face.ends(group) if call.error)
        print("no purse:", failed)

        called = threading.Event()
        first.trigger_server_callback("later", "a callback", lambda _: called.set())
        print("a callback ran:", await face.wait(called))
        print("from a thread:", await face.end(first.trigger_server_callback("later", "a result")))
        call = first.trigger_server_callback("wait", timeout=0.05)
        print("too late:", (await failure(face, call)).split(" ")[0])
        call = first.trigger_server_callback("wait")
        call.cancel()
        print("cancelled:", (await failure(face, call)).split(" ")[0])
        print("nobody:", await failure(face, server.trigger_client_callback("purse", 99)))
        assert Code.UNKNOWN_PLAYER is UnknownPlayer("").code

        rows, _ = await face.end(operator.query("players"))
        print("the broker knows:", sorted(str(row[0]) for row in rows))
        large = "x" * 300_000
        print("a large payload:", len(await face.end(first.trigger_server_callback("later", large))))
    print("connected at the end:", server.connected, first.connected)


if __name__ == "__main__":
    name, *addresses = sys.argv[1:]
    if name == "blocking":
        chosen: Any = BlockingFace()
    else:
        from support.loops import LOOPS

        chosen = AnyioFace(LOOPS["asyncio"]) if name == "anyio" else AsyncioFace(LOOPS[name])
    chosen.run(run(chosen, *addresses))
