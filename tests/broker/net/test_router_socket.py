"""The ROUTER socket by itself."""

from __future__ import annotations

import socket
from typing import Any

import zmq
from support.harness import PATIENCE_S
from support.rawpeers import RawPeer

from ringback_broker.net.router_socket import MAX_PARTS_KEPT, RouterSocket
from ringback_broker.peers.connection import Side


def test_parts_that_are_kept_are_bounded() -> None:
    context: zmq.Context[Any] = zmq.Context()
    router = RouterSocket.listen(context, Side.PLAYERS, "tcp://127.0.0.1:0", 10)
    with RawPeer(context, router.address) as peer:
        peer.send(*[b"x"] * 5000)
        peer.send(b"next")
        assert router.socket.poll(PATIENCE_S * 1000)
        routing_id = router.socket.recv()
        assert len(router.receive_parts(router.socket.recv())) == MAX_PARTS_KEPT
        assert router.socket.poll(PATIENCE_S * 1000)
        assert router.socket.recv_multipart() == [routing_id, b"next"]
    router.close()
    context.term()


def test_connection_events_that_nobody_reads_stop_nothing() -> None:
    """By default, libzmq's I/O thread waits once 2,000 events wait: for ever, if the broker closes."""
    context: zmq.Context[Any] = zmq.Context()
    router = RouterSocket.listen(context, Side.PLAYERS, "tcp://127.0.0.1:0", 10)
    host, port = router.address.removeprefix("tcp://").split(":")
    for _ in range(1500):  # each has two events at least
        socket.create_connection((host, int(port))).close()
    with RawPeer(context, router.address) as peer:
        peer.send(b"x")
        assert router.socket.poll(PATIENCE_S * 1000)
    router.close()
    context.term()
