"""`ringback callbacks`: what is registered, and how calls of it go."""

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

_CALLBACK_HEADS = (
    *("key", "side", "endpoints", "in flight", "calls", "errors", "a second", "p50 ms", "p99 ms"),
)


def callbacks(
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Print the callbacks that are registered or called: key, by which side, and by how many endpoints.

    For each: calls in flight, those that have ended, how many of them failed; of the last minute how many a
    second, and the latencies that 50 and 99 of 100 did not exceed. Latencies of the server's callbacks are
    measured at the server, of players' there and back.

    Example: ringback callbacks
    """
    rows = rows_for("callbacks", timeout, backend, key_file, broker_key)
    print_rows("callbacks", _CALLBACK_HEADS, rows, as_json)
