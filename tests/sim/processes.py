"""The processes of the simulator: the broker's loop on simulated sockets, and endpoint cores in a shell."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

import zmq
from sim.network import Connection, Message, Process, World
from support.histories import Line, Recorder
from support.switchboards import check_tables

from ringback._runtime import call_context
from ringback._runtime.running_handlers import encode_reply
from ringback.core import progress
from ringback.core.endpoint import Endpoint
from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.core.progress import Progress
from ringback.core.retries import Retry, Tries
from ringback.core.shell import EndpointEvent, Shell
from ringback.errors import CallbackError, CallTimeout, HandlerError
from ringback.protocol.bundles import unbundle
from ringback.protocol.contexts import PROGRESS, bounded
from ringback.protocol.envelope_decoding import decode
from ringback.protocol.envelopes import ERROR, OWN, RESULT, Encoder, EnvelopeType, join
from ringback.protocol.frames import HEADER_BYTES, FrameType, Role, SessionState
from ringback.protocol.limits import Limits
from ringback.protocol.operator_frames import Order, Subject, What
from ringback.protocol.player_ids import PlayerID, encode_player_id
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
PROGRESS_TYPE = int(EnvelopeType.PROGRESS)
BURST = 64
BROKER, REFUSING, SILENT = "tcp://192.0.2.1:1", "tcp://[2001:db8::1]:", "tcp://[2001:db8::2]:"
"""The addresses of the broker's name: of the broker, and of machines that refuse connections or drop all."""


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
        for events in self._events:
            events.inode_of = process.inode_of
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
        carriers: Any = {process.inbox: process.inbox.take}
        first = None if realm is None else realm.begin_step
        self._loop = Loop(self.switchboard, receivers, self._stopping, others, carriers=carriers, first=first)
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
            ready.add(self._process.inbox)
        return self._loop.step(ready, now)

    @property
    def at_rest(self) -> bool:
        return all(events.noted_at is None for events in self._events)


class Inbox:
    """What the engine of a realm has heard. The broker's loop takes it, in a step."""

    def __init__(self, process: BrokerProcess) -> None:
        self.waiting: deque[Callable[[float], object]] = deque()
        self._process = process

    def add(self, heard: Callable[[float], object]) -> None:
        if self._process.alive:
            self.waiting.append(heard)
            self._process.nudge()

    def take(self, now: float) -> None:
        while self.waiting:
            self.waiting.popleft()(now)


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

    def inode_of(self, descriptor: int) -> int:
        connection = self.connection_of(descriptor)
        return 0 if connection is None else int.from_bytes(connection.routing_id)

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


class Call(PendingCall):
    """A call that writes its outcome to the history."""

    __slots__ = ("done", "name", "note", "ok", "then", "to", "values")

    def __init__(
        self, call_id: int, key: str, deadline: float | None, name: str, to: Any, note: Recorder
    ) -> None:
        super().__init__(call_id, key, deadline, None, None)
        self.name = name
        self.to = to
        self.note = note
        self.done = self.ok = False
        self.then: Callable[[], object] | None = None
        self.values: Values | None = None

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        self.done = True
        self.ok = error is None
        if error is None:
            self.note.result(self.name, results)
        else:
            self.note.error(self.name, error.code_name, error.executed)
        super().settle(results, error)
        if self.then is not None:
            self.then()


