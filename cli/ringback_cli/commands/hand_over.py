"""`ringback hand-over`: have the next server act."""

from __future__ import annotations

from ringback_cli.connection import Connection, connects
from ringback_cli.output import print_json


@connects()
def hand_over(connection: Connection) -> None:
    """Have the next server act, one that stands by. The present one finishes what it has begun, and leaves.

    The command returns when the next server acts. No call fails.

    Example: ringback hand-over
    """
    with connection.operator() as operator:
        operator.hand_over(timeout=connection.left_s()).result()
        print_json({"handed_over": operator.address})
