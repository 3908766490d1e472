"""A broker in the simulator: its own loop and switchboard, on simulated sockets."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import zmq
from sim.network import Connection, Process, World
from support.switchboards import check_tables

from ringback.protocol.bundles import unbundle
from ringback.protocol.frames import FrameType
from ringback_broker.cluster.cluster import Cluster
from ringback_broker.daemon import receiver
from ringback_broker.daemon.log_lines import LogLines
from ringback_broker.daemon.loop import Loop
from ringback_broker.daemon.receiver import Receiver
from ringback_broker.daemon.socket_wire import SocketWire
from ringback_broker.daemon.stopping import Stopping
from ringback_broker.net.router_socket import RouterSocket
from ringback_broker.operations.events import PeerEvent
from ringback_broker.peers.connection import Connection as PeerConnection
from ringback_broker.peers.connection import Side
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard.switchboard import Switchboard

_EVENT = struct.Struct("=hi")
_CARRIED = (FrameType.DATA, FrameType.RELAY)
_ENDED = tuple(
    f"sessions_{why}" for why in ("expired", "too_slow", "too_fast", "replaced", "kicked", "moved")
)


class _Frame:
    """The first part of a message, as pyzmq returns it with `copy=False`."""

    def __init__(self, data: bytes, connection: Connection, known: bool) -> None:
        self.bytes = data
        self._connection = connection
        self._known = known

    @property
    def buffer(self) -> memoryview:
        return memoryview(self.bytes)

    def __len__(self) -> int:
        return len(self.bytes)

    def __bytes__(self) -> bytes:
        return self.bytes

    def get(self, option: int | str) -> Any:
        if not self._known:
            raise zmq.ZMQError(zmq.EINVAL)
        return self._connection.descriptor if option == zmq.SRCFD else f"peer-{self._connection!r}"


class Router:
    """A ROUTER socket and its monitor, with the methods that the broker uses."""

    def __init__(self, process: BrokerProcess, side: Side) -> None:
        self.process = process
        self.monitor = _Monitor()
        self.peers: dict[bytes, Connection] = {}
        self.waiting: list[Connection] = []
        self._side = side
        self._parts: deque[bytes] = deque()
        self._from: Connection | None = None
        self._outgoing: list[bytes] = []

    # -- called by the network

    def accepted(self, connection: Connection) -> int:
        descriptor = self.process.free_descriptor()
        self.peers[connection.routing_id] = connection
        self._tell(zmq.EVENT_ACCEPTED, descriptor)
        return descriptor

    def closed(self, connection: Connection, told: bool) -> None:
        if told:
            self._tell(zmq.EVENT_DISCONNECTED, connection.descriptor)
        self.process.descriptors.discard(connection.descriptor)
        if not connection.up.unread:
            self.peers.pop(connection.routing_id, None)

    def _tell(self, event: int, descriptor: int) -> None:
        self.monitor.events.append([_EVENT.pack(event, descriptor), b"somewhere"])
        self.process.nudge()

    def readable(self, connection: Connection) -> None:
        if len(connection.up.unread) == 1:
            self.waiting.append(connection)
        self.process.nudge()

    # -- called by the broker

    def recv(self, _flags: int = 0, copy: bool = True) -> Any:
        if not self._parts:
            return self._next()
        part = self._parts.popleft()
        if copy:
            return part
        connection = self._from
        assert connection is not None
        world = self.process.world
        return _Frame(part, connection, connection.open_above or not world.chance(0.05))

    def _next(self) -> bytes:
        """Take a message of any connection that has one, and return its routing ID."""
        if not self.waiting:
            raise zmq.Again
        i = int(len(self.waiting) * self.process.world.random.random())
        connection = self._from = self.waiting[i]
        self._parts.extend(connection.up.read())
        # A session must not end before the last messages of its peer are taken. This cannot be promised when
        # the broker takes only a few messages at a time.
        few = min(receiver.BURST, receiver.STRANGERS_AT_ONCE) < 64
        assert few or connection.routing_id not in self.process.departed, (
            f"a message of {connection} was taken after its session had ended"
        )
        if not connection.up.unread:
            del self.waiting[i]
            if not connection.open_above:
                del self.peers[connection.routing_id]
        return connection.routing_id

    def getsockopt(self, option: int) -> bool:
        return bool(self.waiting if option == zmq.EVENTS else self._parts)

    def send(self, part: bytes | _Frame, flags: int, copy: bool = True) -> None:
        if not self._outgoing:
            self._check_room(bytes(part))
        self._outgoing.append(bytes(part))
        if not flags & zmq.SNDMORE:
            routing_id, *parts = self._outgoing
            self._outgoing = []
            self.process.count(parts[-1])
            self.process.sends(routing_id, parts[-1])
            self.peers[routing_id].down.send(tuple(parts))

    def _check_room(self, routing_id: bytes) -> None:
        connection = self.peers.get(routing_id)
        if connection is None or not connection.open_above:
            if connection is not None and connection.was_full:
                connection.was_full = False
                raise zmq.Again
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        if connection.down.full:
            raise zmq.Again


class _Monitor:
    def __init__(self) -> None:
        self.events: deque[list[bytes]] = deque()

    def recv_multipart(self, _flags: int) -> list[bytes]:
        if not self.events:
            raise zmq.Again
        return self.events.popleft()


class _Wire(SocketWire):
    """The broker's wire. It gets facts about connections from the simulated network, and writes no logs."""

    def __init__(
        self,
        process: BrokerProcess,
        players: RouterSocket,
        backend: RouterSocket,
        drain: Callable[[float | None], None],
    ) -> None:
        super().__init__(players, backend, LogLines(), drain, clock=lambda: process.world.now)
        self.log_event = self._note
        self._process = process

    def _note(self, event: PeerEvent) -> None:
        world, session, detail = self._process.world, event.session, event.detail
        if session is not None and detail == "its connection closed":
            self._process.departed.add(session.routing_id)
        if world.trace is not None:
            world.note("broker", f"{event.event} {session.name if session else ''} ({detail})")

    def shut_down(self, descriptor: int) -> None:
        connection = self._process.connection_of(descriptor)
        if connection is not None:
            self._process.world.note("broker", f"closes {connection}")
            connection.close_above()

    def round_trip_ms(self, connection: PeerConnection) -> float | None:
        return None

    def silence_ms(self, connection: PeerConnection) -> int | None:
        found = self._process.connection_of(connection.descriptor)
        if found is None or not self._process.world.weather.silence_told:
            return None
        return int(found.silence_s() * 1000)


