"""How many descriptors this process may have: each connection takes one."""

from __future__ import annotations

import errno
import logging
import os
import resource
from contextlib import suppress
from dataclasses import replace

from ringback_broker.settings.schema import BrokerSettings

log = logging.getLogger("ringback.broker")

RESERVED = 256
"""Descriptors for everything else: libzmq's sockets, the log, the program that embeds a broker."""

STRANGERS_SHARE = 10
"""For each ten players there is room for one stranger: a connection that has no session."""

LOOK_S = 1.0
"""How often the broker looks whether a descriptor is left."""

_NONE_LEFT = "no descriptor is left: %s: nobody can connect; raise the limit (ulimit -n, LimitNOFILE=)"


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


class DescriptorWatch:
    """Says in the log that no descriptor is left. libzmq accepts nobody then, and says nothing.

    Args:
        descriptor: any that is open as long as this is used.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._look_at = 0.0
        self._failed = False

    def tick(self, now: float) -> None:
        """Try to get a descriptor if it is time, and log what has changed."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        try:
            os.close(os.dup(self._descriptor))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            if not self._failed:
                self._failed = True
                log.error(_NONE_LEFT, error.strerror)
        else:
            if self._failed:
                self._failed = False
                log.info("there are descriptors again: peers can connect")
