"""`ringback stats`: print the broker's counters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from ringback_cli.connection import Connection, connects
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import JSONOption, seconds, whole_number
from ringback_cli.output import print_json, print_table
from ringback_cli.rows import all_rows

if TYPE_CHECKING:
    from ringback import Operator


@connects()
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
    as_json: JSONOption = False,
) -> None:
    """Print what the broker has counted since it started. docs/operations.md says what each counter means.

    Example: ringback stats --interval 2
    """
    if count is not None and interval is None:
        raise Failure(Exit.USAGE, "--count: it limits --interval, so give --interval too")
    with connection.operator() as operator:
        if interval is None:
            _print_counters(_counters(operator, connection), {}, 0.0, as_json)
            return
        before: dict[str, int] = {}
        asked_at, due_at, printed = 0.0, time.monotonic(), 0
        with connection.time_limit.ends_quietly():
            while connection.time_limit.next_round():
                now = time.monotonic()
                counters = _counters(operator, connection)
                _print_counters(counters, before, now - asked_at, as_json)
                printed += 1
                if printed == count:
                    return
                before, asked_at = counters, now
                due_at += interval
                time.sleep(connection.time_limit.pause_s(due_at - time.monotonic()))
    if count is not None:
        raise Failure(Exit.TIMEOUT, f"printed {printed} of {count} tables before the time was over")


def _counters(operator: Operator, connection: Connection) -> dict[str, int]:
    return {row[0]: row[1] for row in all_rows(operator, "counters", connection)}


def _print_counters(
    counters: dict[str, int], before: dict[str, int], elapsed_s: float, as_json: bool
) -> None:
    from ringback.protocol.significant import rounded

    rates = {
        name: rounded((value - before[name]) / elapsed_s)
        for name, value in counters.items()
        if name in before and value >= before[name]  # a lower value: the broker was restarted
    }
    if as_json:
        print_json({"counters": counters, "a_second": rates} if rates else {"counters": counters})
    elif rates:
        rows = [[name, value, rates.get(name)] for name, value in counters.items() if value]
        print_table(["counter", "total", "a second"], rows)
    else:
        print_table(["counter", "total"], [[name, value] for name, value in counters.items()])
