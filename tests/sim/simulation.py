"""One simulated run: a cluster under load, faults, then all faults heal, and then the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from sim.broker_process import BrokerProcess
from sim.calls import Call
from sim.contracts import KEY
from sim.endpoint_process import EndpointProcess
from sim.network import Weather, World
from support.histories import Line, check

from ringback.core import deadlines, endpoint_state, progress, receipts, remembered_calls
from ringback.core.permissions import OPERATORS
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import PlayerID
from ringback_broker.daemon import receiver
from ringback_broker.peers.connection import Side
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard import sending

RUN_S = 4.0
"""How long there are faults."""

OPERATIONS = 40
SKEW_S = 0.05
IDLE_S = 0.5
"""After this time an endpoint of the simulator forgets an idle route."""

REMEMBER_S = 40.0
"""How long an endpoint of the simulator remembers the outcome of a call with a token. No repeat is on its way
for so long."""

ALLOWANCE_S = 1.0
"""How long it takes until a rate limit that was used up allows a whole burst again."""

HEALED_WITHIN_S = 150.0

LIMITS: dict[str, list[Any]] = {
    "max_in_flight": [1, 4, 4096, 4096, 4096],
    "max_pending": [1, 2, 10, 100_000, 100_000, 100_000],
    "max_running": [2, 16_384, 16_384],
    "max_queued_bytes": [100, 2000, 2**26, 2**26],
    "max_calls_per_s": [None] * 7 + [3, 50],
}
"""What a seed may choose for the limits of all endpoints."""

STANDBYS = [0, 0, 0, 1, 1, 2]
"""How many servers may stand by."""

Place = tuple[Role, PlayerID | None]


def _raises(source: Any) -> bool:
    """Stand for an `allow` that fails."""
    raise SystemExit(source)


def _forgets(_source: Any) -> Any:
    """Stand for an `allow` that forgets to return a bool."""


class Failure(AssertionError):
    """A run broke a rule that must hold. The message lists everything that is wrong."""


class Simulation:
    """The run of one seed.

    Attributes:
        lines: the history.
        run_s: how long there are faults.
        operations: how many operations there are at most.
        fault_counts: how many faults there may be.
        delay_between_nodes_s: how long a frame may be on its way between nodes.
        lookup_s: how long nodes may look for a player whom an operator calls.
        with_serial: whether some callbacks are serial.
    """

    run_s = RUN_S
    operations = OPERATIONS
    fault_counts = 0, 1, 3, 8
    delay_between_nodes_s = 0.0
    lookup_s = 0.0
    with_serial = True

    def __init__(self, seed: int, tracing: bool = False) -> None:
        self.world = world = World(seed, tracing)
        world.with_serial = self.with_serial
        self.lines: list[Line] = []
        random = world.random
        one_of = random.choice
        self.weather = Weather(
            delay_s=one_of([0.0005, 0.0005, 0.01, 0.1]),
            late_loss_s=one_of([0.0, 0.0, 0.3, 3.0]),
            missed=one_of([0.0, 0.0, 0.3]),
            room=one_of([1, 3, 10, 1000, 1000]),
            room_up=one_of([1, 3, 1000, 1000, 1000, 1000]),
            silence_told=world.chance(0.8),
            busy=one_of([0.0, 0.02, 0.2]),
            lookup_s=one_of([0.0, 0.0, 0.05, 3.0]),
            unknown=one_of([0.0, 0.0, 0.3]),
            dead=one_of([0, 0, 1, 3]),
        )
        world.weather = replace(self.weather)
        lease_s = one_of([30.0] * 12 + [5.0, 5.0, 1.0, 0.25])
        self.broker_settings = BrokerSettings(
            lease=lease_s,
            grace=one_of([0.3, 5.0]),
            hello=one_of([0.5, 5.0]),
            max_players=one_of([20_000, 20_000, 4]),
            crowd=one_of([500, 500, 500, 1]),
            player_window=one_of([2**23, 2**23, 500]),
            backend_window=one_of([2**26, 2**26, 1000]),
            player_queue=one_of([512, 2]),
            slow=one_of([10.0, 1.0]),
            # A short lease needs frequent signs of life. They must not break the rate limit.
            player_frames=one_of([10_000.0] * 5 + [max(10.0, 12 / lease_s)]),
        )
        self.max_connections = one_of([1000, 1000, 6])
        self.limits = Limits(**{name: one_of(choices) for name, choices in LIMITS.items()})
        self.shrunk = {
            "BURST": one_of([1000, 1000, 2]),
            "STRANGERS_AT_ONCE": one_of([64, 64, 1]),
            "MAX_BACKLOG": one_of([64, 64, 2]),
            "MAX_REMEMBERED": one_of([100_000, 100_000, 3]),
        }
        ids: list[PlayerID] = [7, "7", 2**40][: random.randint(1, 3)]
        # A server that does not stand by could not come back once another one acts.
        self.standbys = one_of(STANDBYS)
        servers: list[Place] = [(Role.SERVER, None)] * (1 + self.standbys)
        self.places: list[Place] = [*servers, *((Role.PLAYER, player_id) for player_id in ids)]
        self.places += [(Role.OPERATOR, None)] * world.chance(0.5)
        self.player_ids: list[PlayerID] = [*ids, *ids, *ids, "nobody"]
        self.lives: list[EndpointProcess] = []
        self.brokers: list[BrokerProcess] = []
        self._healing = False
        self._lives = 0

    # -- the processes

    @property
    def broker(self) -> BrokerProcess | None:
        """The broker, or None while none runs."""
        return self.brokers[-1] if self.brokers and self.brokers[-1].alive else None

    def _router(self, side: Side) -> Any:
        broker = self.broker
        return None if broker is None else broker.routers[side]

    def start_broker(self) -> None:
        if self.broker is None:
            self.brokers.append(BrokerProcess(self.world, self.broker_settings, self.max_connections))
            self.world.note("broker", "starts")

    def start(self, place: Place) -> EndpointProcess:
        self._lives += 1
        role, player_id = place
        who = f"{role}-{player_id!r}-{self._lives}" if role is Role.PLAYER else f"{role}-{self._lives}"
        standby = role is Role.SERVER and self.standbys > 0
        life = self.endpoint(
            self.world, self._router, role, player_id, self.limits, who, self._write, standby
        )
        life.left_broker = lambda: self._again(life)
        self.lives.append(life)
        return life

    def endpoint(self, *arguments: Any) -> EndpointProcess:
        return EndpointProcess(*arguments)

    def _write(self, line: Line) -> None:
        self.lines.append(line)
        if self.world.trace is not None:
            fields = " ".join(
                f"{key}={line[key]!r}" for key in line if key not in ("t", "who", "what", "hash")
            )
            self.world.note(line["who"], f"{line['what']} {fields}")

    def alive(self, role: Role | None = None) -> list[EndpointProcess]:
        return [life for life in self.lives if life.alive and (role is None or life.role is role)]

    # -- the run

    def run(self) -> None:
        """Run to the end.

        Raises:
            Failure: the run broke a rule that must hold.
        """
        with self._small():
            try:
                self._run()
            except AssertionError as error:
                raise Failure(f"{type(error).__name__}: {error}") from error

    @contextmanager
    def _small(self) -> Iterator[None]:
        """Set the bounds that have no setting to the small values of this seed."""
        backlog = dict.fromkeys(sending.MAX_BACKLOG, self.shrunk["MAX_BACKLOG"])
        with (
            mock.patch.multiple(
                receiver, BURST=self.shrunk["BURST"], STRANGERS_AT_ONCE=self.shrunk["STRANGERS_AT_ONCE"]
            ),
            mock.patch.object(endpoint_state, "IDLE_S", IDLE_S),
            mock.patch.object(progress, "MAX_WAITING", 3),
            mock.patch.object(deadlines, "IDLE_S", IDLE_S),
            mock.patch.multiple(receipts, LATER_S=IDLE_S / 2, MAX_LATER=3),
            mock.patch.multiple(
                remembered_calls,
                REMEMBER_S=REMEMBER_S,
                ON_THE_WAY_S=0.2,
                MAX_REMEMBERED=self.shrunk["MAX_REMEMBERED"],
            ),
            mock.patch.dict(sending.MAX_BACKLOG, backlog),
        ):
            yield

    def _run(self) -> None:
        world, random = self.world, self.world.random
        self.start_broker()
        for place in self.places:
            world.after(0.1 * random.random(), self.start, place)
        if world.chance(0.7):
            world.run(0.2)
        for _ in range(random.randint(1, self.operations)):
            world.after(self.run_s * random.random(), self._operation)
        faults = [self._fault] * random.choice(self.fault_counts)
        if self.standbys:
            hand_overs = [self._hand_over, self._hand_over, self._kill_one_that_retires]
            faults += [random.choice(hand_overs) for _ in range(random.choice([0, 1, 3, 6]))]
        for fault in faults:
            at = self.run_s * random.random()
            world.after(at, fault)
            for _ in range(random.choice([0, 4])):  # calls around a fault find the most
                world.after(at + random.choice([0.002, 0.1]) * random.uniform(-1.0, 1.0), self._operation)
        world.run(self.run_s)
        self._heal()
        self._check_calls_work()
        self._check_contracts_hold()
        self._check_rest()

    # -- operations of users

    def _operation(self) -> None:
        if self._healing:  # it was planned around a fault near the end
            return
        world = self.world
        caller = self._one(self.alive())
        if caller is None or caller.stopped or (world.chance(0.7) and not caller.core.connected):
            return
        match world.random.random():
            case x if x < 0.3 and caller.role is Role.OPERATOR:
                caller.ask_broker()
            case x if x < 0.75:
                for _ in range(world.random.choice([1, 1, 1, 5])):
                    self._call(caller)
            case x if x < 0.85:
                caller.look()
                call = self._one(caller.calls)
                if call is not None:
                    caller.core.cancel(call)
            case x if x < 0.93:
                self._register(caller)
            case x if x < 0.96:
                self._forge(caller)
            case _ if caller.role is Role.SERVER:  # as trigger_all_client_callbacks does
                for player_id in list(caller.core.players):
                    caller.trigger(player_id, self._action(), 2.0, way="group")
            case _ if caller.role is Role.OPERATOR:
                caller.ask_broker()
            case _:
                caller.reply_to_all()

    def _call(self, caller: EndpointProcess) -> None:
        do = self._action()
        random = self.world.random
        timeout_s = random.choice([0.0, 0.01, 0.3, 1.0, 1.0, 15.0, 15.0] + [None] * 3 * (do[0] != "never"))
        key = random.choice(["k"] * 8 + [KEY] * 4 + ["other"])
        to, kind = random.choice(self.player_ids), FrameType.DATA
        if caller.role is Role.PLAYER:
            to = None
        elif self.world.chance(0.4):
            kind = None if caller.role is Role.SERVER else FrameType.RELAY
        way = random.choice(["", "", "room", "retry", "retry", "retry room"])
        if self.world.chance(0.05):
            caller.wait_for_room()
        form = random.choice(["contract", "contract", "key", "wrong", "wrong", "wrong contract"])
        caller.trigger(to, do, timeout_s, kind, key, way, form)

    def _forge(self, forger: EndpointProcess) -> None:
        """Have an endpoint reply to a call that another endpoint was asked, with a guessed id."""
        victim = self._one(self.alive())
        waiting = [call for call in victim.calls if not call.done and call.to != forger.place]
        if waiting and victim is not forger:
            forger.forge(None if victim.role is not Role.PLAYER else victim.place, self._one(waiting).id)

    def _action(self) -> list[Any]:
        """Return what the handler should do, and after how many seconds."""
        random = self.world.random
        do = random.choice(["reply"] * 6 + ["twice", "raise", "odd", "odd data", "nested", "never", "wrong"])
        return [do, random.choice([0.0, 0.0, 0.01, 0.1, 0.5, 2.0])]

    def _register(self, life: EndpointProcess) -> None:
        key = self.world.random.choice(["k", "other", KEY])
        registration = life.registered.pop(key, None)
        if registration is None and key != "k":  # calls of "k" have to work in the end
            random = self.world.random
            allow = random.choice([None, {1, 2}, OPERATORS, _raises, _forgets])
            limit = random.choice([None, "5/s", "20/s"])
            idempotent, old = random.choice([False, True]), self.world.chance(0.3)
            serial = self.world.with_serial and self.world.chance(0.3)
            life.register(key, allow=allow, limit=limit, idempotent=idempotent, serial=serial, old=old)
        elif registration is None:
            life.register(key, serial=self.world.with_serial and self.world.chance(0.3))
        else:
            registration.unregister()

    def _one(self, items: list[Any]) -> Any:
        return self.world.random.choice(items) if items else None

    # -- faults

    def _fault(self) -> None:
        fault = self.world.random.choice(self.faults())
        self.world.note("fault", fault.__name__)
        fault()

    def faults(self) -> list[Callable[[], None]]:
        return [
            self._kill,
            self._close,
            self._stop,
            self._cut,
            self._reset,
            self._join_twice,
            self._kill_broker,
            self._drain,
            self._stop_broker,
            self._squall,
            self._stop,
        ]

    def _span(self) -> float:
        return self.world.random.choice([0.01, 0.3, 1.5, 4.0]) * self.world.random.random()

    def _again(self, life: EndpointProcess) -> None:
        role, player_id = life.role, life.place if life.role is Role.PLAYER else None
        self.world.after(self._span(), self._start_again, (role, player_id))

    def _start_again(self, place: Place) -> None:
        if not self._healing:
            self.start(place)

    def _kill(self) -> None:
        life = self._one(self.alive())
        if life is not None:
            self._last_words(life)
            life.kill()
            self._again(life)

    def _hand_over(self) -> None:
        """Have a server hand over amid calls. If it does not act, or no other one stands by, this fails."""
        servers = self.alive(Role.SERVER)
        acting = [life for life in servers if life.core.acting]
        life = self._one(servers if self.world.chance(0.1) else acting)
        if life is not None and not life.stopped and not self._healing:
            self._last_words(life)
            for _ in range(self.world.random.choice([1, 1, 3])):  # several parts of a program may ask
                life.hand_over()
            for _ in range(self.world.random.choice([0, 3])):  # the broker has not answered yet
                life.trigger(self._one(self.player_ids), ["reply", 0.1], None, way="room")
            self.world.after(self._span(), self._words_of_one_that_retires, life)

    def _words_of_one_that_retires(self, life: EndpointProcess) -> None:
        if not self._healing:
            self._last_words(life)

    def _kill_one_that_retires(self) -> None:
        """Have a server hand over, and kill it or cut it off before it has finished."""
        self._hand_over()
        self.world.after(0.1 * self._span(), self._end_one_that_retires)

    def _end_one_that_retires(self) -> None:
        life = self._one([life for life in self.alive(Role.SERVER) if life.retiring])
        if life is not None and not self._healing:
            life.kill()
            self._again(life)

    def _last_words(self, life: EndpointProcess) -> None:
        """Have an endpoint send replies and a call just before its end."""
        if life.alive and not life.stopped and self.world.chance(0.5):
            life.reply_to_all()
            self._call(life)
            life.step()

    def _close(self) -> None:
        life = self._one(self.alive())
        if life is not None and not life.stopped:
            self._last_words(life)
            life.close()
            self._again(life)

    def _stop(self) -> None:
        life = self._one(self.alive())
        if life is not None and not life.stopped:
            life.note.note("stop")
            life.stop()
            self.world.after(self._span(), self._go_on, life)

    def _go_on(self, life: EndpointProcess) -> None:
        if life.alive and life.stopped:
            life.note.note("continue")
            life.go_on()

    def _cut(self) -> None:
        life = self._one(self.alive())
        if life is not None and not life.cut:
            life.note.note("cut")
            self._set_cut(life, True)
            self.world.after(self._span(), self._mend, life)

    def _mend(self, life: EndpointProcess) -> None:
        if life.cut:
            life.note.note("heal")
            self._set_cut(life, False)

    def _set_cut(self, life: EndpointProcess, cut: bool) -> None:
        life.cut = cut
        for connection in self.world.connections:
            if connection.endpoint is life:
                connection.cut = cut
        self.world.look()

    def _reset(self) -> None:
        connection = self._one(list(self.world.connections))
        if connection is not None:
            connection.reset()

    def _join_twice(self) -> None:
        """Start a second server, or a second player with an ID that is in use."""
        life = self._one(self.alive())
        if life is not None:
            self.start((life.role, life.place if life.role is Role.PLAYER else None))

    def _kill_broker(self) -> None:
        if self.broker is not None:
            self._go_on_broker(self.broker)
            self.broker.kill()
        self.world.after(self._span(), self.start_broker)

    def _drain(self) -> None:
        if self.broker is not None:
            self.broker.daemon.stop()
            self.broker.wake(0.0)
        self.world.after(self._span() + 0.5, self.start_broker)

    def _stop_broker(self) -> None:
        broker = self.broker
        if broker is not None and not broker.stopped:
            self._write({"t": self.world.now, "who": "broker", "what": "stop"})
            broker.stop()
            self.world.after(self._span(), self._go_on_broker, broker)

    def _go_on_broker(self, broker: BrokerProcess) -> None:
        if broker.alive and broker.stopped:
            self._write({"t": self.world.now, "who": "broker", "what": "continue"})
            broker.go_on()

    def _squall(self) -> None:
        """Make the network worse for a while."""
        weather = self.world.weather
        which = self.world.random.choice(["room", "room", "room_up"])
        setattr(weather, which, self.world.random.choice([1, 2, 10]))
        self.world.after(self._span(), setattr, weather, which, getattr(self.weather, which))

    # -- the end

    def _heal(self) -> None:
        """End all faults, and wait until all endpoints are back."""
        world = self.world
        self._healing = True
        world.weather = Weather()
        self.heal_broker()
        for life in self.alive():
            self._go_on(life)
        for life in self.lives:
            self._mend(life)
        seen = []
        for life in self.alive():
            if seen.count(life.place) >= (1 + self.standbys if life.role is Role.SERVER else 1):
                life.close()
            seen.append(life.place)
        until = world.now + HEALED_WITHIN_S
        # Run first: calls may still be on their way to an endpoint that was stopped until now.
        while True:
            self.start_broker()
            here = [(life.role, life.place) for life in self.alive()]
            for role, player_id in dict.fromkeys(self.places):
                place = role, role.value if player_id is None else player_id
                for _ in range(self.places.count((role, player_id)) - here.count(place)):
                    self.start((role, player_id))
            world.run(1.0)
            for life in self.alive():
                life.reply_to_all()
                if life.stands_by:  # its calls may wait for its turn without end
                    for call in life.calls:
                        life.core.cancel(call)
            if self._whole():
                return
            assert world.now < until, (
                f"not healed: {[(life.name, life.core.connected) for life in self.alive()]}"
            )

    def heal_broker(self) -> None:
        if self.broker is not None:
            self._go_on_broker(self.broker)

    def boards(self) -> list[Any]:
        return [] if self.broker is None else [self.broker.switchboard]

    def _whole(self) -> bool:
        """Return whether all endpoints are connected and no call is in flight."""
        boards, alive = self.boards(), self.alive()
        if not boards or any(board.draining for board in boards) or len(alive) < len(self.places):
            return False
        # An end that missed the loss of its link notices it only when the lease is over.
        sessions = {session.routing_id for board in boards for session in board.roster.sessions()}
        links = [life.link for life in alive if life.link is not None and life.core.connected]
        linked = {link.routing_id for link in links if link.open_below and link.open_above}
        busy = any(life.busy or life.retiring for life in alive)
        return sessions == linked and len(linked) == len(alive) and not busy

    def _check_calls_work(self) -> None:
        """Check that players and the trusted side can call each other."""
        [server] = [life for life in self.alive(Role.SERVER) if life.core.acting]
        players = self.alive(Role.PLAYER)
        for life in self.alive():
            life.register("k")
        pause_s = self._pause_s
        self.world.run(ALLOWANCE_S)
        for _ in range(2):  # the second round finds what the first has left behind
            calls = []
            for player in players:
                calls.append(player.trigger(None, ["reply", 0.0], 1.0))
                for life in [server, *self.alive(Role.OPERATOR)]:
                    self.world.run(0.02)
                    calls.append(life.trigger(player.place, ["reply", 0.0], 1.0))
                self.world.run(pause_s)
            for operator in self.alive(Role.OPERATOR):
                calls.append(operator.trigger("source", ["reply", 0.0], 1.0, FrameType.RELAY))
            self.world.run(0.5 + pause_s)
            for call in calls:
                assert call.done and call.ok, f"{call.name} did not succeed after all faults had ended"

    @property
    def _pause_s(self) -> float:
        """How long to wait between two calls, so that no rate limit refuses one."""
        rate = min(self.limits.max_calls_per_s or 1e9, self.broker_settings.player_frames)
        return 0.02 if rate > 50 else 0.4

    def _check_contracts_hold(self) -> None:
        """Check the outcomes of calls of the contract in both directions: nothing disturbs them now."""
        [server] = [life for life in self.alive(Role.SERVER) if life.core.acting]
        old = self.world.chance(0.3)
        for life in self.alive():
            life.register(KEY, old=old)
        self.world.run(ALLOWANCE_S)
        calls: list[tuple[Call, str, str]] = []
        for player in self.alive(Role.PLAYER):
            for do, form in (("reply", "contract"), ("wrong", "contract"), ("reply", "wrong")):
                for caller, to in ((player, None), (server, player.place)):
                    calls.append((caller.trigger(to, [do, 0.0], 1.0, key=KEY, form=form), do, form))
                    self.world.run(self._pause_s)
        self.world.run(0.5)
        for call, do, form in calls:
            call.look()
            wanted: tuple[str | None, str] = None, "yes"
            if form == "wrong" and not old:
                wanted = "INVALID_PAYLOAD", "no"
            elif do == "wrong":
                wanted = "INVALID_PAYLOAD" if old else "HANDLER_ERROR", "yes"
            # The last line of a call is what the program saw of it.
            found = [line for line in self.lines if line.get("call") == call.name][-1]
            assert call.done and (found["code"], found["executed"]) == wanted, (found, wanted)

    def _check_rest(self) -> None:
        self.world.run(2 * IDLE_S + ALLOWANCE_S + 0.5)
        for life in self.alive():
            life.look()
            life.rest()
            if life.core.acting:
                assert sorted(map(repr, life.core.players)) == sorted(
                    repr(player.place) for player in self.alive(Role.PLAYER)
                )
        if self.world.chance(0.05):
            self.world.run(REMEMBER_S + 2.0)
            for life in self.alive():
                assert life.core.load().remembered == 0, f"{life.name} remembers calls for ever"
        self.check_broker_at_rest()
        network_s = 2 * self.weather.delay_s + 0.1 + self.delay_between_nodes_s
        problems = check(self.lines, skew_s=SKEW_S, network_s=network_s, lookup_s=self.lookup_s)
        if problems:
            raise Failure("\n".join(problems))

    def check_broker_at_rest(self) -> None:
        broker = self.broker
        assert broker is not None
        broker.check_at_rest(len(self.places))

    def settings(self) -> str:
        """Return the settings of this seed, for the trace."""
        return f"{self.weather} {self.broker_settings} {self.limits} {self.shrunk}"


def failure_of(seed: int, simulation: type[Simulation] = Simulation) -> str | None:
    """Run a seed, and return what went wrong, or None."""
    try:
        simulation(seed).run()
    except Failure as failure:
        return str(failure)
    return None
