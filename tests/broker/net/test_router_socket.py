"""The ROUTER socket by itself."""

from __future__ import annotations

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
