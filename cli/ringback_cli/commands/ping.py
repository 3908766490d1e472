"""`ringback ping`: whether the broker lives, and how fast it answers."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ringback_cli.connection import Keys, operator, result_of
from ringback_cli.options import (
    CONNECT_S,
    DEFAULT_BACKEND,
    BackendOption,
    BrokerKeyOption,
    JSONOption,
    KeyFileOption,
    Patience,
    ShortTimeoutOption,
    check_timeout,
)
from ringback_cli.output import print_json, print_table, progress

_SHARES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def ping(
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many round trips.")] = 3,
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Make round trips to the broker, one after the other, and print how long they took.

    Exit code 0: it lives.

    Example: ringback ping --count 100
    """
    check_timeout(timeout)
    patience = Patience(timeout, CONNECT_S)
    round_trips_ms: list[float] = []
    with (
        operator(backend, patience, Keys(key_file, broker_key)) as endpoint,
        progress("round trips", count, quiet=as_json) as step,
    ):
        for _ in range(count):
            begun_at = time.perf_counter()
            result_of(endpoint.ping(timeout=patience.left_s()))
            round_trips_ms.append(round((time.perf_counter() - begun_at) * 1000, 3))
            step()
    ranked = sorted(round_trips_ms)
    shares = {name: ranked[round(share * (count - 1))] for name, share in _SHARES.items()}
    if as_json:
        print_json({"broker": backend, "round_trips_ms": round_trips_ms, **_with_unit(shares)})
    else:
        heads = ["broker", "round trips", *(f"{name} ms" for name in shares)]
        print_table(heads, [[backend, count, *shares.values()]])


def _with_unit(shares: dict[str, float]) -> dict[str, float]:
    return {f"{name}_ms": value for name, value in shares.items()}
