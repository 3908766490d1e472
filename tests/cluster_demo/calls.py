"""The calls that a process of the demo makes: all are kept, with their outcomes."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from ringback import CallbackError

KEPT = 200_000
PACE_S = 0.5
"""How long a caller waits between two calls to one endpoint."""

AGAIN_S = 0.1
"""How long it waits after a call that failed."""

TIMEOUT_S = 20.0


class Calls:
    """Makes calls, and says what became of them.

    Attributes:
        outcomes: how many calls have ended, by outcome: "OK" or an error code.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.begun = 0
        self._numbers = count()
        self._open: dict[int, float] = {}
        self._ended: deque[tuple[float, float, Any, str]] = deque(maxlen=KEPT)

    async def make(self, player: Any, trigger: Callable[[], Awaitable[Any]]) -> bool:
        """Make one call of a player, or to one. Return whether it got a result."""
        number, begun_at, outcome = next(self._numbers), time.monotonic(), "OK"
        self._open[number] = begun_at
        self.begun += 1
        try:
            await trigger()
        except CallbackError as error:
            outcome = str(error.code_name)
        del self._open[number]
        self.outcomes[outcome] += 1
        self._ended.append((begun_at, time.monotonic(), player, outcome))
        return outcome == "OK"

    def report(self, since: float) -> dict[str, Any]:
        """Return what happened since a moment, for each player.

        `works_at` is when the first call ended with a result that was made after the last one that failed.
        """
        players: dict[Any, dict[str, Any]] = {}
        for begun_at, ended_at, player, outcome in self._ended:
            if ended_at < since:
                continue
            found = players.setdefault(player, {"failed": Counter(), "failed_at": since, "works_at": None})
            if outcome != "OK":
                found["failed"][outcome] += 1
                found["failed_at"], found["works_at"] = ended_at, None
            elif found["works_at"] is None and begun_at >= found["failed_at"]:
                found["works_at"] = ended_at
        return {
            "players": [[player, found["failed"], found["works_at"]] for player, found in players.items()],
            "oldest": min(self._open.values(), default=None),
            "begun": self.begun,
            "open": len(self._open),
            "outcomes": self.outcomes,
        }


async def obey(commands: dict[str, Callable[..., Any]]) -> None:
    """Obey commands until standard input ends: each is a JSON list of a name and arguments, on a line.

    Each prints a line: its name, and what it returned, as JSON.
    """
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = json.loads(line)
        print(name, json.dumps(commands[name](*arguments)), flush=True)
