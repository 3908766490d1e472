"""Routes: the route on which a call leaves this endpoint, and why it cannot leave now."""

from __future__ import annotations

from ringback.core.calls_out import CallsOut
from ringback.core.endpoint_state import EndpointState
from ringback.core.link_keeper import LinkKeeper
from ringback.core.pending_call import PendingCall
from ringback.errors import CallbackError, ConnectionLost
from ringback.protocol.frames import FrameType, SessionState

_TAKES_CALLS = (SessionState.READY, SessionState.RETIRING)


class Routes:
    """Sends the calls of one endpoint, each on its route."""

    def __init__(self, state: EndpointState, calls_out: CallsOut, link: LinkKeeper) -> None:
        self._state = state
        self._peers, self._headers = state.peers, state.headers
        self._link, self._link_state = link, link.link_state
        self._send, self._fail_unsent = calls_out.call, calls_out.fail_unsent

    def call(self, call: PendingCall, kind: FrameType | None, encoded_id: bytes, envelope: bytes) -> None:
        """Send a call.

        Args:
            kind: DATA to a player or the server, RELAY to the server in the name of a source, None to
                this endpoint itself in the name of a source.
            encoded_id: the ID of the player or source; empty on a player.
            envelope: the encoded call.
        """
        if kind is None and not self._link_state.closed:
            self._send(call, self._state.peer(encoded_id, b""), envelope)
        elif kind is not None and self._link_state.state is SessionState.READY:
            head = self._headers[kind]
            peer = self._peers.get(encoded_id + head) or self._state.peer(encoded_id, head)
            self._send(call, peer, envelope)
        else:
            problem = self.problem(kind)
            if problem is not None or kind is None:
                self._fail_unsent(call, problem or self._link.not_ready())
            else:  # this server has handed over, and its handlers still call
                self._send(call, self._state.peer(encoded_id, self._headers[kind]), envelope)

    def problem(self, kind: FrameType | None) -> CallbackError | None:
        """Return why calls of a kind cannot leave now; None if they can."""
        if self._link_state.closed:
            return ConnectionLost("the endpoint was closed", executed="no")
        if kind is None or self._link_state.state in _TAKES_CALLS:
            return None
        return self._link.not_ready()

    def never_leaves(self, kind: FrameType | None) -> bool:
        """Return whether calls of a kind cannot leave until the endpoint is started again."""
        return self._link_state.closed or (kind is not None and self._link.ended != "")
