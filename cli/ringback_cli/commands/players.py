"""`ringback players`: who is connected."""

from __future__ import annotations

from ringback_cli.options import (
    DEFAULT_BACKEND,
    BackendOption,
    BrokerKeyOption,
    JSONOption,
    KeyFileOption,
    ShortTimeoutOption,
)
from ringback_cli.rows import print_rows, rows_for

_PLAYER_HEADS = (
    *("player", "connected s", "callbacks", "IP", "identity", "heard s ago", "window used %"),
    *("calls", "errors", "rtt ms"),
)


def players(
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Print who is connected, in order of joining.

    For each player: how long it has been connected, how many callbacks it has registered, its IP, its
    identity (the name of its key or token), when its last frame came, and how much of its window is used:
    bytes that were sent to it and that it has not confirmed. At 100 % nothing but control frames goes to
    it. Then its calls in both directions that have ended, how many of them failed, and its round-trip time.

    Example: ringback players --json
    """
    rows = rows_for("players", timeout, backend, key_file, broker_key)
    print_rows("players", _PLAYER_HEADS, rows, as_json)
