"""`ringback drain`: make the broker drain and stop."""

from __future__ import annotations

from ringback_cli.connection import Connection, connects
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import GraceOption, parse_addresses
from ringback_cli.output import print_json


@connects()
def drain(
    connection: Connection,
    grace: GraceOption = None,
) -> None:
    """Make the broker drain and stop, as SIGTERM does: nobody joins, and calls in flight may end.

    The command returns when the broker has begun to drain.

    Example: ringback drain --grace 30
    """
    if len(addresses := parse_addresses(connection.backend, "--backend")) > 1:
        reason = f"only one broker drains at a time, so give one address, not {len(addresses)}"
        raise Failure(Exit.USAGE, f"--backend: {reason}")
    with connection.operator() as operator:
        operator.drain(grace, timeout=connection.left_s()).result()
    print_json({"draining": connection.backend})
