"""The loop around the switchboard: poll, drain, decide, send, tick."""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.metadata import version
from types import FrameType as StackFrame
from typing import TYPE_CHECKING, Any

import zmq

from ringback.protocol.addresses import dialled, is_local
from ringback.protocol.frames import Role
from ringback.protocol.reports import WatchedCall, way
from ringback_broker.admission.access_list import AccessError, AccessList
from ringback_broker.admission.hello import PARTS
from ringback_broker.daemon.background_reader import Reading
from ringback_broker.daemon.descriptors import RESERVED, STRANGERS_SHARE, connections, make_room
from ringback_broker.daemon.key_files import AccessFile, load_broker_key, load_dashboard_key
from ringback_broker.daemon.logs import audit
from ringback_broker.daemon.systemd import Notifier
from ringback_broker.net.poller import Poller
from ringback_broker.net.router_socket import BindError, ConnectionEvent, RouterSocket
from ringback_broker.net.zap import ZAPHandler
from ringback_broker.operations.events import PeerEvent
from ringback_broker.operations.snapshot import Lags
from ringback_broker.peers.connection import LARGE_BYTES, Connection, Frame, LargeFrame, Sent, Side
from ringback_broker.peers.session import Session
from ringback_broker.settings.schema import BrokerSettings, InvalidSetting
from ringback_broker.settings.sources import change
from ringback_broker.switchboard.switchboard import Switchboard

log = logging.getLogger("ringback.broker")

SOFTWARE = f"ringback/{version('ringback')}"
BURST = 100
"""Messages taken from one socket before the other has its turn, whatever flood there is."""

STRANGERS_AT_ONCE = 64
"""Messages of connections without a session that are kept to the end of a burst: 64 MiB of them at most."""

TICK_S = 0.25
SNAPSHOT_S = 1.0
NOTIFY_S = 10.0
"""How often a service manager is told how many players there are, unless it wants to hear more often."""

FLUSH_S = 0.01
"""Peers whose queue was full are tried again so often, not each time that any other peer sends something."""

CLOSED_WITHIN_S = 0.1
"""What a peer sent before its connection closed is taken first, unless there is so much to take."""

REPORTS_A_TICK = 100
"""Log lines about sessions in one tick; what is over it is counted in one line."""

CALLS_A_TICK = 500
"""Log lines about watched calls, likewise."""

MAX_DETAIL_CHARS = 300

if TYPE_CHECKING:
    from ringback.credentials import KeyPair
    from ringback_broker.http.dashboard import Dashboard
    from ringback_broker.http.server import Web

_NOBLOCK = int(zmq.NOBLOCK)
_RCVMORE = int(zmq.RCVMORE)

_FromStranger = tuple[bytes, Connection, list[bytes]]
"""A routing ID, its connection and the parts of a message."""

__all__ = ["BindError", "Broker"]


