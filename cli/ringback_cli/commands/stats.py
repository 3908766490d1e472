"""`ringback stats`: print the broker's counters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.connection import Connection, connects
from ringback_cli.exits import Exit, Failure
from ringback_cli.node_option import NodeOption
from ringback_cli.options import JSONOption, check_node, seconds, whole_number
from ringback_cli.output import print_json
from ringback_cli.realm_rows import Found, find
from ringback_cli.rows import counter_sums
from ringback_cli.tables import Column, Kind, print_table

if TYPE_CHECKING:
    from ringback import Operator

Counters = dict[str, int]


@connects(endless="with --interval")
def stats(
    connection: Connection,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            metavar="SECONDS",
            parser=seconds("--interval", "from 0.1 to 86400", lambda given: 0.1 <= given <= 86400),
            help="Print again every SECONDS, with the increase a second, until Ctrl-C. [default: print once]",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            metavar="N",
            parser=whole_number("--count", 1),
            help="With --interval: stop after N times. [default: no limit]",
        ),
    ] = None,
    node: NodeOption = None,
    as_json: JSONOption = False,
) -> None:
    """Print what the broker has counted since it started. docs/operations.md says what each counter means.

    In a realm, print the sums of all nodes, with a column for each node. A frame between two nodes counts at
    both.

    Example: ringback stats --interval 2
    """
    if count is not None and interval is None:
        raise Failure(Exit.USAGE, "--count: it limits --interval, so give --interval too")
    at = check_node(node)
    with connection.operator() as operator:
        if interval is None:
            found = _find(operator, connection, at)
            _print_counters(found, {}, 0.0, as_json)
            found.check()
            return
        before: Counters = {}
        asked_at, due_at, printed = 0.0, time.monotonic(), 0
        with connection.time_limit.ends_quietly():
            while connection.time_limit.next_round():
                now = time.monotonic()
                found = _find(operator, connection, at)
                _print_counters(found, before, now - asked_at, as_json)
                printed += 1
                if printed == count:
                    found.check()
                    return
                # Without all nodes, the sums say nothing about how much they have grown.
                before, asked_at = {} if found.missing else counter_sums(found), now
                due_at += interval
                time.sleep(connection.time_limit.pause_s(due_at - time.monotonic()))
    if count is not None:
        raise Failure(Exit.TIMEOUT, f"printed {printed} of {count} tables before the time was over")


def _find(operator: Operator, connection: Connection, node: str | None) -> Found:
    return find(operator, "counters", connection, node)


def _by_node(found: Found) -> dict[str | None, Counters]:
    """Return the counters by node. A broker alone has no name."""
    by_node: dict[str | None, Counters] = {}
    for node, name, value, *_ in found.rows:
        by_node.setdefault(node, {})[name] = value
    return by_node


def _print_counters(found: Found, before: Counters, elapsed_s: float, as_json: bool) -> None:
    from ringback.protocol.significant import rounded

    counters, by_node = counter_sums(found), _by_node(found)
    rates = {
        name: rounded((value - before[name]) / elapsed_s)
        for name, value in counters.items()
        if name in before and value >= before[name]  # a lower value: the broker was restarted
    }
    if as_json:
        fields: dict[str, Any] = {"counters": counters, **({"a_second": rates} if rates else {})}
        print_json({**fields, "nodes": by_node} if found.in_realm else fields)
        return
    nodes = list(by_node) if found.in_realm else []
    columns = [
        Column("counter", "counter", Kind.WORD),
        Column("total", "total"),
        *([Column("a_second", "a second")] if rates else []),
        *(Column(f"node_{node}", f"node {node}", gives_way=place) for place, node in enumerate(nodes, 1)),
    ]
    rows = [
        [name, value, *([rates.get(name)] if rates else []), *(by_node[node].get(name) for node in nodes)]
        for name, value in counters.items()
        if value or not rates
    ]
    print_table(columns, rows)
