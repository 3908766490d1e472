"""The loop around the switchboard: poll, drain, decide, send, tick."""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import signal
import socket
import time
from contextlib import ExitStack, suppress
from types import FrameType as StackFrame
from typing import Any

import zmq

from ringback.protocol.frames import Role
from ringback_broker.config import BrokerConfig
from ringback_broker.session import Connection, Sent, Session, Side
from ringback_broker.sockets import BindError, Listener, send, shut_down
from ringback_broker.switchboard import Switchboard

log = logging.getLogger("ringback.broker")

SOFTWARE = "ringback/0.1.0"
BURST = 1000
"""Messages taken from one socket before the other has its turn."""

TICK_S = 1.0
BACKLOG_TICK_S = 0.02
REPORTS_A_TICK = 100
"""Log lines about sessions in one tick; what is over it is counted in one line."""

_NOBLOCK = int(zmq.NOBLOCK)
_RCVMORE = int(zmq.RCVMORE)

__all__ = ["BindError", "Broker"]


class Broker:
    """A broker process's one object: binds when made, works in `run`.

    Raises:
        BindError: an address can't be listened at.
    """

    def __init__(self, config: BrokerConfig | None = None) -> None:
        self.config = config or BrokerConfig()
        # libzmq numbers peers that name no routing ID by a counter whose start is always the same;
        # somebody who claims its next values makes the process abort (libzmq issue 4633).
        ctypes.CDLL(None).srand(secrets.randbits(31))
        self._stack = ExitStack()
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        self.switchboard = Switchboard(self.config, self, SOFTWARE)
        self._deadline: float | None = None
        self._reports = 0

    def _open(self) -> None:
        config = self.config
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 1024)
        self._stack.callback(context.term)
        self._players = Listener(context, Side.PLAYERS, config.players, config.player_queue)
        self._stack.callback(self._players.close)
        self._backend = Listener(context, Side.BACKEND, config.backend, config.backend_queue)
        self._stack.callback(self._backend.close)
        self._signals, self._wake = socket.socketpair()
        self._stack.callback(self._signals.close)
        self._stack.callback(self._wake.close)
        self._signals.setblocking(False)
        self._wake.setblocking(False)

    @property
    def players(self) -> str:
        """Where players connect to, with the real port."""
        return self._players.address

    @property
    def backend(self) -> str:
        """Where the server and operators connect to, with the real port."""
        return self._backend.address

    def run(self) -> bool:
        """Works until it is stopped, then closes; tells whether everybody had left by then."""
        log.info("ready players=%s backend=%s pid=%d", self.players, self.backend, os.getpid())
        try:
            return self._loop()
        finally:
            self._stack.close()

    def _loop(self) -> bool:
        players, backend, switchboard = self._players, self._backend, self.switchboard
        sources = (players.socket, backend.socket, players.monitor, backend.monitor, self._signals.fileno())
        inputs: list[Any] = [(source, zmq.POLLIN) for source in sources]
        now = time.monotonic()
        tick_at = now + TICK_S
        while True:
            timeout_ms = max(0, round((tick_at - now) * 1000))
            ready: set[Any] = {source for source, _ in zmq.zmq_poll(inputs, timeout_ms)}
            now = time.monotonic()
            # A connection that closed comes last: what it sent before is taken first.
            if players.socket in ready or players.monitor in ready:
                self._take_from_players(now)
            if backend.socket in ready or backend.monitor in ready:
                self._take_from_backend(now)
            if players.monitor in ready:
                self._take_events(players, now)
            if backend.monitor in ready:
                self._take_events(backend, now)
            if self._signals.fileno() in ready:
                self._take_signals(now)
            waiting = switchboard.flush()
            if now >= tick_at:
                switchboard.tick(now)
                self._end_of_reports()
                tick_at = now + TICK_S
            if waiting:
                tick_at = min(tick_at, now + BACKLOG_TICK_S)
            if self._deadline is not None:
                if not len(switchboard.roster) or now >= self._deadline:
                    return not len(switchboard.roster)
                tick_at = min(tick_at, self._deadline)

    # -- receiving

    def _take_from_players(self, now: float) -> None:
        listener = self._players
        receive, option = listener.socket.recv, listener.socket.getsockopt
        known, take = self.switchboard.roster.by_routing_id[Side.PLAYERS], self.switchboard.from_player
        with suppress(zmq.Again):
            for _ in range(BURST):
                routing_id = receive(_NOBLOCK)
                session = known.get(routing_id)
                if session is None:
                    self._take_from_stranger(listener, routing_id, now)
                    continue
                frame = receive(_NOBLOCK)
                if option(_RCVMORE):
                    parts = listener.receive_parts(frame)
                    self.switchboard.malformed(session, len(parts), now)
                else:
                    take(session, frame, now)

    def _take_from_backend(self, now: float) -> None:
        listener = self._backend
        receive, option = listener.socket.recv, listener.socket.getsockopt
        known, take = self.switchboard.roster.by_routing_id[Side.BACKEND], self.switchboard.from_backend
        with suppress(zmq.Again):
            for _ in range(BURST):
                routing_id = receive(_NOBLOCK)
                session = known.get(routing_id)
                if session is None:
                    self._take_from_stranger(listener, routing_id, now)
                    continue
                address = receive(_NOBLOCK)
                frame = receive(_NOBLOCK) if option(_RCVMORE) else None
                if frame is None or option(_RCVMORE):
                    parts = 1 if frame is None else len(listener.receive_parts(frame)) + 1
                    self.switchboard.malformed(session, parts, now)
                else:
                    take(session, address, frame, now)

    def _take_from_stranger(self, listener: Listener, routing_id: bytes, now: float) -> None:
        first = listener.socket.recv(_NOBLOCK, copy=False)
        descriptor, remote = first.get(zmq.SRCFD), first.get("Peer-Address")
        parts = listener.receive_parts(first.bytes)
        # What the monitor knows is older than this message: an earlier connection with the same descriptor
        # has to be gone from the tables before this one comes in.
        self._take_events(listener, now)
        connection = Connection(int(descriptor), str(remote))
        self.switchboard.from_stranger(listener.side, routing_id, parts, connection, now)

    def _take_events(self, listener: Listener, now: float) -> None:
        for event, connection in listener.events():
            if event == zmq.EVENT_ACCEPTED:
                self.switchboard.accepted(listener.side, connection, now)
            else:
                self.switchboard.disconnected(listener.side, connection)

    # -- what the switchboard asks for

    def send_player(self, routing_id: bytes, frame: bytes) -> Sent:
        return send(self._players.socket, (routing_id, frame))

    def send_backend(self, routing_id: bytes, address: bytes, frame: bytes) -> Sent:
        return send(self._backend.socket, (routing_id, address, frame))

    def close(self, side: Side, connection: Connection) -> None:
        shut_down(connection.descriptor)

    def report(self, event: str, session: Session | None, detail: str) -> None:
        self._reports += 1
        if self._reports > REPORTS_A_TICK:
            return
        if session is None:
            log.warning("%s %s", event, detail)
        else:
            level = logging.DEBUG if session.role is Role.OPERATOR else logging.INFO
            log.log(level, "%s %s %s (%s)", event, session.name, session.connection.remote, detail)

    def _end_of_reports(self) -> None:
        if self._reports > REPORTS_A_TICK:
            log.warning("%d more sessions began, ended or were refused", self._reports - REPORTS_A_TICK)
        self._reports = 0

    # -- stopping

    def handle_signals(self) -> None:
        """Has SIGTERM and SIGINT stop this broker; only in the main thread of a process."""
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _wake_only)

    def stop(self) -> None:
        """Asks the loop to drain, a second time to end at once. From any thread or a signal handler."""
        with suppress(BlockingIOError):
            self._wake.send(b"\0")

    def _take_signals(self, now: float) -> None:
        try:
            count = len(self._signals.recv(16))
        except BlockingIOError:
            return
        if self._deadline is None and count == 1:
            log.info("stopping: draining for at most %g s; a second signal ends at once", self.config.grace_s)
            self._deadline = now + self.config.grace_s
            self.switchboard.drain(self.config.grace_s)
        else:
            log.info("stopping at once")
            self._deadline = now


def _wake_only(_number: int, _frame: StackFrame | None) -> Any:
    """The byte that Python writes to the wake-up descriptor does the work."""
