"""`ringback stats`: what the broker has counted."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ringback_cli.connection import Keys, operator
from ringback_cli.exits import Exit, Failure
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
from ringback_cli.output import print_json, print_table
from ringback_cli.rows import all_rows


def stats(
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            metavar="SECONDS",
            help="Print again so often, with what was added a second, until Ctrl-C.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="With --interval: so many times.")
    ] = None,
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Print what the broker has counted since it started. docs/operations.md says what each figure means.

    Example: ringback stats --interval 2
    """
    check_timeout(timeout)
    if interval is not None and not 0.1 <= interval <= 86400:
        raise Failure(Exit.USAGE, f"--interval: 0.1 to 86400 seconds, not {interval:g}")
    if count is not None and interval is None:
        raise Failure(Exit.USAGE, "--count: it says how many times --interval prints; give both")
    patience = Patience(timeout, CONNECT_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        before: dict[str, int] = {}
        asked_at, due_at, printed = 0.0, time.monotonic(), 0
        while True:
            now = time.monotonic()
            counted = {row[0]: row[1] for row in all_rows(endpoint, "counters", patience)}
            _print_counters(counted, before, now - asked_at, as_json)
            printed += 1
            if interval is None or printed == count:
                return
            before, asked_at = counted, now
            due_at += interval
            time.sleep(max(0.0, due_at - time.monotonic()))
            patience = Patience(timeout, CONNECT_S)


def _print_counters(counted: dict[str, int], before: dict[str, int], elapsed_s: float, as_json: bool) -> None:
    rates = {
        name: round((value - before[name]) / elapsed_s, 1)
        for name, value in counted.items()
        if name in before
    }
    if as_json:
        print_json({"counters": counted, "a_second": rates} if rates else {"counters": counted})
    elif rates:
        print_table(["counter", "total", "a second"], [[k, v, rates[k]] for k, v in counted.items() if v])
    else:
        print_table(["counter", "total"], [[name, value] for name, value in counted.items()])
