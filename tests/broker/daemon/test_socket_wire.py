"""Closing connections by their descriptors."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
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


class Sides:
    """The two sides of a broker with real listeners, whose events a test makes up."""

    def __init__(self, router: Any, listeners: dict[Side, socket.socket]) -> None:
        self.monitors = {side: FakeMonitor() for side in Side}
        self._listeners = listeners
        self._routers = {
            side: RouterSocket(side, router, self.monitors[side], f"tcp://127.0.0.1:{self._port(side)}")
            for side in Side
        }
        routers = self._routers[Side.PLAYERS], self._routers[Side.BACKEND]
        self.wire = SocketWire(*routers, LogLines(), drain=lambda grace_s: None, clock=lambda: 0.0)

    def _port(self, side: Side) -> int:
        port: int = self._listeners[side].getsockname()[1]
        return port

    @contextmanager
    def connected(self, side: Side) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Connect to one side. Yield the broker's end and the peer's."""
        with socket.create_connection(("127.0.0.1", self._port(side))) as theirs:
            theirs.settimeout(PATIENCE_S)
            with self._listeners[side].accept()[0] as ours:
                yield ours, theirs

    def accepted(self, side: Side, ours: socket.socket) -> Connection:
        """Return a connection as the events of a side tell of it."""
        events = self._routers[side].events
        self.monitors[side].accepted(ours.fileno())
        events.note(0.0)
        [(_, connection, _)] = events.take_all()
        return connection


@pytest.fixture
def sides() -> Iterator[Sides]:
    context: zmq.Context[Any] = zmq.Context()
    with (
        context.socket(zmq.ROUTER) as router,
        socket.create_server(("127.0.0.1", 0)) as players,
        socket.create_server(("127.0.0.1", 0)) as backend,
    ):
        yield Sides(router, {Side.PLAYERS: players, Side.BACKEND: backend})
    context.term()


def is_open(ours: socket.socket, theirs: socket.socket) -> bool:
    ours.sendall(b"still open")
    return theirs.recv(16) == b"still open"


def test_a_connection_is_closed(sides: Sides) -> None:
    with sides.connected(Side.PLAYERS) as (ours, theirs):
        connection = sides.accepted(Side.PLAYERS, ours)
        assert connection.ip == "127.0.0.1"
        sides.wire.close_connection(Side.PLAYERS, connection)
        assert theirs.recv(16) == b""


def test_a_connection_that_was_closed_meanwhile_is_left_alone(sides: Sides) -> None:
    """Its descriptor may be somebody else's by now."""
    with sides.connected(Side.PLAYERS) as (ours, theirs):
        connection = sides.accepted(Side.PLAYERS, ours)
        sides.monitors[Side.PLAYERS].closed(ours.fileno())
        sides.wire.close_connection(Side.PLAYERS, connection)
        assert is_open(ours, theirs)


def test_a_later_connection_of_the_same_descriptor_is_left_alone(sides: Sides) -> None:
    with sides.connected(Side.PLAYERS) as (before, _):
        inode = sides.accepted(Side.PLAYERS, before).inode
        with sides.connected(Side.PLAYERS) as (ours, theirs):
            # The event that the first one has ended was missed.
            ended = replace(sides.accepted(Side.PLAYERS, ours), inode=inode)
            sides.wire.close_connection(Side.PLAYERS, ended)
            assert is_open(ours, theirs)


def test_a_connection_of_the_other_side_is_left_alone(sides: Sides) -> None:
    """A broker that was stopped reads the event of a connection that is gone. It has no inode any more."""
    with sides.connected(Side.BACKEND) as (ours, theirs):
        gone = sides.accepted(Side.PLAYERS, ours)
        assert (gone.inode, gone.ip) == (0, "")
        sides.wire.close_connection(Side.PLAYERS, gone)
        assert is_open(ours, theirs)
        sides.wire.close_connection(Side.BACKEND, sides.accepted(Side.BACKEND, ours))
        assert theirs.recv(16) == b""


def test_closing_a_descriptor_that_does_not_exist_does_no_harm(sides: Sides) -> None:
    sides.wire.close_connection(Side.BACKEND, Connection(10**6, "", inode=1))


@pytest.mark.parametrize("name", ["broker", "\0ringback-test"])
def test_the_inode_of_a_unix_socket(name: str, short_folder: Path) -> None:
    path = f"{name}{short_folder}" if name[0] == "\0" else f"{short_folder}/{name}"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as theirs:
        listener.bind(path)
        listener.listen()
        theirs.connect(path)
        with listener.accept()[0] as ours:
            address = "ipc://" + path.replace("\0", "@")
            assert inode_of(ours.fileno(), address) == os.fstat(ours.fileno()).st_ino
            assert inode_of(ours.fileno(), f"{address}x") == inode_of(ours.fileno(), "tcp://127.0.0.1:1") == 0


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