class Broker:
    """A broker: binds when made, works in `run`, in whatever thread that is called.

    `close` it where `run` is never called; `run` does that itself.

    Args:
        config: its settings.
        reread: gives them anew on SIGHUP, in a thread; None: they never change.

    Raises:
        BindError: an address can't be listened at.
    """

    def __init__(
        self, config: BrokerSettings | None = None, reread: Callable[[], BrokerSettings] | None = None
    ) -> None:
        self.config = self._asked_for = config or BrokerSettings()
        self._rereading = None if reread is None else Reading(reread, "ringback-settings")
        self._stack = ExitStack()
        self._zap: ZAPHandler | None = None
        self._keys: KeyPair | None = None
        self._access: AccessFile | None = None
        self._web: Web | None = None
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        self.config, room = self._make_room(self.config)
        access = None if self._access is None else self._access.list
        self.switchboard = Switchboard(
            self.config, self, SOFTWARE, max_connections=room, access=access, unix_time=time.time
        )
        self._notifier = Notifier({})
        self._notify_at = float("inf")
        self._lags = Lags()
        self._snapshot = self.switchboard.snapshot(0.0, self._lags)
        self._snapshot_at = 0.0
        self._deadline: float | None = None
        self._forced = False
        self._reports = self._calls_logged = 0
        self._now = self._tick_at = self._flush_at = 0.0
        self._waiting = False

    def _make_room(self, config: BrokerSettings) -> tuple[BrokerSettings, int]:
        """Sees to it that there are descriptors for all who may join, or lets fewer join; gives how many
        connections there may be on the players' side too."""
        wanted, trusted = connections(config.max_players, config.max_operators)
        room = max(make_room(wanted + trusted) - trusted, 1)
        if room < wanted:
            players = max(1, room - room // STRANGERS_SHARE - 1)
            log.warning(
                "max_players is %d, not %d: that takes %d descriptors (ulimit -n, LimitNOFILE=)",
                players,
                config.max_players,
                wanted + trusted + RESERVED,
            )
            config = replace(config, max_players=players)
        return config, room

    def _open(self) -> None:
        """Makes the sockets. A simulator has others in their place."""
        config = self.config
        # libzmq numbers peers that name no routing ID by a counter whose start is always the same;
        # somebody who claims its next values makes the process abort (libzmq issue 4633).
        ctypes.CDLL(None).srand(secrets.randbits(31))
        self._signals, self._wake = socket.socketpair()
        for end in (self._signals, self._wake):
            end.setblocking(False)
            self._stack.enter_context(end)
        self._handlers = self._stack.enter_context(ExitStack())
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 1024)
        self._stack.callback(context.term)
        secret = None
        if config.key_file is not None and config.access is not None:
            self._keys = load_broker_key(config.key_file)
            secret = self._keys.secret
            self._access = AccessFile(config.access)
            self._zap = ZAPHandler(context, self._admits)
            self._stack.callback(self._zap.close)
        self._players = RouterSocket(context, Side.PLAYERS, config.players, config.player_queue, secret)
        self._stack.callback(self._players.close)
        self._backend = RouterSocket(context, Side.BACKEND, config.backend, config.backend_queue, secret)
        self._stack.callback(self._backend.close)
        if config.http is not None:
            self._web = self._open_web(config, config.http)
        for address in (config.players, config.backend):
            if secret is None and not is_local(address):
                log.warning("INSECURE: anybody who can reach %s may join as anybody", address)

    def _open_web(self, config: BrokerSettings, address: str) -> Web:
        try:
            from ringback_broker.http.server import Web, read_token

            dashboard = self._make_dashboard(config) if config.dashboard else None
        except ImportError as error:
            extra = "dashboard" if config.dashboard else "metrics"
            raise InvalidSetting(
                "http", f"{error.name} is not installed: pip install 'ringback[{extra}]'"
            ) from None
        token = None if config.http_token_file is None else read_token(config.http_token_file)
        web = Web(address, token, lambda: self._snapshot, SOFTWARE, dashboard)
        self._stack.callback(web.close)
        return web

    def _make_dashboard(self, config: BrokerSettings) -> Dashboard:
        from ringback_broker.http.dashboard import Dashboard
        from ringback_broker.http.observer import Observer

        keys = None
        if self._keys is not None and config.dashboard_key_file is not None:
            keys = load_dashboard_key(config.dashboard_key_file, self._keys)
        return Dashboard(Observer(dialled(self.backend), keys, lambda: self._snapshot), SOFTWARE)

    @property
    def http(self) -> str | None:
        """Where HTTP is served, with the real port, if it is."""
        return None if self._web is None else self._web.url

    @property
    def players(self) -> str:
        """Where players connect to, with the real port."""
        return self._players.address

    @property
    def backend(self) -> str:
        """Where the server and operators connect to, with the real port."""
        return self._backend.address

    def run(self) -> bool:
        """Works until it is stopped, then closes; tells whether it was let drain, and not forced."""
        served = "" if self._web is None else f" http={self.http}"
        log.info("ready players=%s backend=%s%s pid=%d", self.players, self.backend, served, os.getpid())
        try:
            if self._web is not None:
                self._snapshot = self.switchboard.snapshot(time.monotonic(), self._lags)
                self._web.start()
            self._notifier.ready()
            return self._loop()
        finally:
            self.close()

    def close(self) -> None:
        """Closes the sockets; a second time does nothing. Another thread that is in `run` needs `stop`."""
        self._stack.close()

    def _loop(self) -> bool:
        sources = self._sources()
        self._poller = poller = Poller(sources[:2], sources[2:], self.config.spin)
        wake_at: float | None = self._begin(time.monotonic())
        while wake_at is not None:
            wake_at = self._step(poller.wait(wake_at), time.monotonic())
        self._log_end(len(self.switchboard.roster))
        return not self._forced

    def _sources(self) -> tuple[Any, ...]:
        """What is polled: first what carries frames."""
        players, backend = self._players, self._backend
        sources = players.socket, backend.socket, players.monitor, backend.monitor, self._signals.fileno()
        return sources if self._zap is None else (*sources, self._zap.socket)

    def _begin(self, now: float) -> float:
        """Gives when the first step is due, if nothing comes before."""
        self._now = self._flush_at = now
        self._tick_at = now + TICK_S
        return self._tick_at

    def _step(self, ready: set[Any], now: float) -> float | None:
        """Takes what has come, and does what is due. Gives when the next step is due, if nothing comes
        before; None at the end. It asks no clock, so that a simulator can drive it."""
        players, backend, switchboard = self._players, self._backend, self.switchboard
        self._now = now
        for listener in (players, backend):
            if listener.monitor in ready:
                listener.note_events(now)
            since = listener.noted_at
            if listener.socket in ready or since is not None:
                drained = self._take(listener, now)
                if since is not None and (drained or now - since > CLOSED_WITHIN_S):
                    self._take_events(listener.events(), listener.side, now)
        switchboard.send_bundles(now)
        if self._zap is not None and self._zap.socket in ready:
            self._zap.answer()
        if self._signals.fileno() in ready:
            self._take_signals(now)
        if not self._waiting or now >= self._flush_at:
            self._waiting = switchboard.flush()
            self._flush_at = now + FLUSH_S
        if now >= self._tick_at:
            switchboard.tick(now)
            if self._access is not None:
                self._access.look(now)
                self._use(self._access.take())
            if self._rereading is not None:
                self._reconfigure(self._rereading.take())
            self._end_of_reports()
            if now >= self._notify_at:
                self._notifier.alive(f"{len(switchboard.roster.players)} players")
                self._notify_at = now + (self._notifier.watchdog_s or NOTIFY_S)
            self._lags.add(now - self._tick_at)
            self._tick_at = now + TICK_S
            if self._web is not None and now >= self._snapshot_at:
                self._snapshot = switchboard.snapshot(now, self._lags)
                self._snapshot_at = now + SNAPSHOT_S
        wake_at = min(self._tick_at, self._flush_at) if self._waiting else self._tick_at
        if self._deadline is not None:
            if not len(switchboard.roster) or now >= self._deadline:
                return None
            wake_at = min(wake_at, self._deadline)
        noted = players.noted_at is not None or backend.noted_at is not None
        return now if noted else wake_at

    # -- receiving

    def _take(self, listener: RouterSocket, now: float) -> bool:
        """Takes what came to one socket; tells whether that was all."""
        strangers: list[_FromStranger] = []
        taken, drained = 0, False
        while taken < BURST and not drained and len(strangers) < STRANGERS_AT_ONCE:
            wanted = min(max(listener.burst, taken), BURST - taken)
            some = self._take_some(listener, wanted, strangers, now)
            taken += some
            drained = (some < wanted and len(strangers) < STRANGERS_AT_ONCE) or not listener.has_more()
        listener.burst = max(1, taken)
        if strangers:
            self._take_from_strangers(listener, strangers, now)
        return drained

    def _take_some(
        self, listener: RouterSocket, wanted: int, strangers: list[_FromStranger], now: float
    ) -> int:
        """Takes so many messages, unless there are fewer or too many of strangers; gives how many."""
        receive, option = listener.socket.recv, listener.socket.getsockopt
        switchboard, trusted = self.switchboard, listener.side is Side.BACKEND
        known = switchboard.roster.by_routing_id[listener.side]
        refused = switchboard.refused[listener.side]
        taken = 0
        try:
            while taken < wanted:
                routing_id = receive(_NOBLOCK)
                taken += 1
                session = known.get(routing_id)
                if session is None:
                    if routing_id in refused:  # a flood goes on for a moment after it was refused
                        listener.receive_parts(receive(_NOBLOCK))
                        switchboard.counters.strangers += 1
                        continue
                    strangers.append(self._receive_from_stranger(listener, routing_id))
                    if len(strangers) == STRANGERS_AT_ONCE:
                        break
                    continue
                address = receive(_NOBLOCK) if trusted else b""
                if trusted and not option(_RCVMORE):
                    switchboard.malformed(session, 1)
                    continue
                message: Any = receive(_NOBLOCK, not session.sends_much)
                large = len(message) > LARGE_BYTES
                frame: Frame = message
                if session.sends_much:
                    frame = LargeFrame(message) if large else bytes(message)
                session.sends_much = large
                if option(_RCVMORE):
                    switchboard.malformed(session, trusted + len(listener.receive_parts(b"")))
                elif trusted:
                    switchboard.from_backend(session, address, frame, now)
                else:
                    switchboard.from_player(session, frame, now)
        except zmq.Again:
            pass
        return taken

    def _receive_from_stranger(self, listener: RouterSocket, routing_id: bytes) -> _FromStranger:
        first = listener.socket.recv(_NOBLOCK, copy=False)
        try:
            key = "" if self._zap is None else str(first.get("User-Id"))
            connection = Connection(int(first.get(zmq.SRCFD)), str(first.get("Peer-Address")), key)
        except zmq.ZMQError:  # libzmq could not find out: it was closed right after it was accepted
            connection = Connection(-1, "somewhere")
        return routing_id, connection, listener.receive_parts(first.bytes)

    def _take_from_strangers(
        self, listener: RouterSocket, strangers: list[_FromStranger], now: float
    ) -> None:
        """Takes what came from connections without a session, after what came from those with one: a
        descriptor may have served one of them a moment ago, and its last words count."""
        # What the monitor tells is older than these messages: that the connection was accepted, and what
        # became of an earlier one with the same descriptor.
        listener.note_events(now)
        known = self.switchboard.roster.by_routing_id[listener.side]
        for routing_id, connection, parts in strangers:
            self._take_events(listener.events_of(connection.descriptor), listener.side, now)
            if routing_id in known:  # it did not wait for the answer to its HELLO
                self._take_parts(known[routing_id], parts, now)
            else:
                self.switchboard.from_stranger(listener.side, routing_id, parts, connection, now)

    def _take_parts(self, session: Session, parts: list[bytes], now: float) -> None:
        if len(parts) != PARTS[session.side]:
            self.switchboard.malformed(session, len(parts))
        elif session.side is Side.PLAYERS:
            self.switchboard.from_player(session, parts[0], now)
        else:
            self.switchboard.from_backend(session, parts[0], parts[1], now)

    def _take_events(self, events: Iterable[ConnectionEvent], side: Side, now: float) -> None:
        for event, connection, failure in events:
            if event == zmq.EVENT_ACCEPTED:
                self.switchboard.accepted(side, connection, now)
            else:
                self.switchboard.disconnected(side, connection, failure)

    # -- what the switchboard asks for

    def send_player(self, routing_id: bytes, frame: Frame) -> Sent:
        return self._players.send(routing_id, frame)

    def send_backend(self, routing_id: bytes, address: bytes, frame: Frame) -> Sent:
        return self._backend.send_with_address(routing_id, address, frame)

    def silence_ms(self, connection: Connection) -> int | None:
        return self._players.silence_ms(connection.descriptor)

    def round_trip_ms(self, connection: Connection) -> float | None:
        return self._players.round_trip_ms(connection.descriptor)

    def close_connection(self, side: Side, connection: Connection) -> None:
        listener = self._players if side is Side.PLAYERS else self._backend
        listener.note_events(self._now)
        if not listener.has_events_of(connection.descriptor):  # else it may serve somebody else by now
            listener.shut_down(connection.descriptor)

    def report(self, report: PeerEvent) -> None:
        extra = {"fields": report.fields()}
        audit(**extra["fields"])
        self._reports += 1
        if self._reports > REPORTS_A_TICK:
            return
        text = _printable(report.detail[:MAX_DETAIL_CHARS])
        session = report.session
        if session is None or report.event == "refused":
            log.warning("%s %s", report.event, text, extra=extra)
        else:
            comes_or_goes = report.event in ("joined", "left")
            level = logging.DEBUG if comes_or_goes and session.role is Role.OPERATOR else logging.INFO
            name, remote = session.name, session.connection.remote
            log.log(level, "%s %s %s (%s)", report.event, name, remote, text, extra=extra)

    def log_call(self, call: WatchedCall) -> None:
        self._calls_logged += 1
        if self._calls_logged > CALLS_A_TICK:
            return
        fields = {
            "event": "called",
            "side": call.side.value,
            "player": call.player_id,
            "key": call.key,
            "outcome": call.outcome,
            "ms": round(1000 * call.took_s, 3),
        }
        text = _printable(f"{way(call.side, call.player_id)} {call.key} {call.outcome}")
        log.info("called %s %.3f ms", text, fields["ms"], extra={"fields": fields})

    def _end_of_reports(self) -> None:
        if self._reports > REPORTS_A_TICK:
            log.warning("%d more sessions began, ended or were refused", self._reports - REPORTS_A_TICK)
        if self._calls_logged > CALLS_A_TICK:
            log.warning("%d more calls that are watched ended", self._calls_logged - CALLS_A_TICK)
        self._reports = self._calls_logged = 0

    # -- keys

    def _admits(self, side: Side, public: str, remote: str) -> bool:
        access = self.switchboard.access
        try:
            if access is not None and access.admits(side, public):
                return True
        except Exception:  # our mistake; who can't be checked does not come in
            log.exception("the list of keys could not be asked")
        self.switchboard.deny(side, remote, public)
        return False

    def _use(self, access: AccessList | AccessError | None) -> None:
        """Has another list of keys hold. One that could not be read changes nothing."""
        if isinstance(access, AccessError):
            log.error("the list of keys was not reloaded, the old one holds: %s", access)
            audit(event="keys not reloaded", reason=str(access))
        elif access is not None:
            log.info("the list of keys was reloaded: %d keys", len(access))
            audit(event="keys reloaded", keys=len(access))
            self.switchboard.use(access)

    # -- settings

    def _reconfigure(self, config: BrokerSettings | Exception | None) -> None:
        """Has other settings hold, as far as that can be. Wrong ones change nothing."""
        if isinstance(config, Exception):
            log.error("the settings were not reloaded, the old ones hold: %s", config)
            audit(event="settings not reloaded", reason=str(config))
        elif config is not None:
            changed = change(self._asked_for, config)
            self._asked_for = changed.config
            self.config, room = self._make_room(self._asked_for)
            self.switchboard.reconfigure(self.config, room)
            self._poller.spin_s = self.config.spin
            log.info("the settings were reloaded: %s", ", ".join(changed.taken) or "nothing has changed")
            audit(event="settings reloaded", taken=changed.taken, waiting=changed.waiting)
            if changed.waiting:
                log.warning("these settings hold after a restart: %s", ", ".join(changed.waiting))

    # -- stopping

    def handle_signals(self) -> None:
        """Has SIGTERM and SIGINT stop this broker, and SIGHUP reload its settings and its list of keys, until
        it is closed.

        Only in the main thread.
        """
        before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._handlers.callback(signal.set_wakeup_fd, before)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            previous = signal.signal(number, _wake_only)
            self._handlers.callback(signal.signal, number, previous or signal.SIG_DFL)

    def notify(self, environment: Mapping[str, str]) -> None:
        """Has a service manager told when this broker is ready, lives and stops, where the environment names
        one; to be called before `run`."""
        self._notifier = Notifier(environment)
        self._notify_at = 0.0

    def stop(self) -> None:
        """Asks the loop to drain, a second time to end at once. From any thread or a signal handler."""
        with suppress(OSError):  # full: it was asked often enough; closed: it has ended
            self._wake.send(b"\0")

    def _take_signals(self, now: float) -> None:
        # A program around this broker may handle other signals: these wake the loop too, for nothing.
        numbers = self._signals.recv(64)
        if signal.SIGHUP in numbers:
            if self._access is not None:
                self._access.start_reading()
            if self._rereading is not None:
                self._rereading.start()
            if self._access is None and self._rereading is None:
                log.info("there is nothing to read again: no file of settings, no list of keys")
        times = sum(number in _STOPPING for number in numbers)
        if self._deadline is None and times == 1:
            self.drain(None)
        elif times:
            log.info("stopping at once")
            self._deadline = now
            self._forced = True

    def drain(self, grace_s: float | None) -> None:
        """Lets nobody in any more, and stops once all have left, or when the time is over. A second time does
        nothing. From another thread than that of `run` it is `stop` that does this."""
        if self._deadline is not None:
            return
        grace_s = self.config.grace if grace_s is None else grace_s
        log.info("stopping: draining for at most %g s; a second signal ends at once", grace_s)
        self._notifier.stopping("draining")
        self._deadline = self._now + grace_s
        self.switchboard.drain(grace_s)

    def _log_end(self, left: int) -> None:
        if not left:
            log.info("stopped: everybody has left")
        else:
            log.warning("stopped with %d peers connected: what they had in flight is lost", left)


_STOPPING = (0, signal.SIGTERM, signal.SIGINT)


def _printable(text: str) -> str:
    """Gives a text that looks like no other line: parts of it are what a peer says of itself."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _wake_only(_number: int, _frame: StackFrame | None) -> Any:
    """The byte that Python writes to the wake-up descriptor does the work."""
