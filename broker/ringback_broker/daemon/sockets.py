"""Opening the broker's sockets: one for players, one for the backend, and ZAP where there are keys."""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Callable
from contextlib import ExitStack

import zmq

from ringback_broker.net.router_socket import RouterSocket
from ringback_broker.net.zap import ZAPHandler
from ringback_broker.peers.connection import Side
from ringback_broker.settings.schema import BrokerSettings

MAX_SOCKETS = 1024
"""Of libzmq in this process. It does not count accepted connections."""


class Sockets:
    """The sockets of one broker. They listen once this is made.

    Args:
        secret: the broker's secret key in Z85; None: connections are not encrypted.
        admits: returns whether a connection with a public key may be made on a side.
        denied: called with side, IP and public key of a connection that may not be made.

    Raises:
        BindError: the broker cannot listen on an address.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        secret: str | None,
        admits: Callable[[Side, str], bool],
        denied: Callable[[Side, str, str], None],
    ) -> None:
        # libzmq numbers peers that name no routing ID by a counter that always starts at the same value.
        # Somebody who claims its next values makes the process abort (libzmq issue 4633). So the start is
        # random here.
        ctypes.CDLL(None).srand(secrets.randbits(31))
        self.zap: ZAPHandler | None = None
        with ExitStack() as stack:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
            stack.callback(context.term)
            if secret is not None:
                self.zap = ZAPHandler(context, admits, denied)
                stack.callback(self.zap.close)
            self.players = RouterSocket.listen(
                context, Side.PLAYERS, settings.players, settings.player_queue, secret
            )
            stack.callback(self.players.close)
            self.backend = RouterSocket.listen(
                context, Side.BACKEND, settings.backend, settings.backend_queue, secret
            )
            stack.callback(self.backend.close)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Close all sockets. Closing twice does no harm."""
        self._stack.close()
