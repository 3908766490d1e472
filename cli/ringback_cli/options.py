"""Options and arguments that several commands have, and what is checked of them."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ringback_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from ringback import PlayerID

# The broker has the same. Its module is not imported for them: it takes longer than all of `--help`.
DEFAULT_PLAYERS = "tcp://127.0.0.1:5770"
DEFAULT_BACKEND = "tcp://127.0.0.1:5771"

CONNECT_S = 5.0
CALL_S = 15.0

BackendOption = Annotated[
    str,
    typer.Option(
        "--backend", metavar="ADDR", envvar="RINGBACK_BACKEND", help="The broker's address for operators."
    ),
]
PlayersOption = Annotated[
    str,
    typer.Option(
        "--players", metavar="ADDR", envvar="RINGBACK_PLAYERS", help="The broker's address for players."
    ),
]
KeyFileOption = Annotated[
    str | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        envvar="RINGBACK_KEY_FILE",
        help="One's own key, made by `ringback keys new`.",
    ),
]
BrokerKeyOption = Annotated[
    str | None,
    typer.Option(
        "--broker-key",
        metavar="KEY",
        envvar="RINGBACK_BROKER_KEY",
        help="The broker's public key, where the key file does not name it.",
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help=f"Bounds the whole command, connecting included; inf: no bound. "
        f"[default: {CALL_S:g}, of which {CONNECT_S:g} to connect]",
    ),
]
ShortTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help=f"Bounds the whole command, connecting included; inf: no bound. [default: {CONNECT_S:g}]",
    ),
]
JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")]
StringIDOption = Annotated[
    bool, typer.Option("--string-id", help="A player ID that looks like an int is a str all the same.")
]
PayloadArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="PAYLOAD", help="JSON, @FILE, or - for standard input. Default: null.", show_default=False
    ),
]

_INT = re.compile(r"-?(0|[1-9][0-9]*)")


def parse_player_id(text: str, string_id: bool, name: str) -> PlayerID:
    """Gives the player ID that a text stands for: an int if it looks like one, else a str.

    007 and +7 do not look like one: as ints they would be another ID than the one written.

    Raises:
        Failure: it is no player ID; the message begins with `name`.
    """
    from ringback.protocol.player_ids import check_player_id

    try:
        if string_id or not _INT.fullmatch(text):
            return check_player_id(text)
        if len(text) > 30:  # int() has a limit of its own, with a message of its own
            raise ValueError("an int of so many digits is not a player ID")
        return check_player_id(int(text))
    except ValueError as error:
        hint = "" if string_id or not _INT.fullmatch(text) else " (--string-id makes it a str)"
        raise Failure(Exit.USAGE, f"{name}: {error}{hint}") from None


def check_key(key: str) -> str:
    """Gives the key back.

    Raises:
        Failure: it is no key.
    """
    from ringback.protocol import names

    try:
        return names.check_key(key)
    except ValueError as error:
        raise Failure(Exit.USAGE, f"KEY: {error}") from None


def check_timeout(timeout_s: float | None) -> float | None:
    """Gives the timeout back.

    Raises:
        Failure: it is not a number above 0.
    """
    if timeout_s is not None and not timeout_s > 0:  # NaN too
        raise Failure(Exit.USAGE, f"--timeout: seconds above 0, or inf, not {timeout_s:g}")
    return timeout_s


class Patience:
    """How much of a command's time is left. It begins to count when it is made.

    Args:
        timeout_s: what the user said, checked; None for nothing.
        default_s: what holds then.
    """

    def __init__(self, timeout_s: float | None, default_s: float) -> None:
        self._ends_at = time.monotonic() + (default_s if timeout_s is None else timeout_s)
        self._connect_s = CONNECT_S if timeout_s is None else timeout_s

    def connecting_s(self) -> float:
        """Gives how long connecting may take; the SDK wants a number here, above 0."""
        left_s = self.left_s()
        return min(self._connect_s, 1e8 if left_s is None else max(left_s, 0.001), 1e8)

    def left_s(self) -> float | None:
        """Gives what is left, 0 at the least; None for no bound."""
        if math.isinf(self._ends_at):
            return None
        return max(0.0, self._ends_at - time.monotonic())
