"""The latest calls that failed, as sentences: the broker keeps some of them without a watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ringback_cli.connection import Connection
from ringback_cli.realm_rows import find
from ringback_cli.rows import with_nodes

if TYPE_CHECKING:
    from ringback import Operator

MAX_FAILURES = 5
"""The number of failed calls that are printed, the latest ones."""

Row = dict[str, Any]


def describe_failures(
    operator: Operator,
    connection: Connection,
    callbacks: Sequence[Row],
    node: str | None,
    is_wanted: Callable[[Row], bool],
) -> list[str]:
    """Return a sentence for each of the latest failed calls of a kind, the latest last.

    Args:
        callbacks: the broker's rows of callbacks. They show whether it has failed calls at all: an older
            broker would end the session of an operator that asks for them.
        node: the node to ask; None: all of the realm.
    """
    from ringback import Forbidden

    if not any(row.get("failures") for row in callbacks):
        return []
    try:
        found = find(operator, "failures", connection, node)
    except Forbidden:
        return ["this operator may not give orders, and so not see which calls failed"]
    failed = sorted(filter(is_wanted, with_nodes("failures", found)), key=lambda row: float(row["unix_s"]))
    return [_describe(row) for row in failed[-MAX_FAILURES:]]


def _describe(row: Row) -> str:
    from ringback.protocol.reports import duration_ms, way

    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["unix_s"]))
    took_ms = duration_ms(row["took_s"])
    took = "" if took_ms is None else f" after {took_ms:.3f} ms"
    at = f", reported at node {row['node']!r}" if "node" in row else ""
    return f"{when} UTC {way(row['side'], row['player'])}, {row['key']!r}: {row['code']}{took}{at}"
