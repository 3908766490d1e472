"""`ringback players`: who is connected."""

from __future__ import annotations

from ringback_cli.connecting import Keys, operator, player_rows
from ringback_cli.options import (
    CONNECT_S,
    DEFAULT_BACKEND,
    BackendOption,
    BrokerKeyOption,
    KeyFileOption,
    Patience,
    ShortTimeoutOption,
    check_timeout,
)
from ringback_cli.output import print_json


def players(
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Print who is connected: an array of {"player", "connected_s", "callbacks"}, in order of joining."""
    check_timeout(timeout)
    patience = Patience(timeout, CONNECT_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        rows = player_rows(endpoint, patience)
    # A newer broker may have more columns.
    print_json([{"player": row[0], "connected_s": round(row[1], 3), "callbacks": row[2]} for row in rows])
