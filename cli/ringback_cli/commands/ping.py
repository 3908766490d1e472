"""`ringback ping`: check that the broker answers, and measure how fast."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ringback_cli.connection import Connection, connects
from ringback_cli.options import JSONOption, whole_number
from ringback_cli.output import print_json
from ringback_cli.progress import progress
from ringback_cli.tables import Column, Kind, print_table

_SHARES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@connects()
def ping(
    connection: Connection,
    count: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=whole_number("--count", 1, 10_000),
            help="The number of round trips, at most 10000.",
        ),
    ] = 3,
    as_json: JSONOption = False,
) -> None:
    """Make round trips to the broker, one after the other, and print how long they took.

    Exit code 0 means that the broker answers.

    Example: ringback ping --count 100
    """
    round_trips_ms: list[float] = []
    with (
        connection.operator() as operator,
        progress("round trips", count, quiet=as_json) as step,
    ):
        for _ in range(count):
            begun_at = time.perf_counter()
            operator.ping(timeout=connection.left_s()).result()
            round_trips_ms.append(round((time.perf_counter() - begun_at) * 1000, 3))
            step()
        broker = operator.address
    ranked = sorted(round_trips_ms)
    quantiles = {name: ranked[round(share * (count - 1))] for name, share in _SHARES.items()}
    if as_json:
        named = {f"{name}_ms": value for name, value in quantiles.items()}
        print_json({"broker": broker, "round_trips_ms": round_trips_ms, **named})
    else:
        times = [Column(f"{name}_ms", f"{name} ms") for name in quantiles]
        columns = [Column("broker", "broker", Kind.PROSE), Column("count", "round trips"), *times]
        print_table(columns, [[broker, count, *quantiles.values()]])
