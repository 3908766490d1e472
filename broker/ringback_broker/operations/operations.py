"""What trusted peers ask, order and report: everything of theirs that carries no calls.

This is the surface that the switchboard uses. `answers` has the queries, `orders` the orders, `reports` the
reports.
"""

from __future__ import annotations

from collections.abc import Callable

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback_broker.operations.answers import Answers, Row
from ringback_broker.operations.counters import BrokerCounters
from ringback_broker.operations.events import EventLog, PeerEvent
from ringback_broker.operations.figures import Callback, Totals
from ringback_broker.operations.host import Host
from ringback_broker.operations.orders import Orders, display_name
from ringback_broker.operations.registered_keys import RegisteredKeys
from ringback_broker.operations.reports import Reports
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session
from ringback_broker.settings.schema import BrokerSettings

_SINGLE_CALLS = (control.Subject.CALLS, control.Subject.FAILURES)
"""What an operator may query only if it may give orders: these rows say what single players did."""


class Operations:
    """Answers queries, obeys orders, keeps reports and logs events.

    Args:
        host: the process of the broker.
        roster, counters, registered: those of the switchboard.
        notify: sends a control frame to a peer.
        refuse: ends a session, and tells the peer why.
        hand_over: has the next server act; returns a code that says why it cannot.
        unix_time: returns the wall clock's time, in seconds.
        nodes: returns the rows of the nodes of the realm at a time.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        host: Host,
        roster: Roster,
        counters: BrokerCounters,
        registered: RegisteredKeys,
        notify: Callable[[Session, bytes], None],
        refuse: Callable[[Session, RejectCode, str], None],
        hand_over: Callable[[], Code | None],
        unix_time: Callable[[], float],
        nodes: Callable[[float], list[Row]],
    ) -> None:
        self._host = host
        self._unix_time = unix_time
        self._events = EventLog()
        self._reports = Reports(settings.report, host, roster, counters, notify, unix_time)
        self._orders = Orders(host, roster, self._reports, refuse, hand_over, self.log)
        self._answers = Answers(
            roster, registered, counters, self._events, self._reports, host.round_trip_ms, nodes
        )

    # -- sessions

    def wants_reports(self) -> bool:
        """Return whether trusted peers must report."""
        return self._reports.wanted()

    def report_ms(self) -> int:
        """Return how often they must report, in milliseconds."""
        return self._reports.interval_ms()

    def greet(self, session: Session) -> None:
        """Tell a peer that has just joined what is watched, if anything is."""
        self._reports.greet(session)

    def forget(self, session: Session) -> None:
        """Forget a session that has ended: that of a peer or of a node."""
        self._reports.forget(session)

    def tick(self, now: float) -> None:
        """End watches whose time is over."""
        self._reports.expire_watches(now)

    def log(self, event: PeerEvent) -> None:
        """Write what happened to a peer into the logs, and keep it for operators who ask later."""
        self._events.add(event, self._unix_time())
        self._host.log_event(event)

    # -- what trusted peers send

    def take(self, session: Session, report: control.Report, now: float) -> None:
        """Keep what an endpoint reports."""
        self._reports.take(session, report, now)

    def take_of_players(self, node: Session, number: int, report: control.Report) -> None:
        """Keep what an endpoint of another node reports of players that are connected here.

        Args:
            number: of the endpoint at that node.
        """
        self._reports.take_of_players(node, report, number)

    def forget_far(self, node: Session, number: int) -> None:
        """Forget what is in flight at an endpoint of another node that has left."""
        self._reports.in_flight.forget_far(node, number)

    def totals(self) -> dict[Callback, Totals]:
        """Return the figures of each callback since the broker started."""
        return self._reports.figures.totals()

    def answer(
        self, operator: Session, request: control.Query | control.Order, window: int, now: float
    ) -> control.Answer:
        """Answer a query or obey an order, if the operator or server has the right to it.

        Args:
            window: how many bytes may be on their way to a player.
        """
        forbidden = self.forbid(operator, request)
        if forbidden is not None:
            return forbidden
        if isinstance(request, control.Query):
            return self._answers.answer(request, window, now)
        return control.Answer(request.id, None, code=self._orders.obey(operator, request, now))

    def forbid(self, operator: Session, request: control.Query | control.Order) -> control.Answer | None:
        """Return the answer to a request that the operator or server has no right to; None if it has."""
        if isinstance(request, control.Order):
            allowed = self._orders.may_order(operator, request)
        else:
            allowed = request.subject not in _SINGLE_CALLS or operator.rights.may_order
        if allowed:
            return None
        reason = f"the {display_name(operator)} may not give orders"
        self.log(PeerEvent("refused", reason, operator, operator.connection.ip, "FORBIDDEN"))
        return control.Answer(request.id, None, code=Code.FORBIDDEN)
