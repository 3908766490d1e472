"""The processes of the demo with endpoints, and what they report."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cluster_demo.judging import Group
from support.harness import PATIENCE_S, Process

from ringback import LinkError, Player

HERE = Path(__file__).parent


class Worker(Process):
    """A process that obeys commands.

    Args:
        program: `crowd.py` or `keeper.py`.
        addresses: of all nodes.
    """

    def __init__(self, program: str, addresses: list[str], *arguments: str) -> None:
        super().__init__(str(HERE / program), ",".join(addresses), *arguments, stdin=subprocess.PIPE)

    def ask(self, command: str, *arguments: Any) -> Any:
        """Give a command, and return the answer."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps([command, *arguments]) + "\n")
        self.popen.stdin.flush()
        return json.loads(self.wait_for(rf"^{command} (.*)$")[1])


class State:
    """What all processes report of the time since a moment.

    Attributes:
        acting: the report of the server that acts; None: none does.
        oldest: when the oldest call was made that has not ended; infinite: there is none.
    """

    def __init__(self, crowds: list[Worker], servers: list[Worker], since: float) -> None:
        self.since = since
        self.crowds = [crowd.ask("report", since) for crowd in crowds]
        self.servers = [server.ask("report", since) for server in servers]
        self.acting = next((found for found in self.servers if found["acting"]), None)
        oldest = [found["oldest"] for found in (*self.crowds, *self.servers)]
        self.oldest = min((at for at in oldest if at is not None), default=float("inf"))

    def fill(self, group: Group) -> None:
        """Say what happened to the calls of a group, and to those to it."""
        group.failed, group.working = Counter(), {}
        ways: list[dict[Any, float | None]] = []
        for reports in (self.crowds, self.servers):
            works: dict[Any, float | None] = {}
            for player, failed, works_at in (row for report in reports for row in report["players"]):
                if reports is self.crowds or works.get(player) is None:
                    works[player] = works_at
                if player in group.players:
                    group.failed.update(failed)
            ways.append(works)
        for player in group.players:
            up, down = (works.get(player) for works in ways)
            if up is not None and down is not None:
                group.working[player] = max(up, down) - self.since

    def where(self) -> dict[str | None, set[Any]]:
        """Return the players at each address."""
        found: dict[str | None, set[Any]] = {}
        for crowd in self.crowds:
            for player, address in crowd["where"]:
                found.setdefault(address, set()).add(player)
        return found


class Joining:
    """A new player that joins, in a thread."""

    def __init__(self, address: str, player: int) -> None:
        self._player = Player(address, player, connect_timeout=PATIENCE_S)
        self._began_at = time.monotonic()
        self._took_s: float | None = None
        self._thread = threading.Thread(target=self._join, daemon=True)
        self._thread.start()

    def _join(self) -> None:
        try:
            with self._player:
                self._took_s = time.monotonic() - self._began_at
        except LinkError:
            pass  # `wait` says that it did not join

    def wait(self, within_s: float) -> float | None:
        """Return how long that took; None: it did not join."""
        self._thread.join(within_s)
        return self._took_s
