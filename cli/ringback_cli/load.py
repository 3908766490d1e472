"""Load: make a number of calls in flight, check each result, and keep each latency.

`ringback bench` runs this module in two processes, one for the server and one for the players. The project's
benchmarks run the same for each system that ringback is compared with.

    python -m ringback_cli.load '{"role": "server", "address": "tcp://127.0.0.1:7701", ...}'

A process that serves prints "ready". A process that calls prints it too. Then, for each measurement, it reads
a line of JSON, warms up, prints "START", waits for a line, measures, and prints a line of figures. Both
leave when standard input ends. An error is one line, and the exit codes are those of the commands.

What a process that calls does for a line is its workload. Here that is a closed loop: each call in flight is
followed by the next one. The project's benchmarks have other workloads too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import count
from math import ceil
from typing import Any, NamedTuple

KEY = "bench:items"
_CATEGORIES = ("food", "tools", "books", "toys")
_ITEMS = {
    category: [{"name": f"{category}-{i}", "price": 10 * i, "stock": i} for i in range(3)]
    for category in _CATEGORIES
}
WARM_UP = 0.25
"""The size of the warm-up, as a share of the measurement."""

OPENING_AT_ONCE = 64


class Work:
    """The payloads of the calls, and their results.

    Args:
        blob_bytes: 0: payloads are dicts of about 30 bytes, and results have about 100; else: payloads have
            this number of bytes, and are the results too.
    """

    def __init__(self, blob_bytes: int = 0) -> None:
        self._blob = bytes(range(256)) * (blob_bytes // 256) + bytes(blob_bytes % 256)

    def payload(self, number: int) -> dict[str, Any]:
        """Return the payload of a call, by its number."""
        if self._blob:
            return {"number": number, "blob": self._blob}
        return {"category": _CATEGORIES[number % 4], "number": number}

    def handle(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the result for a payload."""
        if self._blob:
            return payload
        return {"number": payload["number"], "items": _ITEMS[payload["category"]]}

    def check(self, number: int, result: Any) -> None:
        """Exit this process if a result does not belong to its call."""
        if self._blob:
            right = result == {"number": number, "blob": self._blob}
        else:
            right = result["number"] == number and (
                result["items"][0]["name"] == f"{_CATEGORIES[number % 4]}-0" and len(result["items"]) == 3
            )
        if not right:
            sys.exit(f"call {number} got the result {str(result)[:200]}")


class Measurement(NamedTuple):
    """A line on standard input for a closed loop: what to measure."""

    in_flight: int
    seconds: float


def closed_loop(end: End, asked: Mapping[str, Any], share: float) -> dict[str, float]:
    """Keep a number of calls in flight, and return the figures."""
    measurement = Measurement(**asked)
    started_at = time.perf_counter()
    latencies = end.run(measurement._replace(seconds=measurement.seconds * share))
    return figures(latencies, time.perf_counter() - started_at)


def obey(end: End, workload: Workload) -> None:
    """Measure for each line on standard input, until it ends."""
    while line := end.read_line():
        asked = json.loads(line)
        workload(end, asked, WARM_UP)
        _tell("START")
        end.read_line()  # the parent process has read the processor times of all processes
        _tell(json.dumps(workload(end, asked, 1.0)))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def figures(latencies_s: list[float], elapsed_s: float) -> dict[str, float]:
    """Return the figures of one measurement. A percentile is the latency of the nearest rank."""
    latencies = sorted(latencies_s)
    shares = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    return {
        "calls": len(latencies),
        "calls_per_s": len(latencies) / elapsed_s,
        **{name: 1e6 * latencies[ceil(share * len(latencies)) - 1] for name, share in shares.items()},
    }


