"""What is measured, a file for each, all with the same small interface:

- `NOTE`: what it is, and whether the comparison is fair.
- `start_broker(stack)`: starts what stands between the two sides, and gives a `Middle`. Called by the driver.
- `Server` and `Players`: the two sides, each a `ringback_cli.load.End`, in a process of its own.
"""

from __future__ import annotations

from subprocess import Popen
from typing import Any, NamedTuple


class Middle(NamedTuple):
    """What stands between the two sides.

    Attributes:
        process: of it; None where the server is what players connect to.
        players: where players connect to.
        backend: where the server connects to, or listens.
        settings: of the two sides, by role.
    """

    process: Popen[str] | None
    players: str
    backend: str
    settings: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - never changed
