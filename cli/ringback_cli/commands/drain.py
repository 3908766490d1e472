"""`ringback drain`: has the broker drain and stop."""

from __future__ import annotations

from typing import Annotated

import typer

from ringback_cli.connection import Keys, operator, result_of
from ringback_cli.exits import Exit, Failure
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


def drain(
    grace: Annotated[
        float | None,
        typer.Option(
            "--grace",
            metavar="SECONDS",
            help="For calls in flight. [default: as its settings say]",
        ),
    ] = None,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Have the broker drain and stop, as SIGTERM does: nobody joins, and calls in flight may end.

    It returns when the broker has begun.

    Example: ringback drain --grace 30
    """
    from ringback.protocol.limits import MAX_GRACE_S

    check_timeout(timeout)
    if grace is not None and not 0 < grace <= MAX_GRACE_S:
        raise Failure(Exit.USAGE, f"--grace: seconds above 0, at most {MAX_GRACE_S}, not {grace:g}")
    patience = Patience(timeout, CONNECT_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        result_of(endpoint.drain(grace, timeout=patience.left_s()))
    print_json({"draining": backend})
