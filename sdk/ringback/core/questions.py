"""Questions to the broker itself: queries, orders and pings, and how an answer finds its call."""

from __future__ import annotations

from typing import Any

from ringback.core.calls_out import CallsOut
from ringback.core.endpoint_state import EndpointState
from ringback.core.link_keeper import LinkKeeper
from ringback.core.outbox import Outbox
from ringback.core.peers import Peer
from ringback.core.pending_call import PendingCall
from ringback.errors import ERROR_CLASSES, CallbackError, Code, Overloaded, UnknownNode, call_error
from ringback.protocol.control import Answer, Order, Ping, Query, Subject, encode
from ringback.protocol.player_ids import PlayerID

_REFUSED = {
    Code.UNKNOWN_PLAYER: "no such player is connected",
    Code.FORBIDDEN: "the broker's access list does not let this operator give orders",
    Code.OVERLOADED: "the limit of watches is reached",
    Code.NO_SERVER: (
        "no server stands by, or the one that acts is too old to hand over; start one with standby=True first"
    ),
    Code.DRAINING: "the broker is stopping",
}
"""Why the broker does not do what an operator or a server orders."""


class Questions:
    """The pending questions of one endpoint: calls to a peer without an ID and a header.

    They take no room from calls to other endpoints, and need none of it: an endpoint that waits for many
    replies can still ask the broker, and hand over. Otherwise a server that retires could wait for itself.
    """

    def __init__(self, state: EndpointState, outbox: Outbox, calls_out: CallsOut, link: LinkKeeper) -> None:
        self._state = state
        self._outbox = outbox
        self._calls_out = calls_out
        self._link = link

    def query(
        self,
        call: PendingCall,
        subject: Subject,
        after: int,
        node: str | None = None,
        player_id: PlayerID | None = None,
    ) -> None:
        """Ask the broker for a page of rows. The results of the call are the rows and the next page.

        Args:
            node: the name of the node that is asked; None: the broker itself.
            player_id: of "players", the one whose row is wanted; None: all.
        """
        self.ask(call, Query(call.id, subject, after, node, player_id))

    def ping(self, call: PendingCall) -> None:
        """Send a PING. The call ends when it comes back."""
        self.ask(call, Ping(call.id.to_bytes(8, "big")))

    def ask(self, call: PendingCall, question: Query | Order | Ping) -> None:
        """Send a question to the broker, unless there is no link or too many wait for an answer.

        The call of an order has no result.
        """
        if not self._link.link_state.up:
            self._calls_out.fail_unsent(call, self._link.not_ready())
        elif self._link.node is None and _is_about_nodes(question):
            self._calls_out.fail_unsent(call, UnknownNode("the broker is too old to know of nodes"))
        elif self.expect(call):
            self._outbox.add_control(encode(question))

    def expect(self, call: PendingCall) -> bool:
        """Put a question into the table. If too many are there, end it and return False."""
        broker, most = self._broker(), self._state.limits.max_pending
        if len(broker.calls) >= most:
            text = f"{len(broker.calls)} questions to the broker wait for answers, and max_pending is {most}"
            self._calls_out.fail_unsent(call, Overloaded(text))
            return False
        self._calls_out.expect(call, broker)
        return True

    def waits(self, call: PendingCall) -> bool:
        """Return whether a question waits for its end."""
        broker = self._state.peers.get(b"")
        return broker is not None and call.id in broker.calls

    def finish(
        self, call: PendingCall, results: tuple[Any, ...] = (), error: CallbackError | None = None
    ) -> None:
        """End a question that needs no answer, or no further one. This does nothing if it has ended."""
        if self.waits(call):
            self._calls_out.finish(self._broker(), call.id, results, error)

    def answered(self, answer: Answer) -> None:
        """End the call that an ANSWER belongs to."""
        error = None
        if answer.code is not None:
            text = answer.reason or _REFUSED.get(answer.code, "the broker refuses")
            certain = ERROR_CLASSES[answer.code].default_executed == "no"
            error = call_error(answer.code, text, "no" if certain else "maybe")
        results = () if answer.rows is None else (list(answer.rows), answer.next)
        self._calls_out.finish(self._broker(), answer.id, results, error)

    def ponged(self, body: bytes) -> None:
        """End the call that a PONG belongs to. The PINGs of the lease carry nothing."""
        if body:
            self._calls_out.finish(self._broker(), int.from_bytes(body, "big"), (), None)

    def _broker(self) -> Peer:
        return self._state.peer(b"", b"")


def _is_about_nodes(question: Query | Order | Ping) -> bool:
    """Return whether a question is about nodes of a realm.

    An older broker would answer about itself, obey itself, or end the session.
    """
    if isinstance(question, Ping):
        return False
    is_list = isinstance(question, Query) and question.subject is Subject.NODES
    return is_list or question.node is not None
