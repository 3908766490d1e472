"""Taking messages from one of the broker's two sockets."""

from __future__ import annotations

from typing import Any

import zmq

from ringback_broker.daemon.containment import Containment
from ringback_broker.daemon.stranger_receiver import STRANGERS_AT_ONCE, StrangerReceiver, pass_on
from ringback_broker.net.router_socket import RouterSocket
from ringback_broker.peers.connection import LARGE_BYTES, Frame, LargeFrame, Side
from ringback_broker.switchboard.switchboard import Switchboard

BURST = 100
"""Messages that are taken from one socket before the other has its turn, even in a flood."""

_NOBLOCK = int(zmq.NOBLOCK)
_RCVMORE = int(zmq.RCVMORE)


class Receiver:
    """Takes what comes to one socket, and hands it to the switchboard.

    Args:
        has_keys: whether connections are encrypted, and so have a public key.

    Attributes:
        router: the socket.
    """

    def __init__(self, router: RouterSocket, switchboard: Switchboard, has_keys: bool) -> None:
        self.router = router
        self._switchboard = switchboard
        self._contain = Containment(switchboard.counters)
        self._strangers = StrangerReceiver(router, switchboard, has_keys)
        # How many messages came the last time. This many are taken before asking whether more wait.
        self._expected = 1
        self._trusted = router.side is Side.BACKEND
        self._known = switchboard.roster.by_routing_id[router.side]
        self._refused = switchboard.refused[router.side]
        self._from_player, self._from_backend = switchboard.from_player, switchboard.from_backend

    def take(self, now: float) -> bool:
        """Take what came, up to a bound. Return whether that was all."""
        strangers = self._strangers
        taken, drained = 0, False
        while taken < BURST and not drained and len(strangers.kept) < STRANGERS_AT_ONCE:
            wanted = min(max(self._expected, taken), BURST - taken)
            some = self._take_some(wanted, now)
            taken += some
            full = len(strangers.kept) >= STRANGERS_AT_ONCE
            drained = (some < wanted and not full) or not self.router.has_more()
        self._expected = max(1, taken)
        if strangers.kept:
            strangers.deliver(now)
        return drained

    def take_events(self, now: float) -> None:
        """Tell the switchboard all connection events that were noted."""
        pass_on(self.router.events.take_all(), self.router.side, self._switchboard, now, self._contain)

    def _take_some(self, wanted: int, now: float) -> int:
        """Take a number of messages, or fewer if there are fewer or too many from strangers.

        This is the broker's hot path, so it is flat: one call of the switchboard for each frame.

        Returns:
            How many messages were taken.
        """
        router, switchboard = self.router, self._switchboard
        receive, option, trusted = router.socket.recv, router.socket.getsockopt, self._trusted
        known, refused, strangers = self._known, self._refused, self._strangers
        # Bound once: as attributes of the switchboard they cost each frame 150 instructions more.
        from_player, from_backend = self._from_player, self._from_backend
        taken = 0
        try:
            while taken < wanted:
                routing_id = receive(_NOBLOCK)
                taken += 1
                session = known.get(routing_id)
                if session is None:
                    if routing_id in refused:  # a flood goes on for a moment after the refusal
                        router.receive_parts(receive(_NOBLOCK))
                        switchboard.counters.stranger_messages += 1
                        continue
                    strangers.receive(routing_id)
                    if len(strangers.kept) >= STRANGERS_AT_ONCE:
                        break
                    continue
                id_part = receive(_NOBLOCK) if trusted else b""
                if trusted and not option(_RCVMORE):
                    switchboard.malformed(session, 1)
                    continue
                message: Any = receive(_NOBLOCK, not session.sends_large)
                large = len(message) > LARGE_BYTES
                frame: Frame = message
                if session.sends_large:
                    frame = LargeFrame(message) if large else bytes(message)
                session.sends_large = large
                more = len(router.receive_parts(b"")) if option(_RCVMORE) else 0
                try:
                    if more:
                        switchboard.malformed(session, trusted + more)
                    elif trusted:
                        from_backend(session, id_part, frame, now)
                    else:
                        from_player(session, frame, now)
                except Exception as error:  # the messages behind it are of other peers
                    self._contain("handling a message", error)
        except zmq.Again:
            pass
        return taken
