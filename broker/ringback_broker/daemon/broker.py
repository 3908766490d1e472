"""The broker: what it is made of, and its life from start to end."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.metadata import version

from ringback.protocol.addresses import is_local
from ringback_broker.admission.access_list import AccessList
from ringback_broker.cluster.cluster import Cluster
from ringback_broker.daemon.containment import Containment
from ringback_broker.daemon.descriptors import DescriptorWatch, fit_players
from ringback_broker.daemon.http_side import HTTPSide
from ringback_broker.daemon.key_files import AccessFile, load_broker_key
from ringback_broker.daemon.log_lines import LogLines
from ringback_broker.daemon.loop import Loop
from ringback_broker.daemon.nats_side import RealmFailed, make_link
from ringback_broker.daemon.receiver import Receiver
from ringback_broker.daemon.reloads import AccessListReload, SettingsReload, start_all
from ringback_broker.daemon.signals import Signals
from ringback_broker.daemon.socket_wire import SocketWire
from ringback_broker.daemon.sockets import Sockets
from ringback_broker.daemon.stopping import Stopping, log_end
from ringback_broker.daemon.systemd import Notifier
from ringback_broker.daemon.unfinished_watch import ProcessMemory, UnfinishedWatch
from ringback_broker.operations.snapshot import Snapshot
from ringback_broker.peers.connection import Side
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard.switchboard import Switchboard

log = logging.getLogger("ringback.broker")

SOFTWARE = f"ringback/{version('ringback')}"


class Broker:
    """A broker. It listens once it is made, and works in `run`, in the thread that calls it.

    `run` closes it at the end. Call `close` if `run` is never called.

    Args:
        settings: None: the defaults.
        reread: reads the settings again and returns them. A thread calls this after SIGHUP. None: they never
            change.

    Attributes:
        settings: what holds now.
        switchboard: sessions, counters and routing. Only the thread of `run` may use it.

    Raises:
        BindError: the broker cannot listen on an address.
        InvalidSetting: a file that the settings name cannot be used, or a package is missing.
    """

    def __init__(
        self, settings: BrokerSettings | None = None, reread: Callable[[], BrokerSettings] | None = None
    ) -> None:
        asked_for = settings or BrokerSettings()
        with ExitStack() as stack:
            self._signals = Signals(self._asked_to_stop, lambda: start_all(self._reloads))
            stack.callback(self._signals.close)
            keys = access_file = None
            if asked_for.key_file is not None and asked_for.access is not None:
                keys, access_file = load_broker_key(asked_for.key_file), AccessFile(asked_for.access)
            secret = None if keys is None else keys.secret
            self._sockets = sockets = Sockets(asked_for, secret, self._admits, self._denied)
            stack.callback(sockets.close)
            self.settings, room = fit_players(asked_for)
            lines = LogLines()
            stack.callback(lines.close)
            self._failure: str | None = None
            self._waits_for_name = False
            in_realm = asked_for.cluster is not None
            self._nats = make_link(asked_for, SOFTWARE, self._fail, self._contain) if in_realm else None
            if self._nats is not None:
                stack.callback(self._nats.close)
            access = None if access_file is None else access_file.list
            self.switchboard = self._make_switchboard(lines, room, access)
            self._reloads: list[AccessListReload | SettingsReload] = []
            if access_file is not None:
                self._reloads.append(AccessListReload(access_file, self.switchboard.use))
            if reread is not None:
                self._reloads.append(SettingsReload(asked_for, reread, self._use))
            self._notifier = Notifier({})
            self._stopping = Stopping(self._start_draining)
            memory = ProcessMemory.open()
            if memory is not None:
                stack.callback(memory.close)
            self._loop = self._make_loop(lines, memory)
            self._poller = self._loop.poller(self.settings.spin)
            self._http: HTTPSide | None = None
            if asked_for.http is not None:
                self._http = HTTPSide(
                    asked_for, asked_for.http, self.backend, keys, SOFTWARE, self._take_snapshot
                )
                stack.callback(self._http.close)
            self._stack = stack.pop_all()
        if keys is None:
            _warn_if_exposed(asked_for.players, asked_for.backend)

    def _make_switchboard(self, lines: LogLines, room: int, access: AccessList | None) -> Switchboard:
        sockets, nats, cluster = self._sockets, self._nats, None
        if nats is not None:
            cluster = Cluster(nats.node, self.settings.node_lease, nats.records, nats.frames)
        switchboard = Switchboard(
            self.settings,
            SocketWire(sockets.players, sockets.backend, lines, self.drain, time.monotonic),
            SOFTWARE,
            max_connections=room,
            access=access,
            unix_time=time.time,
            cluster=cluster,
            broker_id=secrets.randbits(64),
        )
        if nats is not None and switchboard.realm is not None:
            nats.attach(switchboard.realm, switchboard.realm.other_nodes)
        return switchboard

    def _make_loop(self, lines: LogLines, memory: ProcessMemory | None) -> Loop:
        sockets, signals = self._sockets, self._signals
        receivers = [
            Receiver(router, self.switchboard, has_keys=sockets.zap is not None)
            for router in (sockets.players, sockets.backend)
        ]
        others: dict[object, Callable[[float], None]] = {signals.fileno(): signals.take}
        if sockets.zap is not None:
            others[sockets.zap.socket] = sockets.zap.answer
        descriptors = DescriptorWatch(signals.fileno())
        duties = [*(reload.tick for reload in self._reloads), lines.tick, descriptors.tick, self._tick]
        routers = {router.side: router for router in (sockets.players, sockets.backend)}
        watch = None if memory is None else UnfinishedWatch(self.switchboard, routers, memory)
        look = None if watch is None else watch.look
        nats, realm = self._nats, self.switchboard.realm
        first = None if realm is None else realm.begin_step
        return Loop(self.switchboard, receivers, self._stopping, others, duties, look, nats, first)

    @property
    def players(self) -> str:
        """The address where players connect, with the real port."""
        return self._sockets.players.address

    @property
    def backend(self) -> str:
        """The address where the server and operators connect, with the real port."""
        return self._sockets.backend.address

    @property
    def http(self) -> str | None:
        """The URL of the HTTP side, with the real port; None if there is none."""
        return None if self._http is None else self._http.url

    def run(self) -> bool:
        """Work until the broker is stopped, then close it.

        Returns:
            Whether it could drain. False: it was asked to stop at once.

        Raises:
            RealmFailed: it cannot be a node of its realm.
        """
        served = "" if self._http is None else f" http={self.http}"
        log.info("ready players=%s backend=%s%s pid=%d", self.players, self.backend, served, os.getpid())
        try:
            if self._http is not None:
                self._http.start(time.monotonic())
            if self._nats is not None:
                self._nats.start()
            self._notifier.ready()
            self._loop.run(self._poller)
            if self.switchboard.realm is not None:
                self.switchboard.realm.leave()
            if self._failure is not None:
                raise RealmFailed(self._failure)
            log_end(len(self.switchboard.roster))
            return not self._stopping.forced
        finally:
            self.close()

    def close(self) -> None:
        """Close all sockets. Closing twice does no harm. While another thread is in `run`, call `stop`."""
        self._stack.close()

    def handle_signals(self) -> None:
        """Let SIGTERM and SIGINT stop this broker, and SIGHUP reload its settings and its access list.

        Call it in the main thread. The handlers stay until the broker is closed.
        """
        self._signals.handle()

    def notify(self, environment: Mapping[str, str]) -> None:
        """Tell a service manager when this broker is ready, alive and stopping. Call it before `run`.

        Args:
            environment: the variables of the process; they name the service manager, if there is one.
        """
        self._notifier = Notifier(environment)

    def stop(self, *, at_once: bool = False) -> None:
        """Ask the broker to drain; a second time, to stop at once.

        Any thread and any signal handler may call this.

        Args:
            at_once: whether to stop without draining. Nobody is told: peers lose their links.
        """
        self._signals.stop(2 if at_once else 1)

    def drain(self, grace_s: float | None) -> None:
        """Let nobody in any more, and stop when all have left or the time is over.

        Only the thread of `run` may call this; others call `stop`. A second time it does nothing.

        Args:
            grace_s: the time in seconds; None: the setting `grace`.
        """
        self._stopping.drain(self.settings.grace if grace_s is None else grace_s, time.monotonic())

    def _asked_to_stop(self, times: int, now: float) -> None:
        self._stopping.ask(times, self.settings.grace, now)

    def _start_draining(self, grace_s: float) -> None:
        self._notifier.stopping("draining")
        self.switchboard.drain(grace_s)

    def _fail(self, why: str) -> None:
        """End the broker, which cannot be a node of its realm."""
        self._failure = why
        self._stopping.deadline = 0.0  # nobody could join yet, so there is nothing to drain

    def _use(self, asked_for: BrokerSettings) -> None:
        """Put other settings in force."""
        self.settings, room = fit_players(asked_for)
        self.switchboard.reconfigure(self.settings, room)
        self._poller.spin_s = self.settings.spin

    def _admits(self, side: Side, public_key: str) -> bool:
        access = self.switchboard.access
        return access is not None and access.admits(side, public_key)

    def _denied(self, side: Side, ip: str, public_key: str) -> None:
        self.switchboard.deny(side, ip, public_key)

    def _take_snapshot(self, now: float) -> Snapshot:
        return self.switchboard.snapshot(now, self._loop.lags)

    def _contain(self, what: str, error: Exception) -> None:
        Containment(self.switchboard.counters)(what, error)

    def _tick(self, now: float) -> None:
        status = f"{len(self.switchboard.roster.players)} players"
        realm = self.switchboard.realm
        if realm is not None:
            if realm.is_refused:
                self._fail("another broker of this realm has the name of this node (--node), and is alive")
            elif realm.meets_rival is not self._waits_for_name:
                self._waits_for_name = realm.meets_rival
                log.info("%s", _WAITS if self._waits_for_name else _WAITS_NO_MORE)
            if not realm.is_ready:
                status += ", not in its realm"
        self._notifier.alive(status, now)
        if self._http is not None:
            self._http.tick(now)


_WAITS = (
    "another broker had the name of this node (--node): waiting for at most node_lease to see if it is dead"
)
_WAITS_NO_MORE = "that broker is dead: this one takes its place"


def _warn_if_exposed(*addresses: str) -> None:
    """Warn of each address that other machines can reach, where connections are not encrypted."""
    for address in addresses:
        if not is_local(address):
            log.warning("INSECURE: anybody who can reach %s may join as anybody", address)
