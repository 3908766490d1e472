"""Closing connections by their descriptors."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import zmq
from support.fakesockets import FakeMonitor
from support.harness import PATIENCE_S

from ringback_broker.daemon.log_lines import LogLines
from ringback_broker.daemon.socket_wire import SocketWire
from ringback_broker.net.kernel_connection import inode_of, shut_down
from ringback_broker.net.router_socket import RouterSocket
from ringback_broker.peers.connection import Connection, Side


def connection_of(connected: socket.socket) -> Connection:
    return Connection(connected.fileno(), "", inode=inode_of(connected.fileno()))


@pytest.fixture
def monitor() -> FakeMonitor:
    return FakeMonitor()


@pytest.fixture
def wire(monitor: FakeMonitor) -> Iterator[SocketWire]:
    context: zmq.Context[Any] = zmq.Context()
    with context.socket(zmq.ROUTER) as router:
        sockets = [RouterSocket(side, router, monitor, "nowhere") for side in Side]
        yield SocketWire(*sockets, LogLines(), drain=lambda grace_s: None, clock=lambda: 0.0)
    context.term()


def test_a_descriptor_that_was_closed_meanwhile_is_left_alone(wire: SocketWire, monitor: FakeMonitor) -> None:
    """It may be somebody else's by now."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = connection_of(ours)
        monitor.closed(ours.fileno())
        wire.close_connection(Side.PLAYERS, connection)
        assert theirs.send(b"still open") == 10
        wire.close_connection(Side.BACKEND, connection)  # no event there says that it was closed
        assert ours.recv(16) == b"still open" and ours.recv(16) == b""


def test_a_connection_whose_end_was_missed_is_left_alone(wire: SocketWire) -> None:
    """A connection of the other side has its descriptor now, and the events of the one side do not say so."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ended = replace(connection_of(ours), inode=connection_of(theirs).inode)
        wire.close_connection(Side.PLAYERS, ended)
        assert theirs.send(b"still open") == 10 and ours.recv(16) == b"still open"


def test_closing_a_descriptor_that_does_not_exist_does_no_harm(wire: SocketWire) -> None:
    wire.close_connection(Side.BACKEND, Connection(10**6, ""))


def test_a_connection_is_closed_when_no_descriptor_is_left() -> None:
    """That is when it matters most. The descriptor stays libzmq's to close."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE_S)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ours, theirs:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                os.dup(ours.fileno())
            shut_down(ours.fileno())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert theirs.recv(1) == b"" and os.fstat(ours.fileno())
