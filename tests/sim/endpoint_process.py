"""An endpoint in the simulator: its own core in a shell, and the program that uses it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from sim.calls import Call, Question, Values, Wait
from sim.contracts import AT_PLAYER, AT_SERVER, KEY, Payload, payload_of, types_of
from sim.handlers import FORMS, ODD, Handlers
from sim.network import Connection, Message, Process, World
from support.histories import Line, Recorder

from ringback._roles.typed_calls import Outgoing, TypedCallBase
from ringback._runtime import call_context
from ringback._runtime.running_handlers import encode_reply
from ringback.core.endpoint import Endpoint
from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.core.retried_call import Tries
from ringback.core.retry import Retry
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
from ringback_broker.peers.connection import Side

_CARRIED = (FrameType.DATA, FrameType.RELAY)
PROGRESS_TYPE = int(EnvelopeType.PROGRESS)
BURST = 64
NAME = "tcp://broker.test:1"
BROKER, REFUSING, SILENT = "tcp://192.0.2.1:1", "tcp://[2001:db8::1]:", "tcp://[2001:db8::2]:"
"""The addresses of the broker's name: of the broker, and of machines that refuse connections or drop all."""


class EndpointProcess(Process, Shell):
    """One life of an endpoint: the core, a shell, and handlers that do what the payload of a call says.

    Attributes:
        handlers: what the handlers do.
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
        brokers: tuple[str, ...] = (NAME,),
    ) -> None:
        super().__init__(world, who)
        self.left_broker: Callable[[], object] = lambda: None
        self.role = role
        self.place: Any = role.value if player_id is None else player_id
        self.cut = False
        self.core = Endpoint(
            role,
            self,
            brokers=brokers,
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
        self.link: Connection | None = None
        self._dialled: object | None = None
        self.registered: dict[str, Any] = {}
        self._find = find
        self._ids = count(world.random.getrandbits(62))
        self._names = count()
        self._encoder = Encoder(limits)
        self._replied: set[tuple[bytes, bytes, int]] = set()
        self.stops_handlers = world.chance(0.5)
        self.note = Recorder(who, write, lambda: world.now)
        self.note.start(role.value, self.place)
        self.handlers = Handlers(self)
        self.register("k", serial=world.with_serial and world.chance(0.2))
        if world.chance(0.8):
            self.register(KEY, old=world.chance(0.2))
        self.core.start(world.now, 5.0)
        self.wake(0.0)

    # -- called for its user

    def register(self, key: str, *, old: bool = False, **terms: Any) -> None:
        """Register a callback.

        Args:
            old: whether the program does not know the contract of the key.
        """
        types = None if old else types_of(key)
        add, handler = self.core.registry.add, FORMS[self.role]
        self.registered[key] = add(key, handler, replace=True, types=types, **terms)

    def trigger(
        self,
        to: PlayerID | None,
        do: list[Any],
        timeout_s: float | None,
        kind: FrameType | None = FrameType.DATA,
        key: str = "k",
        way: str = "",
        form: str = "",
    ) -> Call:
        """Trigger a callback, as a face does. `to` is a player, or the source of a call to the server.

        Args:
            way: "room": the call waits for room; "group": it does, and does not count as one that waits;
                "retry": it is tried again; "retry room": both.
            form: the form of a payload of the contract; see `payload_of`.
        """
        now = self.world.now
        deadline, budget_ms = call_context.deadline_and_budget(timeout_s, now)
        name = f"{self.name}-{next(self._names)}"
        at_server = self.role is Role.PLAYER or kind is not FrameType.DATA
        place: Any = Role.SERVER.value if at_server else to
        call = Call(next(self._ids), key, deadline, name, place, self.note)
        call.began = now
        self.calls.append(call)
        payload = payload_of(name, do[0], do[1], key, form, self.world.random)
        left_s = None if deadline is None else deadline - now
        source = to if kind is not FrameType.DATA else self.place if self.role is Role.PLAYER else None
        asks = self.world.chance(0.3)
        self.note.invoke(
            name,
            place,
            source,
            left_s,
            payload.plain,
            asks,
            retry=way.startswith("retry"),
            fits=payload.fits,
            by_contract=payload.by_contract,
        )
        encoder, value = (
            self._by_contract(call, payload) if payload.by_contract else (self._encoder, payload.value)
        )
        try:
            if budget_ms == 0:
                raise CallTimeout("there was no time for the call at all", executed="no")
            # The last calls, which must succeed, reply.
            odd = do[0] != "reply" and payload.fits is None and self.world.chance(0.05)
            context = {"traceparent": name} if self.world.chance(0.2) else None
            if asks:
                Values(call, way.startswith("retry"))
                context = bounded({PROGRESS: "1"}, context or {})
            envelope = encoder.call(call.id, key, [*value, ODD] if odd else value, budget_ms, context)
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

    def _by_contract(self, call: Call, payload: Payload) -> tuple[Encoder | Outgoing, Any]:
        """Prepare a call by contract, as a face does. Return what encodes it, and its plain payload."""
        outgoing = Outgoing(AT_SERVER if call.to == Role.SERVER.value else AT_PLAYER, payload.value)
        call.by_contract = outgoing.maker(TypedCallBase)(call.id, call.key, call.deadline, None, None)
        return outgoing.encoder(self._encoder), outgoing.payload

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

    def kick(self, player_id: PlayerID) -> None:
        """Have the broker kick a player, as an operator does."""
        question = Question(next(self._ids), self.world.now + 10.0)
        self.questions.append(question)
        self.core.order(question, Order(question.id, What.KICK, player_id=player_id))

    def forge(self, to: PlayerID | None, call_id: int) -> None:
        """Send a reply to a call that this endpoint never got, if its role can send one."""
        if self.core.connected and (to is None) is (self.role is Role.PLAYER):
            address = b"" if to is None else encode_player_id(to)
            progress = self._encoder.progress(call_id, ("forged", 0))
            body = join([progress, self._encoder.result(call_id, ("forged",))])
            self._send(address, self.core._state.headers[FrameType.DATA] + body)

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
        self.look()

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

    def look(self) -> None:
        """Look at all calls: take what waits of their progress, and convert their results."""
        for call in self.calls:
            call.look()

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
                accepted = core.counters.executions
                core.receive(address[0] if address else b"", frame, now)
                if self.role is Role.SERVER and core.counters.executions != accepted:
                    assert core.acting, f"{self.name} does not act, and got a new call"
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
        self.later(
            world.random.random() * (0.5 if world.chance(world.weather.busy) else 0.001),
            self.handlers.begin,
            execution,
        )

    def reply_to_all(self) -> None:
        """Reply to the executions whose handlers do not reply by themselves."""
        self.handlers.reply_to_all()

    # -- called by the core

    def find_broker(self, broker: str, number: int) -> None:
        """Look a broker's name up. Now and then the same answer comes once more, too late."""
        world, weather = self.world, self.world.weather
        addresses = [self.address_of(broker)]
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

    def address_of(self, broker: str) -> str:
        """Return the numeric address of a broker."""
        return BROKER

    def _found(self, number: int, found: tuple[tuple[str, ...], str]) -> None:
        self.core.take_addresses(number, *found, self.world.now)
        self.wake(0.0)

    def open_link(self, address: str, heartbeat_ms: int) -> None:
        assert self._dialled is None, "a second link beside the first"
        if self.world.chance(self.world.weather.missed / 10):
            raise OSError("no descriptor is left")
        dial = self._dialled = object()
        if address.startswith((REFUSING, SILENT)):
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
        if self.stops_handlers:
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
        if event is EndpointEvent.DISCONNECTED and argument.startswith("KICKED"):
            self.left()  # its program ends, and is started again

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
