"""Compute what a realm of a million players needs, from figures that were measured.

    python bench/realm_model.py [--players 1000000] [--a-node 20000] [--minutes 10]
        [--crowd docs/scale-crowd.json] [--calls docs/scale-calls.jsonl]

The two files are those of realm_crowd.py and of realm.py. What is assumed, and not measured, stands first.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from options import OneLineParser, whole_number

DOCS = Path(__file__).parent.parent / "docs"
WRITES_A_SESSION = 2
"""A record is made and deleted."""

HEARTBEAT_S = 5.0
BEAT_S = 1.0
RENEWAL_S = 2.0
NATS_WRITES_PER_S = 8000
"""What three nats-servers took of records that are created, on two shared cores."""


def medians(path: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Return the medians of calls between two nodes, by scenario and calls in flight."""
    rows: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if row.get("way") == "crossing":
            rows[row["scenario"], row["in_flight"]].append(row)
    return {
        where: {
            key: median(row[key] for row in found) for key, value in found[0].items() if type(value) is float
        }
        for where, found in rows.items()
    }


def model(
    crowd: dict[str, Any], calls: dict[tuple[str, int], dict[str, float]], options: argparse.Namespace
) -> list[tuple[str, str]]:
    """Return what the realm needs, line by line: what, and how much."""
    players, nodes = options.players, -(-options.players // options.a_node)
    joins = players / (60 * options.minutes)
    joins_a_node = joins / nodes
    writes = WRITES_A_SESSION * joins
    each = crowd["kib_a_player"]
    many = calls["up-100", 64]
    ceiling = 1e6 / max(many["cpu_server_us"], many["cpu_a_us"])
    idle = crowd["idle_percent"]
    idle_us = 1e4 * sum(idle[name] for name in idle if name.startswith("n") and name != "nats")
    idle_us /= crowd["players"]
    return [
        ("nodes", f"{nodes}, with {options.a_node:,} players each"),
        ("a node: memory", f"{options.a_node * each['node'] / 1024**2:.1f} GiB"),
        ("joins a second, in all and at each node", f"{joins:,.0f}, and {joins_a_node:.0f}"),
        ("a node: share of a core for joins", f"{1e-4 * joins_a_node * crowd['join_us_node']:.0f} %"),
        ("a node: share of a core for idle players", f"at most {1e-4 * options.a_node * idle_us:.0f} %"),
        (
            "records written a second",
            f"{writes:,.0f}: {100 * writes / NATS_WRITES_PER_S:.0f} % of what was measured",
        ),
        ("nats-server: share of a core for joins", f"{1e-4 * joins * crowd['join_us']['nats']:.0f} %"),
        ("each nats-server: memory for records", f"{players * each['nats'] / 1024**2:.1f} GiB"),
        (
            "messages a second between idle nodes",
            f"{nodes * (nodes - 1) / BEAT_S + nodes * nodes / RENEWAL_S:,.0f}",
        ),
        ("server process: memory for players", f"{players * each['server'] / 1024**2:.1f} GiB"),
        ("server process: share of a core for joins", f"{1e-4 * joins * crowd['join_us']['server']:.0f} %"),
        ("calls a second, at most", f"{ceiling:,.0f}: one a player in {players / ceiling:.0f} s"),
        (
            "server process: share of a core for these calls",
            f"{1e-4 * ceiling * many['cpu_server_us']:.0f} %",
        ),
        ("node with the seat: share of a core for these calls", f"{1e-4 * ceiling * many['cpu_a_us']:.0f} %"),
        (
            "each other node: share of a core for these calls",
            f"{1e-4 * ceiling * many['cpu_b_us'] / (nodes - 1):.0f} %",
        ),
        ("nats-server: share of a core for these calls", f"{1e-4 * ceiling * many['cpu_nats_us']:.0f} %"),
    ]


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--players", type=whole_number, default=1_000_000)
    parser.add_argument("--a-node", type=whole_number, default=20_000, help="assumed: the players of a node")
    parser.add_argument("--minutes", type=float, default=10.0, help="assumed: how long a player stays")
    parser.add_argument("--crowd", type=Path, default=DOCS / "scale-crowd.json")
    parser.add_argument("--calls", type=Path, default=DOCS / "scale-calls.jsonl")
    options = parser.parse_args()
    found = model(json.loads(options.crowd.read_text()), medians(options.calls), options)
    print(f"assumed: {options.a_node:,} players a node, {options.minutes:g} minutes a session\n")
    print("| what | how much |\n|---|---|")
    for what, how_much in found:
        print(f"| {what} | {how_much} |")


if __name__ == "__main__":
    main()
