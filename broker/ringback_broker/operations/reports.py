"""What trusted endpoints report: the figures of their calls, and the calls that are watched."""

from __future__ import annotations

from collections.abc import Callable

from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.player_ids import encode_player_id
from ringback.protocol.reports import CallFilter
from ringback_broker.operations.counters import BrokerCounters
from ringback_broker.operations.failures import Failures
from ringback_broker.operations.figures import ReportedFigures
from ringback_broker.operations.host import Host
from ringback_broker.operations.in_flight import InFlight
from ringback_broker.operations.watches import REPORT_S, Watches
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session


class Reports:
    """Keeps what is reported, and tells endpoints what to report and how often.

    Args:
        report_s: how often endpoints report, in seconds; 0: never.
        notify: sends a control frame to a peer.
        unix_time: returns the wall clock's time, in seconds.

    Attributes:
        figures: the figures of callbacks.
        failures: the latest calls that failed.
        in_flight: the calls in flight of players.
        watches: the watches, and the calls that they chose.
    """

    def __init__(
        self,
        report_s: float,
        host: Host,
        roster: Roster,
        counters: BrokerCounters,
        notify: Callable[[Session, bytes], None],
        unix_time: Callable[[], float],
    ) -> None:
        self.figures = ReportedFigures(report_s)
        self.failures = Failures()
        self.in_flight = InFlight(roster)
        self.watches = Watches()
        self._report_s = report_s
        self._host = host
        self._roster = roster
        self._counters = counters
        self._notify = notify
        self._unix_time = unix_time

    def wanted(self) -> bool:
        """Return whether endpoints must report."""
        return self._report_s > 0

    def interval_ms(self) -> int:
        """Return how often endpoints must report, in milliseconds: more often while calls are watched."""
        return int(1000 * (min(REPORT_S, self._report_s) if self.watches.all() else self._report_s))

    def take(self, session: Session, report: control.Report, now: float) -> None:
        """Keep a report, and log the watched calls that belong in the log."""
        self.figures.take(session, report.callbacks, now, report.latencies or ())
        for failed in report.failures or ():
            self.failures.take(failed, self.figures.counted_as(failed.key, failed.side), self._unix_time())
        self._counters.failed_calls_lost += report.failures_lost or 0
        self.take_of_players(session, report)
        self._counters.watched_calls_lost += report.lost or 0
        for call in self.watches.take(report.calls, self._unix_time()):
            self._host.log_call(call)

    def take_of_players(self, session: Session, report: control.Report, number: int = 0) -> None:
        """Keep what a report says of players that are connected here.

        Args:
            session: that of the endpoint that reports, or of the node that it is connected to.
            number: the number of the endpoint at that node, or 0.
        """
        self.in_flight.take(session, report.in_flight or (), number)
        for reported in report.players:
            player = self._roster.players.get(encode_player_id(reported.player_id))
            if player is not None:
                player.reported.calls += reported.calls
                player.reported.errors += reported.errors

    def forget(self, session: Session) -> None:
        """Forget what is in flight at an endpoint or node that is gone, or of a player that is gone."""
        self.figures.forget(session)
        self.in_flight.forget(session)

    def watch(self, watched: CallFilter, log: bool, for_s: float, now: float) -> bool:
        """Set for how long calls are watched from now on. Return whether endpoints must be told."""
        before = self.watches.all()
        self.watches.set(watched, log, now + for_s)
        self.watches.expire(now)
        return self.watches.all() != before

    def expire_watches(self, now: float) -> None:
        """End the watches whose time is over, and tell all endpoints if there are any."""
        if self.watches.expire(now):
            self.announce_watches()

    def announce_watches(self) -> None:
        """Tell all endpoints what is watched."""
        for session in self._roster.trusted():
            self._announce_to(session)

    def greet(self, session: Session) -> None:
        """Tell an endpoint what is watched, if anything is."""
        if self.watches.all():
            self._announce_to(session)

    def _announce_to(self, session: Session) -> None:
        if session.reported.asked:
            self._notify(session, encode(control.Watch(self.watches.all(), self.interval_ms())))