class Values(Progress):
    """The progress of a call. It writes what comes to the history, and is taken now and then."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call
        self._taken = -1
        call.values = call._progress = self
        call.add_waiter(self.end)

    def take(self, value: Any) -> None:
        call = self._call
        assert not call.done, f"progress of {call.name} came after its outcome"
        name, number = value
        assert name == call.name, f"progress of {name} came to {call.name}"
        call.note.progress(name, number)
        super().take(value)
        assert len(self.waiting) <= progress.MAX_WAITING, f"too much waits of {name}"

    def end(self) -> None:
        assert self._call.done and not self.ended
        super().end()

    def changed(self) -> None:
        """Do nothing: the program looks when it likes."""

    def take_all(self) -> None:
        """Take what waits, as the program does."""
        while self.waiting:
            _, number = self.waiting.popleft()
            assert number > self._taken, f"{self._call.name}: progress in another order"
            self._taken = number


class Question(PendingCall):
    """A question or an order to the broker. It is not in the history: no handler runs."""

    __slots__ = ("done", "ok")

    def __init__(self, call_id: int, deadline: float | None) -> None:
        super().__init__(call_id, "broker", deadline, None, None)
        self.done = self.ok = False

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        assert not self.done, self.id
        self.done, self.ok = True, error is None


class Wait(Question):
    """A wait for room. It is counted nowhere."""

    __slots__ = ()


ODD = {(1, 2): "tile"}
"""A value that nobody can decode. A call with it fails at once, and a reply becomes HANDLER_ERROR."""


class EndpointProcess(Process, Shell):
    """One life of an endpoint: the core, a shell, and handlers that do what the payload of a call says.

    Attributes:
        open: executions whose handler does not reply by itself.
        calls: the calls that this endpoint triggered.
        questions: what this endpoint has asked the broker.
        waits: its waits for room.
        left_broker: is called once this server has handed over and left.
    """

    def __init__(
        self,
        world: World,
        find: Any,
        role: Role,
        player_id: PlayerID | None,
        limits: Limits,
        who: str,
        write: Callable[[Line], None],
        standby: bool = False,
    ) -> None:
        super().__init__(world, who)
        self.left_broker: Callable[[], object] = lambda: None
        self.role = role
        self.place: Any = role.value if player_id is None else player_id
        self.cut = False
        self.core = Endpoint(
            role,
            self,
            broker="broker",
            player_id=player_id,
            limits=limits,
            standby=standby,
            keys_changed=lambda: self.core.keys_changed(),
            random=world.random.random,
        )
        self.calls: list[Call] = []
        self.questions: list[Question] = []
        self.waits: list[Wait] = []
        self._retried: list[Call] = []
        self._tried = 0
        self.open: list[tuple[Execution, str]] = []
        self.link: Connection | None = None
        self._dialled: object | None = None
        self.registered: dict[str, Any] = {}
        self._find = find
        self._ids = count(world.random.getrandbits(62))
        self._names = count()
        self._encoder = Encoder(limits)
        self._replied: set[tuple[bytes, bytes, int]] = set()
        self._stops_handlers = world.chance(0.5)
        self.note = Recorder(who, write, lambda: world.now)
        self.note.start(role.value, self.place)
        self.register("k")
        self.core.start(world.now, 5.0)
        self.wake(0.0)

    # -- called for its user

    def register(self, key: str, **terms: Any) -> None:
        handler: Any = _at_server if self.role is Role.SERVER else _at_player
        self.registered[key] = self.core.registry.add(key, handler, replace=True, **terms)

    def trigger(
        self,
        to: PlayerID | None,
        do: list[Any],
        timeout_s: float | None,
        kind: FrameType | None = FrameType.DATA,
        key: str = "k",
        way: str = "",
    ) -> Call:
        """Trigger a callback, as a face does. `to` is a player, or the source of a call to the server.

        Args:
            way: "room": the call waits for room; "group": it does, and does not count as one that waits;
                "retry": it is tried again; "retry room": both.
        """
        now = self.world.now
        deadline, budget_ms = call_context.deadline_and_budget(timeout_s, now)
        name = f"{self.name}-{next(self._names)}"
        at_server = self.role is Role.PLAYER or kind is not FrameType.DATA
        place: Any = Role.SERVER.value if at_server else to
        call = Call(next(self._ids), key, deadline, name, place, self.note)
        call.began = now
        self.calls.append(call)
        payload = [name, *do]
        left_s = None if deadline is None else deadline - now
        source = to if kind is not FrameType.DATA else self.place if self.role is Role.PLAYER else None
        asks = self.world.chance(0.3)
        self.note.invoke(name, place, source, left_s, payload, asks, retry=way.startswith("retry"))
        try:
            if budget_ms == 0:
                raise CallTimeout("there was no time for the call at all", executed="no")
            odd = do[0] != "reply" and self.world.chance(0.05)  # the last calls, which must succeed, reply
            context = {"traceparent": name} if self.world.chance(0.2) else None
            if asks:
                Values(call)
                context = bounded({PROGRESS: "1"}, context or {})
            envelope = self._encoder.call(
                call.id, key, [*payload, ODD] if odd else payload, budget_ms, context
            )
        except CallbackError as error:
            self.core.fail_unsent(call, error)
        else:
            encoded_id = b"" if to is None else encode_player_id(to)
            if way.startswith("retry"):
                self._retried.append(call)
                self.core.call_with_retry(call, kind, encoded_id, envelope, self._tries(way))
            elif way:
                self.core.call_when_room(call, kind, encoded_id, envelope, way != "group")
            else:
                self.core.call(call, kind, encoded_id, envelope)
        return call

    def _tries(self, way: str) -> Tries:
        random = self.world.random
        retry = Retry(random.choice([2, 20, 20]), random.choice([0.01, 0.05]), random.choice([0.05, 1.0]))
        return Tries(retry, random.randbytes(16), self._next_try, "room" in way)

    def _next_try(self) -> int:
        self._tried += 1
        return next(self._ids)

    def wait_for_room(self) -> None:
        """Wait until there is room for a call, as `ready_to_call` does."""
        now, random = self.world.now, self.world.random
        wait = Wait(next(self._ids), random.choice([None, now + 0.05, now + 1.0]))
        self.waits.append(wait)
        self.core.wait_for_room(wait)

    @property
    def stands_by(self) -> bool:
        """Whether another server acts. A wait for room lasts until this one does."""
        return self.core._link_state.state is SessionState.STANDBY

    @property
    def retiring(self) -> bool:
        """Whether this server has handed over and has not left yet."""
        return self.core._link_state.state is SessionState.RETIRING

    def hand_over(self) -> None:
        """Hand over, as a server does."""
        now, random = self.world.now, self.world.random
        question = Question(next(self._ids), random.choice([None, None, now + 0.01, now + 1.0]))
        self.questions.append(question)
        self.core.hand_over(question)

    def ask_broker(self) -> None:
        """Watch calls for a while, have the broker tell something, or ping it, as an operator does."""
        random = self.world.random
        question = Question(next(self._ids), self.world.now + random.choice([0.01, 1.0]))
        self.questions.append(question)
        match random.choice(["watch", "watch", "query", "ping", "hand over"]):
            case "hand over":
                self.core.order(question, Order(question.id, What.HAND_OVER))
            case "watch":
                order = Order(
                    question.id,
                    What.WATCH,
                    player_id=random.choice([None, None, 7, "7"]),
                    key=random.choice([None, "k", "o*"]),
                    payloads=random.choice([False, True]),
                    for_ms=random.choice([0, 100, 1000, 1000]),
                )
                self.core.order(question, order)
            case "query":
                self.core.query(question, random.choice(list(Subject)), 0)
            case _:
                self.core.ping(question)

    def forge(self, to: PlayerID | None, call_id: int) -> None:
        """Send a reply to a call that this endpoint never got, if its role can send one."""
        if self.core.connected and (to is None) is (self.role is Role.PLAYER):
            address = b"" if to is None else encode_player_id(to)
            progress = self._encoder.progress(call_id, ("forged", 0))
            body = join([progress, self._encoder.result(call_id, ("forged",))])
            self._send(address, self.core._headers[FrameType.DATA] + body)

    def kill(self) -> None:
        self.alive = self.stopped = False
        self.note.note("kill")
        if self.link is not None:
            self.link.close_below(linger=False)

    def close(self) -> None:
        """Leave in order, and check that no table has an entry left."""
        self.alive = False
        self.core.close()
        self._ended()

    def _ended(self) -> None:
        self.note.note("close")
        self.alive = False
        assert not any(self.tables().values()), (self.name, self.tables())
        assert all(call.done for call in (*self.calls, *self.questions, *self.waits))
        self.take_values()

    @property
    def busy(self) -> bool:
        """Whether calls wait for a reply, here or at their callers."""
        load = self.core.load()
        return bool(load.pending or load.executions or load.waiting)

    def tables(self) -> dict[str, int]:
        load = self.core.load()
        return {
            "pending": load.pending,
            "peers": load.peers,
            "running": load.running,
            "queued": load.queued_bytes,
            "returned": load.returned,
            "waiting": load.waiting,
            "waits": 0 if self.stands_by else sum(not wait.done for wait in self.waits),
        }

    def rest(self) -> None:
        counters, succeeded = self.core.counters, sum(question.ok for question in self.questions)
        # Each try is counted, and only the call itself is in the history.
        further = self._tried - len(self._retried)
        counts = {
            "calls": counters.calls - len(self.questions) - further,
            "results": counters.results - succeeded,
            "errors": counters.errors - (len(self.questions) - succeeded) - further,
        }
        self.note.rest(self.tables(), counts)

    def take_values(self) -> None:
        """Take what waits of the progress of all calls."""
        for call in self.calls:
            if call.values is not None:
                call.values.take_all()
                assert call.values.ended == call.done

    # -- the loop

    def step(self) -> None:
        core, now = self.core, self.world.now
        link = self.link
        if link is not None:
            told = link.told
            unread = link.down.unread
            for _ in range(BURST):
                if not unread or self.link is not link:
                    break
                *address, frame = link.down.read()
                core.receive(address[0] if address else b"", frame, now)
            if self.link is link and told is not None:
                core.link_lost(now, told)
        core.tick(now)
        core.flush(now)
        if not self.alive:
            return
        if self.link is not None and self.link.down.unread:
            self.wake(0.0)
        due_at = core.due_at()
        if due_at is not None:
            self.wake(max(0.0, due_at - now) + 0.001)

    # -- handlers

    def jobs_waiting(self) -> int:
        return 0  # each handler of the simulator waits on the clock, not in a queue

    @property
    def log_name(self) -> str:
        return self.name

    def handler_failed(self, execution: Execution, error: Exception) -> None:
        """Do nothing. A real shell logs this."""

    def allow_failed(self, key: str, error: BaseException) -> None:
        """Do nothing. A real shell logs this."""

    def run(self, execution: Execution) -> None:
        world = self.world
        if self.role is Role.SERVER and execution.route != encode_player_id(execution.source or 0):
            assert self.core.acting, f"{self.name} does not act, and got a new call"
        self.later(
            world.random.random() * (0.5 if world.chance(world.weather.busy) else 0.001),
            self._begin,
            execution,
        )

    def _begin(self, execution: Execution) -> None:
        if not execution.begin(self.world.now):
            return
        name, do, after_s = execution.payload
        idempotent = execution.handler.idempotent
        self.note.exec_start(name, execution.source, execution.payload, idempotent)
        if self.world.chance(0.3):
            self._report(execution, name, range(int(8 * self.world.random.random())))
        match do:
            case "reply" | "twice" | "raise" | "odd" | "odd data":
                self.later(after_s, self._reply, execution, name, do)
            case "nested" if self.role is Role.SERVER:
                self._nested(execution, name, execution.source, FrameType.DATA)
            case "nested" if self.role is Role.PLAYER:
                self._nested(execution, name, None, FrameType.DATA)
            case _:
                self.open.append((execution, name))

    def _report(self, execution: Execution, name: str, numbers: range) -> None:
        """Report progress: some at once, and the rest later, maybe after the reply."""
        random = self.world.random
        for number in numbers:
            if not execution.replied and self.alive:
                self.note.report(name, number)
            execution.progress((name, number))
            if self.world.chance(0.5):
                self.later(
                    random.choice([0.0, 0.01, 0.5]),
                    self._report,
                    execution,
                    name,
                    numbers[number + 1 - numbers.start :],
                )
                return

    def _nested(self, execution: Execution, name: str, to: PlayerID | None, kind: FrameType) -> None:
        """Call back, and reply when that call has ended."""
        token = call_context.deadline.set(execution.deadline)
        try:
            call = self.trigger(to, ["reply", 0.0], 15.0, kind)
        finally:
            call_context.deadline.reset(token)
        if call.done:
            self._reply(execution, name, "raise")
        else:
            call.then = lambda: self.later(0.0, self._reply, execution, name, "reply" if call.ok else "raise")

    def _reply(self, execution: Execution, name: str, do: str) -> None:
        if (execution.cancelled and self._stops_handlers) or not self.alive:
            return
        if do == "raise":
            execution.fail(CallbackError("sold out", code="SOLD_OUT", executed="yes"))
            return
        if do == "odd":
            execution(name, ODD)
            return
        if do == "odd data":
            execution.fail(CallbackError("sold out", code="SOLD_OUT", data=ODD))
            return
        if not execution.replied:
            self.note.exec_end(name, [name, self.place])
        execution(name, self.place)
        if do == "twice":
            execution(name, "again")

    def reply_to_all(self) -> None:
        """Reply to the open executions."""
        executions, self.open = self.open, []
        for execution, name in executions:
            self._reply(execution, name, "reply")

    # -- called by the core

    def find_broker(self, number: int) -> None:
        """Look the broker's name up. Now and then the same answer comes once more, too late."""
        world, weather = self.world, self.world.weather
        addresses = [BROKER]
        for _ in range(int(world.random.random() * (weather.dead + 1))):
            dead = f"{world.random.choice([REFUSING, SILENT])}{len(addresses)}"
            addresses.insert(int(world.random.random() * (len(addresses) + 1)), dead)
        found = tuple(addresses), ""
        if world.chance(weather.unknown):
            found = (), "the name cannot be resolved"
        if not weather.lookup_s:
            self.core.take_addresses(number, *found, world.now)
            return
        after_s = weather.lookup_s * world.random.random()
        self.later(after_s, self._found, number, found)
        if world.chance(0.2):
            self.later(3 * after_s, self._found, number, found)

    def _found(self, number: int, found: tuple[tuple[str, ...], str]) -> None:
        self.core.take_addresses(number, *found, self.world.now)
        self.wake(0.0)

    def open_link(self, address: str, heartbeat_ms: int) -> None:
        assert self._dialled is None, "a second link beside the first"
        if self.world.chance(self.world.weather.missed / 10):
            raise OSError("no descriptor is left")
        dial = self._dialled = object()
        if address != BROKER:
            self.world.note(self.name, f"dials {address}")
            if address.startswith(REFUSING):
                self.later(self.world.weather.delay_s * self.world.random.random(), self._refused, dial)
            return
        side = Side.PLAYERS if self.role is Role.PLAYER else Side.BACKEND
        link = self.link = Connection(self.world, side, self, self._find)
        link.cut = self.cut
        link.look()
        link.up.drained = lambda: self.wake(0.0)
        self.later(2 * self.world.weather.delay_s, self._answered, dial)

    def _refused(self, dial: object) -> None:
        if self._dialled is dial:
            self.core.link_lost(self.world.now, "the connection was refused")
            self.wake(0.0)

    def _answered(self, dial: object) -> None:
        if self._dialled is dial and self.link is not None and self.link.open_above:
            self.core.link_answered()

    def close_link(self) -> None:
        self._dialled = None
        if self.link is not None:
            self.link.close_below(linger=True)
            self.link = None

    def send(self, address: bytes, frame: bytes) -> bool:
        if not self._send(address, frame):
            return False
        for encoded_id, carried in _carried(address, frame):
            self._check_order(encoded_id, carried)
        return True

    def _send(self, address: bytes, frame: bytes) -> bool:
        link = self.link
        if link is None or not link.open_below or link.up.full:
            return False
        message: Message = (frame,) if self.role is Role.PLAYER else (address, frame)
        link.up.send(message)
        return True

    def _check_order(self, encoded_id: bytes, frame: bytes) -> None:
        """Check that no progress leaves after the outcome of its call."""
        for kind, call_id, *_ in decode(frame[HEADER_BYTES:], OWN).envelopes:
            place = encoded_id, frame[:HEADER_BYTES], call_id
            if kind in (RESULT, ERROR):
                self._replied.add(place)
            assert kind != PROGRESS_TYPE or place not in self._replied, f"{self.name}: progress is late"

    def want_flush(self) -> None:
        self.wake(self.world.random.random() * 0.0005)

    def reply(self, execution: Execution, results: tuple[Any, ...], error: CallbackError | None) -> None:
        envelope, error = encode_reply(self._encoder, execution, results, error)
        self.core.reply(execution, envelope, error, self.world.now)

    def progress(self, execution: Execution, value: object) -> None:
        self.core.report(execution, self._encoder.progress(execution.id, value))

    def late_progress(self, execution: Execution) -> None:
        self.core.counters.dropped_progress += 1

    def duplicate_reply(self, execution: Execution) -> None:
        self.core.counters.duplicate_replies += 1

    def cancel(self, execution: Execution) -> None:
        if self._stops_handlers:
            self.later(0.0, execution.fail, HandlerError("the handler was cancelled"))

    def finished(self, call: PendingCall) -> None:
        raise AssertionError("no call here has a callback")

    def left(self) -> None:
        self.later(0.0, self._leave)

    def _leave(self) -> None:
        self.close()
        self.left_broker()

    def event(self, event: EndpointEvent, argument: Any) -> None:
        self.world.note(self.name, f"{event.name} {argument}")

    def started(self, error: Exception | None) -> None:
        if error is not None and self.alive:
            self.world.note(self.name, f"could not start: {error}")
            self._ended()

    def contain(self, what: str, error: BaseException) -> None:
        raise AssertionError(f"{self.name}: {what} raised") from error

    def warn(self, text: str, *details: object) -> None:
        self.world.note(self.name, text % details)


def _carried(address: bytes, frame: bytes) -> list[tuple[bytes, bytes]]:
    """Return the ID part and the frame of each DATA or RELAY frame in a message."""
    if frame[1] == FrameType.BUNDLE:
        parts = unbundle(frame)
        return list(zip(parts[::2], parts[1::2], strict=True))
    return [(address, frame)] if frame[1] in _CARRIED else []


def _at_server(source: Any, payload: Any, cb: Any) -> None:
    """Stand for a handler of a server. `EndpointProcess._begin` does its work."""


def _at_player(payload: Any, cb: Any) -> None:
    """Stand for a handler of a player or operator."""
