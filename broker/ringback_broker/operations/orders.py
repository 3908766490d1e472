"""Obeying orders: kick, drain, watch, hand over."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.limits import MAX_REASON_CHARS
from ringback.protocol.player_ids import encode_player_id
from ringback.protocol.reports import MAX_WATCH_S, CallFilter
from ringback_broker.operations.events import PeerEvent
from ringback_broker.operations.host import Host
from ringback_broker.operations.reports import Reports
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Duty, Session


class Orders:
    """Obeys orders, and logs each of them.

    Args:
        refuse: ends a session, and tells the peer why.
        hand_over: has the next server act; returns a code that says why it cannot.
        log: logs an event.
    """

    def __init__(
        self,
        host: Host,
        roster: Roster,
        reports: Reports,
        refuse: Callable[[Session, RejectCode, str], None],
        hand_over: Callable[[], Code | None],
        log: Callable[[PeerEvent], None],
    ) -> None:
        self._host = host
        self._roster = roster
        self._reports = reports
        self._refuse = refuse
        self._hand_over = hand_over
        self._log = log

    def may_order(self, sender: Session, order: control.Order) -> bool:
        """Return whether a peer may give an order. A server may only hand over, once it has acted."""
        if sender.duty is not None:
            own = order.what is control.What.HAND_OVER and order.node is None
            return own and sender.duty is not Duty.STANDBY
        return sender.rights.may_order

    def obey(self, operator: Session, order: control.Order, now: float) -> Code | None:
        """Obey an order. Return None, or a code that says why it could not be obeyed."""
        match order.what:
            case control.What.KICK:
                return self._kick(operator, order)
            case control.What.DRAIN:
                self._drain(operator, order)
                return None
            case control.What.WATCH:
                return self._watch(operator, order, now)
            case control.What.HAND_OVER:
                return self._order_hand_over(operator)
            case _ as never:
                assert_never(never)

    def _kick(self, operator: Session, order: control.Order) -> Code | None:
        assert order.player_id is not None  # `decode` has checked it
        player = self._roster.players.get(encode_player_id(order.player_id))
        if player is None:
            return Code.UNKNOWN_PLAYER
        reason = f" ({order.reason[:MAX_REASON_CHARS]})" if order.reason else ""
        self._log_order(operator, f"kick {player.name}{reason}")
        self._refuse(player, RejectCode.KICKED, order.reason or "an operator has ended the session")
        return None

    def _drain(self, operator: Session, order: control.Order) -> None:
        self._log_order(operator, "drain")
        self._host.drain(None if order.grace_ms is None else order.grace_ms / 1000)

    def _watch(self, operator: Session, order: control.Order, now: float) -> Code | None:
        watched = CallFilter(order.player_id, order.key, bool(order.payloads))
        for_s = min(MAX_WATCH_S, (order.for_ms or 0) / 1000)
        if not self._reports.watches.has_room_for(watched, bool(order.log)):
            return Code.OVERLOADED
        if self._reports.watch(watched, bool(order.log), for_s, now):
            what = "calls" if watched.pattern is None else f"calls of {watched.pattern!r}"
            player = "any player" if watched.player_id is None else f"player {watched.player_id!r}"
            how_long = f"watch for {for_s:g} s" if for_s else "no longer watch"
            self._log_order(operator, f"{how_long} the {what} to and from {player}")
            self._reports.announce_watches()
        return None

    def _order_hand_over(self, sender: Session) -> Code | None:
        if sender.duty is Duty.RETIRING:  # an operator has ordered it at the same time
            return None
        code = self._hand_over()
        if code is None:
            self._log_order(sender, "hand over to the next server")
        return code

    def _log_order(self, operator: Session, order: str) -> None:
        self._log(PeerEvent("ordered", f"{order}, by {display_name(operator)}", operator))


def display_name(operator: Session) -> str:
    """Return how logs name an operator: by its identity, if it has one. A server can give an order too."""
    if operator.duty is not None:
        return "the server itself"
    identity = operator.rights.identity
    if identity is None:
        return operator.name
    return f"operator {identity.name!r}{f' of node {operator.node}' if operator.node else ''}"
