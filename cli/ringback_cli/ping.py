"""`ringback ping`: whether the broker lives."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ringback_cli.connecting import Keys, operator, result_of
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


def ping(
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many round trips.")] = 3,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Make round trips to the broker, and print how long each took. Exit code 0: it lives."""
    check_timeout(timeout)
    patience = Patience(timeout, CONNECT_S)
    round_trips_ms: list[float] = []
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        for _ in range(count):
            begun_at = time.perf_counter()
            result_of(endpoint.ping(timeout=patience.left_s()))
            round_trips_ms.append(round((time.perf_counter() - begun_at) * 1000, 3))
    print_json({"broker": backend, "round_trips_ms": round_trips_ms})
