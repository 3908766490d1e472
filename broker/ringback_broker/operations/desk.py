"""What trusted peers ask, order and report: all of theirs that carries no calls."""

from __future__ import annotations

from collections.abc import Callable

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.limits import MAX_REASON_CHARS
from ringback.protocol.player_ids import encode_player_id
from ringback.protocol.reports import MAX_WATCH_S, CallFilter
from ringback_broker.operations.answers import Answers
from ringback_broker.operations.counters import BrokerCounters
from ringback_broker.operations.events import EventLog, PeerEvent
from ringback_broker.operations.figures import Callback, ReportedFigures, Totals
from ringback_broker.operations.host import Host
from ringback_broker.operations.registered_keys import RegisteredKeys
from ringback_broker.operations.watches import REPORT_S, Watches
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session
from ringback_broker.settings.schema import BrokerSettings


class Desk:
    """Answers operators, does what they order, and keeps what endpoints report.

    Args:
        config: its settings.
        roster, counters, directory: those of the switchboard.
        notify: sends a control frame to a peer.
        refuse: ends a session, and tells the peer why.
        unix_time: gives the time by the wall clock, in seconds.
    """

    def __init__(
        self,
        config: BrokerSettings,
        host: Host,
        roster: Roster,
        counters: BrokerCounters,
        directory: RegisteredKeys,
        notify: Callable[[Session, bytes], None],
        refuse: Callable[[Session, RejectCode, str], None],
        unix_time: Callable[[], float],
    ) -> None:
        self._report_s = config.report
        self._host = host
        self._roster = roster
        self._counters = counters
        self._notify = notify
        self._refuse = refuse
        self._unix_time = unix_time
        self._events = EventLog()
        self._tallies = ReportedFigures()
        self._watches = Watches()
        self._answers = Answers(
            roster,
            directory,
            counters,
            self._events,
            self._tallies,
            self._watches,
            host.round_trip_ms,
        )

    # -- sessions

    def wants_reports(self) -> bool:
        """Tells whether trusted peers are asked to report."""
        return self._report_s > 0

    def report_ms(self) -> int:
        """Gives how often they do."""
        return int(1000 * (min(REPORT_S, self._report_s) if self._watches.all() else self._report_s))

    def greet(self, session: Session) -> None:
        """Tells one that has just joined what is watched, if anything is."""
        if self._watches.all():
            self._tell(session)

    def forget(self, session: Session) -> None:
        """A session is over."""
        self._tallies.forget(session)

    def tick(self, now: float) -> None:
        """Ends watches that are over."""
        if self._watches.expire(now):
            self._tell_all()

    def log(self, report: PeerEvent) -> None:
        """Tells the logs, and operators who ask later, what has happened to a peer."""
        self._events.add(report, self._unix_time())
        self._host.report(report)

    # -- reports of endpoints

    def take(self, session: Session, report: control.Report, now: float) -> None:
        """Keeps what an endpoint has counted."""
        self._tallies.take(session, report.callbacks, now)
        for figures in report.players:
            player = self._roster.players.get(encode_player_id(figures.player_id))
            if player is not None:
                player.calls += figures.calls
                player.errors += figures.errors
        self._counters.calls_untold += report.lost or 0
        for call in self._watches.take(report.calls, self._unix_time()):
            self._host.log_call(call)

    def totals(self) -> dict[Callback, Totals]:
        """Gives what was counted of calls since the start."""
        return self._tallies.totals()

    # -- questions and orders of operators

    def answer(
        self, operator: Session, said: control.Query | control.Order, window: int, now: float
    ) -> control.Answer:
        """Gives what an operator wants to know, or does what it wants done and gives what has come of it.

        Args:
            window: bytes that may be on the way to a player.
        """
        needs_right = isinstance(said, control.Order) or said.subject is control.Subject.CALLS
        if needs_right and not operator.may_order:
            why = f"the {_who(operator)} may not give orders"
            self.log(PeerEvent("refused", why, operator, operator.connection.remote, "FORBIDDEN"))
            return control.Answer(said.id, None, code=Code.FORBIDDEN)
        if isinstance(said, control.Query):
            return self._answers.answer(said, window, now)
        return control.Answer(said.id, None, code=self._obey(operator, said, now))

    def _obey(self, operator: Session, order: control.Order, now: float) -> Code | None:
        """Does it; gives why it could not be done."""
        if order.what is control.What.WATCH:
            return self._watch(operator, order, now)
        if order.what is control.What.KICK:
            return self._kick(operator, order)
        self.log(PeerEvent("ordered", f"drain, by the {_who(operator)}", operator))
        self._host.drain(None if order.grace_ms is None else order.grace_ms / 1000)
        return None

    def _kick(self, operator: Session, order: control.Order) -> Code | None:
        assert order.player_id is not None  # `decode` sees to it
        player = self._roster.players.get(encode_player_id(order.player_id))
        if player is None:
            return Code.UNKNOWN_PLAYER
        self._counters.sessions_kicked += 1
        reason = f" ({order.reason[:MAX_REASON_CHARS]})" if order.reason else ""
        self.log(PeerEvent("ordered", f"kick {player.name}{reason}, by the {_who(operator)}", operator))
        self._refuse(player, RejectCode.KICKED, order.reason or "an operator has ended the session")
        return None

    def _watch(self, operator: Session, order: control.Order, now: float) -> Code | None:
        """Has calls be watched for a time, and trusted endpoints told of it."""
        watched = CallFilter(order.player_id, order.key, bool(order.payloads))
        for_s = min(MAX_WATCH_S, (order.for_ms or 0) / 1000)
        before = self._watches.all()
        if not self._watches.set(watched, bool(order.log), now + for_s):
            return Code.OVERLOADED
        self._watches.expire(now)
        if self._watches.all() != before:
            whose = "any player" if watched.player_id is None else f"player {watched.player_id!r}"
            what = f"watch calls of {watched.pattern or '*'} and {whose} for {for_s:g} s"
            self.log(PeerEvent("ordered", f"{what}, by the {_who(operator)}", operator))
            self._tell_all()
        return None

    def _tell_all(self) -> None:
        for session in self._roster.trusted():
            self._tell(session)

    def _tell(self, session: Session) -> None:
        if session.reports:
            self._notify(session, encode(control.Watch(self._watches.all(), self.report_ms())))


def _who(operator: Session) -> str:
    """Gives how an operator is called: by its key, if it has one."""
    return operator.name if operator.identity is None else f"operator {operator.identity.name!r}"
