"""Fixtures: a NATS server with a realm, and nodes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from support.nats_servers import NatsServer, make_realm
from support.nodes import Lines, Node
from support.promises import promise as promise


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    """Start a NATS server with a realm, for this test alone."""
    with NatsServer() as server:
        make_realm(server.address)
        yield server


@pytest.fixture
def node(nats: NatsServer) -> Iterator[Node]:
    """Return a node that is in contact with its realm."""
    with Node(nats.address) as node:
        node.wait(lambda: node.in_contact, "contact")
        yield node


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Return what the broker logs."""
    handler, log = Lines(), logging.getLogger("ringback.broker")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler.lines
    log.removeHandler(handler)
    log.setLevel(before)
