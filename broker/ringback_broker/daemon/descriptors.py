"""How many descriptors this process may have: one for each connection."""

from __future__ import annotations

import resource
from contextlib import suppress

RESERVED = 256
"""For all else: sockets of libzmq, the log, a Python of whoever embeds a broker."""

STRANGERS_SHARE = 10
"""For each ten players, one connection more that has not said HELLO yet or was refused."""


def connections(max_players: int, max_operators: int) -> tuple[int, int]:
    """Gives how many connections there should be room for, on the players' and on the trusted side."""
    # Somebody else may come before one that was refused is gone.
    return max_players + max_players // STRANGERS_SHARE + 100, 2 * (max_operators + 1)


def make_room(connections: int) -> int:
    """Raises the limit so far as is needed and allowed; gives how many connections there is room for."""
    wanted = connections + RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        unlimited = hard == resource.RLIM_INFINITY
        for limits in ((wanted, hard if unlimited else max(hard, wanted)), (hard, hard)):
            with suppress(ValueError, OSError):  # above the hard limit only with CAP_SYS_RESOURCE
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                break
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == resource.RLIM_INFINITY else min(connections, soft - RESERVED)
