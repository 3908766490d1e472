"""`ringback callbacks`: print which callbacks are registered, and how their calls went."""

from __future__ import annotations

from ringback_cli.connection import Connection, connects
from ringback_cli.options import JSONOption
from ringback_cli.rows import print_rows, rows_for

_HEADS = ("key", "side", "endpoints", "in flight", "calls", "errors", "a second", "p50 ms", "p99 ms")


@connects()
def callbacks(connection: Connection, as_json: JSONOption = False) -> None:
    """Print the callbacks that are registered or were called.

    For each callback: its key, which side handles it, and how many endpoints have registered it. Then its
    calls in flight now, its calls that have ended since the broker started, and how many of them failed.
    Then, in the last minute, how many calls ended a second, and the latencies that 50 % and 99 % of those
    with results did not exceed, at most 2 % wrong. "-" means that there were none. The latency of a server's
    callback is the time that its handler takes to reply. That of a player's callback includes the way there
    and back.

    Example: ringback callbacks
    """
    print_rows("callbacks", _HEADS, rows_for(connection, "callbacks"), as_json)
