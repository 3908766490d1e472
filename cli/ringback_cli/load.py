"""Load: calls of one kind, so many in flight, with each result checked and each latency kept.

`ringback bench` runs this in processes of its own, one for the server and one for the players; the project's
benchmarks run the same for whatever ringback is compared with.

    python -m ringback_cli.load '{"role": "server", "address": "tcp://127.0.0.1:7701", ...}'

A process that serves prints "ready". One that calls prints it too, and then takes a line of JSON for each
measurement, warms up, prints "START", waits for a line, measures, and prints a line of figures. Either leaves
when standard input ends. An error is one line, and the exit code is that of the commands.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from abc import ABC, abstractmethod
from itertools import count
from typing import Any, NamedTuple

KEY = "bench:items"
_CATEGORIES = ("food", "tools", "books", "toys")
_ITEMS = {
    category: [{"name": f"{category}-{i}", "price": 10 * i, "stock": i} for i in range(3)]
    for category in _CATEGORIES
}
WARM_UP = 0.25
"""Of the time that is measured."""

OPENING_AT_ONCE = 64


class Work:
    """What is asked and answered.

    Args:
        blob_bytes: 0 for a small dict, of about 30 bytes, and an answer of about 100; else what is sent and
            comes back.
    """

    def __init__(self, blob_bytes: int = 0) -> None:
        self._blob = bytes(range(256)) * (blob_bytes // 256) + bytes(blob_bytes % 256)

    def payload(self, number: int) -> dict[str, Any]:
        """Gives what call number n asks."""
        if self._blob:
            return {"number": number, "blob": self._blob}
        return {"category": _CATEGORIES[number % 4], "number": number}

    def handle(self, payload: dict[str, Any]) -> dict[str, Any]:
        """What the handler does."""
        if self._blob:
            return payload
        return {"number": payload["number"], "items": _ITEMS[payload["category"]]}

    def check(self, number: int, result: Any) -> None:
        """Ends this process if a result is not the one of its call."""
        if self._blob:
            right = result == {"number": number, "blob": self._blob}
        else:
            right = result["number"] == number and (
                result["items"][0]["name"] == f"{_CATEGORIES[number % 4]}-0" and len(result["items"]) == 3
            )
        if not right:
            sys.exit(f"call {number} got the result {str(result)[:200]}")


class Measurement(NamedTuple):
    """What one of the lines asks for."""

    in_flight: int
    seconds: float


def obey(end: End) -> None:
    """Measures what each line on standard input asks for, until there are no more."""
    while line := end.read_line():
        asked = Measurement(**json.loads(line))
        end.run(asked._replace(seconds=asked.seconds * WARM_UP))
        _tell("START")
        end.read_line()  # who measures has read the processor times of all processes
        started_at = time.perf_counter()
        latencies = end.run(asked)
        _tell(json.dumps(figures(latencies, time.perf_counter() - started_at)))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def figures(latencies_s: list[float], elapsed_s: float) -> dict[str, float]:
    """Gives the figures of one measurement."""
    latencies = sorted(latencies_s)
    shares = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    return {
        "calls": len(latencies),
        "calls_per_s": len(latencies) / elapsed_s,
        **{name: 1e6 * latencies[int(share * len(latencies))] for name, share in shares.items()},
    }


class End(ABC):
    """One side of what is measured: the server, or the players.

    Args:
        address: where to connect to.
        work: what is asked and answered.
        players: how many there are, numbered from 0.
        settings: of the contender's own.
    """

    def __init__(self, address: str, work: Work, players: int, **settings: Any) -> None:
        self.address = address
        self.work = work
        self.players = players
        self.settings = settings

    @abstractmethod
    def open(self) -> None:
        """Connects."""

    @abstractmethod
    def serve(self) -> None:
        """Answers calls, until standard input ends or this process is ended."""

    @abstractmethod
    def run(self, asked: Measurement) -> list[float]:
        """Makes calls for so long, with or by each player in turn; gives their latencies in seconds."""

    def read_line(self) -> str:
        """Waits for a line on standard input; gives "" when there are no more."""
        return sys.stdin.readline()

    def close(self) -> None:  # noqa: B027 - not all have to
        """Leaves, so that another may take the place at once."""


class AsyncioEnd(End):
    """One side on an event loop: a coroutine for each call in flight, as a program would do it.

    The loop runs on while a line is waited for.
    """

    def open(self) -> None:
        self.runner = asyncio.Runner()
        self._input = self.runner.run(_input())
        self.runner.run(self.connect())

    def serve(self) -> None:
        self.runner.run(self._input.read())

    def read_line(self) -> str:
        return self.runner.run(self._input.readline()).decode()

    def run(self, asked: Measurement) -> list[float]:
        return self.runner.run(self._run(asked))

    def close(self) -> None:
        self.runner.run(self.disconnect())

    @abstractmethod
    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    @abstractmethod
    async def call(self, player: int, payload: Any) -> Any:
        """Makes a call to the server by a player, or of the server to a player."""

    async def _run(self, asked: Measurement) -> list[float]:
        latencies: list[float] = []
        numbers = count()
        call, work, players, clock = self.call, self.work, self.players, time.perf_counter
        until = clock() + asked.seconds

        async def worker() -> None:
            while (started_at := clock()) < until:
                number = next(numbers)
                result = await call(number % players, work.payload(number))
                latencies.append(clock() - started_at)
                work.check(number, result)

        await asyncio.gather(*(worker() for _ in range(asked.in_flight)))
        return latencies


async def _input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


class ServerEnd(AsyncioEnd):
    """The server by ringback.aio."""

    async def connect(self) -> None:
        from ringback.aio import Server

        work = self.work
        self._server = Server(self.address, **self.settings)
        self._server.register_server_callback(KEY, lambda source, payload: work.handle(payload))
        await self._server.start()

    async def disconnect(self) -> None:
        await self._server.close()

    async def call(self, player: int, payload: Any) -> Any:
        return await self._server.trigger_client_callback(KEY, player_id(player), payload)


class PlayersEnd(AsyncioEnd):
    """The players by ringback.aio, all in one process."""

    async def connect(self) -> None:
        from ringback.aio import Player

        self._players = []
        for number in range(self.players):
            player = Player(self.address, player_id(number), **self.settings)
            player.register_client_callback(KEY, self.work.handle)
            self._players.append(player)
        for first in range(0, self.players, OPENING_AT_ONCE):
            await asyncio.gather(*(p.start() for p in self._players[first : first + OPENING_AT_ONCE]))

    async def disconnect(self) -> None:
        await asyncio.gather(*(player.close() for player in self._players))

    async def call(self, player: int, payload: Any) -> Any:
        return await self._players[player].trigger_server_callback(KEY, payload)


def player_id(number: int) -> str:
    """Gives the ID of one of the players."""
    return f"bench-{number}"


def work_in(ends: dict[str, type[End]], spec: dict[str, Any]) -> None:
    """Does in this process what a specification says.

    Args:
        spec: `role` ("server" or "players"), `calls` (whether it calls, or serves), `address`,
            `blob_bytes`, `players` (how many) and `settings`.
    """
    end = ends[spec["role"]](
        spec["address"], Work(spec["blob_bytes"]), spec["players"], **spec.get("settings", {})
    )
    end.open()
    try:
        _tell("ready")
        if spec["calls"]:
            obey(end)
        else:
            end.serve()
    finally:
        end.close()


ENDS: dict[str, type[End]] = {"server": ServerEnd, "players": PlayersEnd}


def main() -> int:
    """Works as the first argument says, and gives the exit code."""
    from ringback_cli.exits import Exit, failure_of
    from ringback_cli.output import complain

    logging.getLogger("ringback").addHandler(logging.NullHandler())  # the error says what the log would
    try:
        work_in(ENDS, json.loads(sys.argv[1]))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:
        failure = failure_of(error)
        complain(failure.code, failure.message)
        return failure.exit
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
