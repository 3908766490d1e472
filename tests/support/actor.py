"""Run a server, player or operator in a process of its own. Lines on standard input say what to trigger.

    python actor.py blocking|asyncio Server|Player|Operator ADDRESS [ID]

A line in is a JSON list: a number, the name of a method, its arguments, and its keyword arguments. A line out
is a JSON list: the number and the outcome of the call, or the name of an event and its argument.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from typing import Any

import ringback
import ringback.aio


def tell(*items: Any) -> None:
    sys.stdout.write(json.dumps(items) + "\n")  # in one write, because several threads use it
    sys.stdout.flush()


def outcome(number: Any, error: Any, results: Any, started: float) -> None:
    took_s = time.monotonic() - started
    if error is None:
        tell(number, "results", list(results), took_s)
    else:
        tell(number, error.code_name, error.executed, took_s)


def register(endpoint: Any) -> None:
    """Register the callbacks of the tests: `echo` replies, `silent` never does."""

    def silent(*arguments: Any) -> None:
        tell("silent", arguments[0])

    if isinstance(endpoint, (ringback.Server, ringback.aio.Server)):
        endpoint.register_server_callback("echo", lambda source, payload: [source, payload])
        endpoint.register_server_callback("silent", lambda source, payload, cb: silent(payload))
        endpoint.on_player_joined(lambda player_id: tell("joined", player_id))
        endpoint.on_player_left(lambda player_id: tell("left", player_id))
    elif isinstance(endpoint, (ringback.Player, ringback.aio.Player)):
        endpoint.register_client_callback("echo", lambda payload: payload)
        endpoint.register_client_callback("silent", lambda payload, cb: silent(payload))
    endpoint.on_connected(lambda address: tell("connected"))
    endpoint.on_disconnected(lambda reason: tell("disconnected"))


def blocking(role: str, arguments: list[Any]) -> None:
    endpoint = getattr(ringback, role)(*arguments)
    register(endpoint)

    def trigger(number: Any, function: str, arguments: list[Any], keywords: dict[str, Any]) -> None:
        started = time.monotonic()
        made = getattr(endpoint, function)(*arguments, **keywords)
        if isinstance(made, ringback.CallGroup):
            tell(number, "all", sorted([player_id, call.result()] for player_id, call in made))
            return
        outcome(number, made.error, () if made.error else made.results, started)

    with endpoint:
        tell("ready")
        for line in sys.stdin:
            threading.Thread(target=trigger, args=json.loads(line), daemon=True).start()


async def on_asyncio(role: str, arguments: list[Any]) -> None:
    endpoint = getattr(ringback.aio, role)(*arguments)
    register(endpoint)
    tasks = set()

    async def trigger(number: Any, function: str, arguments: list[Any], keywords: dict[str, Any]) -> None:
        started = time.monotonic()
        made = getattr(endpoint, function)(*arguments, **keywords)
        if isinstance(made, ringback.aio.CallGroup):
            tell(number, "all", sorted([[player_id, call.result()] async for player_id, call in made]))
            return
        try:
            await made
        except ringback.CallbackError as error:
            outcome(number, error, (), started)
        else:
            outcome(number, None, made.results, started)

    async with endpoint:
        tell("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            task = asyncio.create_task(trigger(*json.loads(line)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


def main() -> None:
    face, role, address, *player_id = sys.argv[1:]
    arguments = [address, *(json.loads(text) for text in player_id)]
    if face == "blocking":
        blocking(role, arguments)
    else:
        asyncio.run(on_asyncio(role, arguments))


if __name__ == "__main__":
    main()
