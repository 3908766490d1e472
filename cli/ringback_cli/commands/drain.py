"""`ringback drain`: make the broker drain and stop."""

from __future__ import annotations

from typing import Annotated

import typer

from ringback_cli.connection import Connection, connects, result_of
from ringback_cli.exits import Exit, Failure
from ringback_cli.output import print_json


@connects()
def drain(
    connection: Connection,
    grace: Annotated[
        float | None,
        typer.Option(
            "--grace",
            metavar="SECONDS",
            help="How long calls in flight may take to end. [default: the broker's setting `grace`]",
        ),
    ] = None,
) -> None:
    """Make the broker drain and stop, as SIGTERM does: nobody joins, and calls in flight may end.

    The command returns when the broker has begun to drain.

    Example: ringback drain --grace 30
    """
    from ringback.protocol.limits import MAX_GRACE_S

    if grace is not None and not 0 < grace <= MAX_GRACE_S:
        raise Failure(
            Exit.USAGE, f"--grace: the seconds must be above 0 and at most {MAX_GRACE_S}, not {grace:g}"
        )
    with connection.operator() as operator:
        result_of(operator.drain(grace, timeout=connection.left_s()))
    print_json({"draining": connection.backend})
