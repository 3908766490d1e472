"""Whether a connection with a public key may be made: the handler that libzmq asks (ZeroMQ's RFC 27, ZAP).

It is one more socket of the broker's loop, so it lives as long as the broker does. pyzmq's own handlers run
in a thread that an exception ends, and they do not say which IP a key came from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils import z85

from ringback_broker.peers.connection import Side

log = logging.getLogger("ringback.broker")

REQUESTS_A_STEP = 100
_NOBLOCK = int(zmq.NOBLOCK)


class ZAPHandler:
    """Answers libzmq for one context. Make it before the sockets of that context are bound.

    Args:
        admits: returns whether a connection may be made, given its side and its public key in Z85. If it
            raises, the connection is refused.
        denied: called with side, IP and public key of each connection that is refused.

    Attributes:
        socket: poll it, and call `answer` when it has something.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        admits: Callable[[Side, str], bool],
        denied: Callable[[Side, str, str], None],
    ) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")
        self._admits = admits
        self._denied = denied

    def close(self) -> None:
        self.socket.close()

    def answer(self, _now: float) -> None:
        """Answer the requests that have come so far."""
        for _ in range(REQUESTS_A_STEP):
            try:
                envelope, _, version, number, *request = self.socket.recv_multipart(_NOBLOCK)
            except zmq.Again:
                return
            try:
                user_id = self._user_id(*request)
            except Exception:  # a fault of ours must not let anybody in
                log.exception("a public key could not be checked, so it was refused")
                user_id = b""
            status = (b"200", b"OK") if user_id else (b"400", b"this key is not allowed")
            self.socket.send_multipart([envelope, b"", version, number, *status, user_id, b""], _NOBLOCK)

    def _user_id(
        self, domain: bytes, ip: bytes, _routing_id: bytes, mechanism: bytes, credentials: bytes = b""
    ) -> bytes:
        """Return the public key of a connection in Z85; empty if the connection is refused."""
        if mechanism != b"CURVE":
            return b""
        side, user_id = Side(domain.decode()), bytes(z85.encode(credentials))
        admitted = False
        try:
            admitted = self._admits(side, user_id.decode())
        finally:
            if not admitted:
                self._denied(side, ip.decode(), user_id.decode())
        return user_id if admitted else b""
