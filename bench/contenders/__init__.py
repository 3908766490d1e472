"""The contenders of the benchmark. Each has a file with the same small interface:

- `NOTE`: what it is, and whether the comparison is fair.
- `start_broker(stack)`: start the broker between the two sides, and return a `Middle`. run.py calls it.
- `Server` and `Players`: the two sides. Each is a `ringback_cli.load.End`, in a process of its own.
- `PROGRAM`, if it needs one: the name of the broker's program.
"""

from __future__ import annotations

from subprocess import Popen
from typing import Any, NamedTuple


class Middle(NamedTuple):
    """The broker between the two sides, if there is one, and its addresses.

    Attributes:
        process: the broker's process, or None if players connect to the server.
        players: the address that players connect to.
        backend: the address that the server connects to, or listens on.
        settings: arguments for the two sides, by role.
    """

    process: Popen[str] | None
    players: str
    backend: str
    settings: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - never changed
