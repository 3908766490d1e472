"""What grew since brokers started, and how fast it grows, over all nodes of a realm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ringback.protocol.significant import rounded

Row = dict[str, Any]

Callback = tuple[str, str]
"""A key and a side."""

ByNode = dict[str, dict[str, int]]
"""Values by the name of the node, and by their own name. A broker alone has an empty name."""


Latencies = dict[str, dict[int, int]]
"""How many calls of a side there are, by fine class of latency."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What grew since brokers started, by node: a node may be missing now and then.

    Attributes:
        counters: the counters.
        failed: how many calls failed, by the name of the error code.
        calls: how many calls ended, under the name `calls`.
    """

    counters: ByNode
    failed: ByNode
    calls: ByNode


def count_totals(callbacks: list[Row], counted: list[Row]) -> Totals:
    """Return what grew since brokers started."""
    totals = Totals({}, {}, {})
    for row in counted:
        name = row.get("node", "")
        totals.counters.setdefault(name, {})[row["name"]] = row["value"]
        totals.failed.setdefault(name, {})
        totals.calls.setdefault(name, {"calls": 0})
    for row in callbacks:
        name = row.get("node", "")
        failed, calls = totals.failed.setdefault(name, {}), totals.calls.setdefault(name, {"calls": 0})
        calls["calls"] += row["calls"]
        for code, count in row["failed"].items():
            failed[code] = failed.get(code, 0) + count
    return totals


def add_latencies(rows: list[Row]) -> Latencies:
    """Return the calls of all nodes together. Their classes are the same at all nodes, so nothing is lost."""
    found: Latencies = {}
    for row in rows:
        counts = found.setdefault(row["side"], {})
        for number, count in zip(row["classes"], row["counts"], strict=True):
            counts[number] = counts.get(number, 0) + count
    return found


def sums(by_node: ByNode) -> dict[str, int]:
    """Return the values of all nodes together, by their name."""
    found: dict[str, int] = {}
    for values in by_node.values():
        for name, value in values.items():
            found[name] = found.get(name, 0) + value
    return found


def growth(now: ByNode, before: ByNode, elapsed_s: float) -> dict[str, float]:
    """Return by how much values grew per second at the nodes that answered both times, and still run."""
    grown: dict[str, int] = {}
    for node in now.keys() & before.keys():
        for name, value in now[node].items():
            grown[name] = grown.get(name, 0) + max(0, value - before[node].get(name, 0))
    return {name: rounded(value / elapsed_s) for name, value in grown.items()}
