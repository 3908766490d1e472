"""How many descriptors this process may have: each connection takes one."""

from __future__ import annotations

import logging
import resource
from contextlib import suppress
from dataclasses import replace

from ringback_broker.settings.schema import BrokerSettings

log = logging.getLogger("ringback.broker")

RESERVED = 256
"""Descriptors for everything else: libzmq's sockets, the log, the program that embeds a broker."""

STRANGERS_SHARE = 10
"""For each ten players there is room for one stranger: a connection that has no session."""


def connections(max_players: int, max_operators: int) -> tuple[int, int]:
    """Return how many connections the broker should have room for, on the players' side and on the
    backend."""
    # Another peer may come before the connection of one that was refused has closed.
    return max_players + max_players // STRANGERS_SHARE + 100, 2 * (max_operators + 1)


def fit_players(settings: BrokerSettings) -> tuple[BrokerSettings, int]:
    """Raise the limit of descriptors for all who may join, or lower `max_players` to what it allows.

    Returns:
        The settings that hold, and how many connections there may be on the players' side.
    """
    wanted, trusted = connections(settings.max_players, settings.max_operators)
    room = max(_raise_limit(wanted + trusted) - trusted, 1)
    if room < wanted:
        players = max(1, room - room // STRANGERS_SHARE - 1)
        log.warning(
            "max_players is %d, not %d: that takes %d descriptors (ulimit -n, LimitNOFILE=)",
            players,
            settings.max_players,
            wanted + trusted + RESERVED,
        )
        settings = replace(settings, max_players=players)
    return settings, room


def _raise_limit(connections: int) -> int:
    """Raise the limit as far as needed and allowed. Return how many connections there is room for."""
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
