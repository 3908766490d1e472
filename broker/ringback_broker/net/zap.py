"""Whether a connection with a key may be made: the handler that libzmq asks (ZeroMQ's RFC 27, ZAP).

It is one more socket of the broker's loop, so it lives as long as the broker does. pyzmq's handlers run in
a thread that an exception ends, and do not tell from which address a key came.
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
    """Answers libzmq for one context. To be made before its sockets are bound.

    Args:
        admits: tells whether a connection may be made, by side, public key in Z85 and address.
    """

    def __init__(self, context: zmq.Context[Any], admits: Callable[[Side, str, str], bool]) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")
        self._admits = admits

    def close(self) -> None:
        self.socket.close()

    def answer(self) -> None:
        """Answers what was asked so far."""
        for _ in range(REQUESTS_A_STEP):
            try:
                envelope, _, version, number, *rest = self.socket.recv_multipart(_NOBLOCK)
            except zmq.Again:
                return
            key = b""
            try:
                domain, address, _, mechanism, raw = rest
                if mechanism == b"CURVE":
                    key = z85.encode(raw)
                    if not self._admits(Side(domain.decode()), key.decode(), address.decode()):
                        key = b""
            except Exception:
                log.exception("a key could not be checked; it is refused")
                key = b""
            status = (b"200", b"OK") if key else (b"400", b"this key is not allowed")
            self.socket.send_multipart([envelope, b"", version, number, *status, key, b""], _NOBLOCK)
