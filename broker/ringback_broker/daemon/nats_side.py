"""Opening the link of a broker to NATS, if it is a node of a realm."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ringback.extras import install_command
from ringback_broker.settings.kinds import MAX_NAME_CHARS
from ringback_broker.settings.schema import BrokerSettings, InvalidSetting

if TYPE_CHECKING:
    from ringback_broker.nats.facts import NatsServerFacts
    from ringback_broker.nats.link import NatsLink
    from ringback_broker.nats.login import Login
    from ringback_broker.nats.names import RealmNames


class RealmFailed(Exception):
    """This broker cannot be a node of its realm. The message says why, and what to do."""


def node_name(settings: BrokerSettings) -> str:
    """Return the name of this node: that of the settings, or of the host."""
    if settings.node is not None:
        return settings.node
    host = socket.gethostname().split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "-", host)[:MAX_NAME_CHARS] or "node"


def load_realm(settings: BrokerSettings) -> tuple[Login, RealmNames]:
    """Return how to log in to NATS, and the names of the realm there.

    Raises:
        InvalidSetting: a package is missing, there are no addresses, or a file cannot be used.
    """
    try:
        import nats  # noqa: F401

        from ringback_broker.nats.login import load_login
        from ringback_broker.nats.names import RealmNames
    except ImportError as error:
        why = f"{error.name} is not installed: {install_command('cluster')}"
        raise InvalidSetting("cluster", why) from None
    if settings.cluster is None:
        raise InvalidSetting(
            "cluster", "it must name the addresses of NATS: nats://HOST:PORT, with commas between"
        )
    login = load_login(
        tuple(settings.cluster.split(",")),
        settings.nats_credentials,
        settings.nats_ca,
        settings.nats_cert,
        settings.nats_key,
    )
    return login, RealmNames(settings.realm)


def create_realm(settings: BrokerSettings, replicas: int) -> bool:
    """Make the bucket of a realm. Return whether it was made: False if it is there, as it must be.

    Raises:
        InvalidSetting: a package is missing, there are no addresses, or a file cannot be used.
        RealmFailed: NATS is not there, does not allow it, or has a bucket that differs.
    """
    login, names = load_realm(settings)
    from ringback_broker.nats.making import make
    from ringback_broker.nats.problems import Problem

    try:
        return make(login, names, replicas)
    except Problem as problem:
        raise RealmFailed(str(problem)) from None


def look_at_nats(settings: BrokerSettings, within_s: float | None) -> list[NatsServerFacts]:
    """Look at each NATS server of the settings: is it as a node of the realm needs it?

    Args:
        within_s: how long that may take; None: as long as it takes.

    Raises:
        InvalidSetting: a package is missing, there are no addresses, or a file cannot be used.
    """
    login, names = load_realm(settings)
    from ringback_broker.nats.looking import look

    return look(login, names, node_name(settings), within_s)


def make_link(
    settings: BrokerSettings,
    software: str,
    fail: Callable[[str], None],
    contain: Callable[[str, Exception], None],
) -> NatsLink:
    """Return the link of this node to NATS. It connects once it is started.

    Args:
        software: what runs, with its version.
        fail, contain: as of `NatsLink`.

    Raises:
        InvalidSetting: a package is missing, there are no addresses, or a file cannot be used.
    """
    login, names = load_realm(settings)
    from ringback_broker.nats.link import NatsLink

    node = node_name(settings)
    return NatsLink(login, names, node, f"{software} node {node}", fail, contain)