class _Bell:
    """The source that wakes the loop when the broker is asked to stop."""

    def __init__(self, stopping: Stopping, grace_s: float) -> None:
        self.rung = 0
        self._stopping = stopping
        self._grace_s = grace_s

    def take(self, now: float) -> None:
        times, self.rung = self.rung, 0
        self._stopping.ask(times, self._grace_s, now)


def _fault(what: str, error: Exception) -> None:
    raise error


class _Daemon:
    """The broker's own switchboard, receivers and loop, on simulated sockets."""

    def __init__(self, settings: BrokerSettings, process: BrokerProcess, cluster: Cluster | None) -> None:
        self._process = process
        self._grace_s = settings.grace
        routers = [
            RouterSocket(side, router, router.monitor, side.value) for side, router in process.routers.items()
        ]
        self._events = [router.events for router in routers]
        for router in routers:
            router.events.inode_of = partial(process.inode_of, router.side)
        self.switchboard = Switchboard(
            settings,
            _Wire(process, *routers, self.drain),
            max_connections=process.max_connections,
            nonce=lambda: process.world.random.randbytes(16),
            cluster=cluster,
        )
        self._stopping = Stopping(self.switchboard.drain)
        self._bell = _Bell(self._stopping, settings.grace)
        receivers = [Receiver(router, self.switchboard, has_keys=True) for router in routers]
        realm = self.switchboard.realm
        others = {self._bell: self._bell.take}
        inbox = process.inbox
        first = None if realm is None else realm.begin_step
        self._loop = Loop(self.switchboard, receivers, self._stopping, others, carrier=inbox, first=first)
        # A real broker goes on after a fault. Here it ends the run.
        parts: list[Any] = [self._loop, *receivers, *(receiver._strangers for receiver in receivers)]
        for part in parts:
            part._contain = _fault

    def stop(self) -> None:
        self._bell.rung += 1

    def drain(self, grace_s: float | None) -> None:
        self._stopping.drain(self._grace_s if grace_s is None else grace_s, self._process.world.now)

    def begin(self, now: float) -> float:
        return self._loop.begin(now)

    def step(self, now: float) -> float | None:
        world = self._process.world
        routers = self._process.routers.values()
        ready: set[Any] = {router for router in routers if router.waiting}
        if not world.chance(world.weather.busy):  # otherwise the events come right after the poll
            ready |= {router.monitor for router in routers if router.monitor.events}
        if self._bell.rung:
            ready.add(self._bell)
        if self._process.inbox.waiting:
            ready.add(self._process.inbox.fileno())
        return self._loop.step(ready, now)

    @property
    def at_rest(self) -> bool:
        return all(events.noted_at is None for events in self._events)


class Inbox:
    """What the engine of a realm has heard. The broker's loop takes it, in a step."""

    due = float("inf")

    def __init__(self, process: BrokerProcess) -> None:
        self.waiting: deque[Callable[[float], object]] = deque()
        self._process = process

    def add(self, heard: Callable[[float], object]) -> None:
        if self._process.alive:
            self.waiting.append(heard)
            self._process.nudge()

    def fileno(self) -> int:
        return 1

    def take(self, now: float) -> None:
        while self.waiting:
            self.waiting.popleft()(now)

    def flush(self) -> None:
        """Do nothing: the simulated engine has what was sent to other nodes."""


