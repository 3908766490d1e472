"""A link: its socket has the options in docs/protocol.md, and it says why its connection is gone."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import zmq

from ringback._runtime.link import Link, Loss
from ringback.protocol.limits import PLAYER_HEARTBEAT_S, TRUSTED_HEARTBEAT_S

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()


@pytest.mark.parametrize("trusted", [False, True])
def test_heartbeats_are_as_documented_and_find_a_silent_broker_within_two_seconds(trusted: bool) -> None:
    heartbeat_s = TRUSTED_HEARTBEAT_S if trusted else PLAYER_HEARTBEAT_S
    link = Link("tcp://127.0.0.1:1", trusted, int(1000 * heartbeat_s))
    try:
        for name in ("HEARTBEAT_IVL", "HEARTBEAT_TIMEOUT", "HEARTBEAT_TTL", "MAXMSGSIZE", "RECONNECT_IVL"):
            [row] = re.findall(rf"^\| `{name}` \| (\S+) \| (\S+) \|", DOCUMENT, re.MULTILINE)
            assert link.socket.getsockopt(getattr(zmq, name)) == int(row[trusted]), name
        silent_ms = link.socket.getsockopt(zmq.HEARTBEAT_IVL) + link.socket.getsockopt(zmq.HEARTBEAT_TIMEOUT)
        assert silent_ms <= 2000
    finally:
        link.close()


def loss_of(link: Link) -> Loss:
    """Wait until the connection of a link is gone, and return why."""
    loss = None
    while loss is None:
        assert link.monitor.poll(30_000)
        loss = link.lost()
    return loss


def test_a_connection_that_is_closed_within_the_handshake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = Link(f"tcp://127.0.0.1:{listener.getsockname()[1]}", False, 500)
        try:
            listener.accept()[0].close()
            loss = loss_of(link)
        finally:
            link.close()
    assert not link.answered
    assert loss.hint == "does the broker require a key pair? or does it limit the connections of this IP?"


def test_a_connection_that_is_closed_after_the_handshake_has_the_right_keys() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        link = Link(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}", False, 500)
        try:
            while not link.answered:
                assert link.monitor.poll(30_000)
                assert link.lost() is None
            router.close()
            loss = loss_of(link)
        finally:
            link.close()
    assert (loss.why, loss.hint) == (
        "the connection was closed",
        "does the broker limit the connections of this IP?",
    )