class End(ABC):
    """One side of a measurement: the server, or the players.

    Args:
        address: where to connect to, as endpoints take it.
        work: the payloads and results.
        players: the number of players.
        settings: keyword arguments for the endpoints of this side.
        first: the number of the first player, if several processes share the players.
    """

    def __init__(
        self,
        address: str | list[str],
        work: Work,
        players: int,
        settings: Mapping[str, Any] | None = None,
        first: int = 0,
    ) -> None:
        self.address = address
        self.work = work
        self.players = players
        self.settings = settings or {}
        self.first = first

    @abstractmethod
    def open(self) -> None:
        """Connect."""

    @abstractmethod
    def serve(self) -> None:
        """Handle calls, until standard input or this process ends."""

    @abstractmethod
    def run(self, asked: Measurement) -> list[float]:
        """Make calls to or by each player in turn, and return their latencies in seconds."""

    def read_line(self) -> str:
        """Wait for a line on standard input, and return it; "" at the end of the input."""
        return sys.stdin.readline()

    def close(self) -> None:  # noqa: B027 - some sides have nothing to close
        """Leave, so that another endpoint can take the place at once."""


class AsyncioEnd(End):
    """One side on an event loop, with a coroutine for each call in flight, as in a usual program.

    The loop keeps running while `read_line` waits.
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
        """Make a call, by a player to the server or by the server to a player, and return its result."""

    async def _run(self, asked: Measurement) -> list[float]:
        latencies: list[float] = []
        numbers = count()
        call, work, players, clock = self.call, self.work, self.players, time.perf_counter
        until = clock() + asked.seconds

        async def worker() -> None:
            started_at = clock()
            while True:  # at least once: on a busy machine the time may be over before a call begins
                number = next(numbers)
                result = await call(number % players, work.payload(number))
                latencies.append(clock() - started_at)
                work.check(number, result)
                if (started_at := clock()) >= until:
                    return

        await asyncio.gather(*(worker() for _ in range(asked.in_flight)))
        return latencies


Workload = Callable[[End, Mapping[str, Any], float], dict[str, float]]
"""What a process that calls does for a line on standard input. It gets its side, the values in the line, and
how much of that to do. It returns the figures."""


async def _input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


class ServerEnd(AsyncioEnd):
    """The server, made with ringback.aio."""

    async def connect(self) -> None:
        from ringback.aio import Server

        work = self.work
        self.server = Server(self.address, **self.settings)
        self.server.register_server_callback(KEY, lambda source, payload: work.handle(payload))
        await self.server.start()

    async def disconnect(self) -> None:
        await self.server.close()

    async def call(self, player: int, payload: Any) -> Any:
        return await self.server.trigger_client_callback(KEY, player_id(player), payload)


class PlayersEnd(AsyncioEnd):
    """The players, made with ringback.aio, all in one process."""

    async def connect(self) -> None:
        from ringback.aio import Player

        self._players = []
        for number in range(self.first, self.first + self.players):
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
    """Return the ID of a player, by its number."""
    return f"bench-{number}"


def work_in(ends: dict[str, type[End]], spec: dict[str, Any], workload: Workload = closed_loop) -> None:
    """Work in this process as a specification says.

    Args:
        ends: the class of each side, by role.
        spec: `role` ("server" or "players"), `calls` (true: it calls; false: it serves), `address`,
            `blob_bytes`, `players` (their number), and perhaps `settings` and `first`.
        workload: what it does if it calls.
    """
    end = ends[spec["role"]](
        spec["address"],
        Work(spec["blob_bytes"]),
        spec["players"],
        spec.get("settings"),
        spec.get("first", 0),
    )
    end.open()
    try:
        _tell("ready")
        if spec["calls"]:
            obey(end, workload)
        else:
            end.serve()
    finally:
        end.close()


ENDS: dict[str, type[End]] = {"server": ServerEnd, "players": PlayersEnd}


def main() -> int:
    """Work as the first argument says, and return the exit code."""
    from ringback_cli.exits import Exit, failure_of
    from ringback_cli.output import complain_of

    # The SDK also logs what it raises. The error is printed below, and once is enough.
    logging.getLogger("ringback").addHandler(logging.NullHandler())
    try:
        work_in(ENDS, json.loads(sys.argv[1]))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:
        failure = failure_of(error)
        complain_of(failure, as_json=False)
        return failure.exit
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