class BrokerProcess(Process):
    """A broker, from its start to its end."""

    def __init__(
        self,
        world: World,
        settings: BrokerSettings,
        max_connections: int,
        name: str = "broker",
        join: Callable[[BrokerProcess], Cluster] | None = None,
    ) -> None:
        super().__init__(world, name)
        self.inbox = Inbox(self)
        self.max_connections = max_connections
        self.descriptors: set[int] = set()
        self.routers = {side: Router(self, side) for side in Side}
        self.daemon = _Daemon(settings, self, None if join is None else join(self))
        self.sent: dict[int, int] = {}
        self.departed: set[bytes] = set()
        self._next_check = world.now
        self.wake(self.daemon.begin(world.now) - world.now)

    @property
    def counters(self) -> Any:
        return self.switchboard.counters

    @property
    def switchboard(self) -> Any:
        return self.daemon.switchboard

    def free_descriptor(self) -> int:
        descriptor = next(number for number in count(10) if number not in self.descriptors)
        self.descriptors.add(descriptor)
        return descriptor

    def inode_of(self, side: Side, descriptor: int) -> int:
        connection = self.connection_of(descriptor)
        if connection is None or connection.side is not side:
            return 0
        return int.from_bytes(connection.routing_id)

    def connection_of(self, descriptor: int) -> Connection | None:
        for connection in self.world.connections:
            if self._is_ours(connection) and connection.descriptor == descriptor:
                return connection
        return None

    def _is_ours(self, connection: Connection) -> bool:
        router = connection.router
        return connection.open_above and router is not None and router.process is self

    def count(self, frame: bytes) -> None:
        for carried in unbundle(frame)[1::2] if frame[1] == FrameType.BUNDLE else (frame,):
            self.sent[carried[1]] = self.sent.get(carried[1], 0) + 1

    def sends(self, routing_id: bytes, frame: bytes) -> None:
        """Take note of a frame that leaves for an endpoint."""

    def nudge(self) -> None:
        """Wake the broker. Now and then its machine has other work to do first."""
        world = self.world
        self.wake(world.random.random() * (0.05 if world.chance(world.weather.busy) else 0.0005))

    def step(self) -> None:
        now = self.world.now
        wake_at = self.daemon.step(now)
        if now >= self._next_check:
            self._next_check = now + 0.2
            check_tables(self)
        if wake_at is None:
            self.world.note(self.name, "has ended")
            self.kill()
            return
        busy = any(router.waiting or router.monitor.events for router in self.routers.values())
        busy = busy or bool(self.inbox.waiting)
        self.wake(0.0 if busy else max(0.0, wake_at - now))

    def kill(self) -> None:
        check_tables(self)
        self.check_counters()
        self.alive = self.stopped = False
        for connection in list(self.world.connections):
            if connection.router is not None and connection.router.process is self:
                connection.close_above(told=False)
                connection.up.unread.clear()
        self.world.look()

    def check_counters(self) -> None:
        """Check that the counters agree with the frames that were sent."""
        counters = self.counters
        carried = counters.frames_up + counters.frames_down + counters.frames_relayed
        assert carried == sum(self.sent.get(kind, 0) for kind in _CARRIED), (counters, self.sent)
        bounced = sum(value for name, value in counters.rows() if name.startswith("bounced_"))
        sent = self.sent.get(FrameType.BOUNCE, 0) + self.sent.get(FrameType.REJECT, 0)
        ended = sum(value for name, value in counters.rows() if name in _ENDED)
        assert sent <= bounced + counters.sessions_refused + ended + counters.joins_delayed, counters
        assert not counters.violations and not counters.malformed and not counters.faults, counters

    def check_at_rest(self, peers: int | None) -> None:
        """Check that this number of sessions is left, one for each open connection, and nothing else."""
        self.check_counters()
        board = self.switchboard
        check_tables(self)
        sessions = {(s.side, s.routing_id, s.connection.descriptor) for s in board.roster.sessions()}
        ours = [connection for connection in self.world.connections if self._is_ours(connection)]
        network = {(c.side, c.routing_id, c.descriptor) for c in ours}
        assert peers in (None, len(sessions)) and sessions == network, (sessions, network)
        assert not len(board.state.strangers) and not board.state.endings.gone
        assert not board.sending.backlogged
        assert self.daemon.at_rest
        assert self.descriptors == {descriptor for _, _, descriptor in network}
        assert {peer for router in self.routers.values() for peer in router.peers} == {s[1] for s in sessions}
