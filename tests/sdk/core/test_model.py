"""A server and two players in any order of events: every call ends exactly once, with the truth."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.corefakes import DATA_0, Clock, Desk, FakeBroker, TestCall

from ringback.core.execution import Execution
from ringback.errors import CallbackError
from ringback.protocol import control
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.frames import Role, SessionState
from ringback.protocol.limits import Limits

names = st.sampled_from(["server", "a", "b"])
write = Encoder(Limits())


class Calls(RuleBasedStateMachine):
    """Each call has a number of its own as its payload, so that the test knows which handlers started."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.broker = FakeBroker(self.clock)
        limits = Limits(max_in_flight=6, max_pending=12)
        self.desks = {"server": Desk(Role.SERVER, clock=self.clock, limits=limits)}
        for name in ("a", "b"):
            self.desks[name] = Desk(Role.PLAYER, clock=self.clock, player_id=name, limits=limits)
        for desk in self.desks.values():
            self.broker.add(desk)
        self.broker.start(*self.desks.values())
        self.calls: list[tuple[Desk, str, int, TestCall]] = []
        """For each call: its caller, the name of the called endpoint, its number, and the call."""

        self.running: list[tuple[str, Execution]] = []
        self.started: Counter[int] = Counter()

    # -- calls

    def _trigger(self, caller: str, called: str, timeout_s: float | None, **route: Any) -> None:
        number = len(self.calls)
        desk = self.desks[caller]
        to = None if caller != "server" else called if called != "server" else "a"
        call = desk.call(to, payload=number, timeout_s=timeout_s, **route)
        self.calls.append((desk, called, number, call))

    timeouts = st.sampled_from([None, None, 0.01, 1.0, 20.0])

    @rule(player=st.sampled_from(["a", "b"]), timeout_s=timeouts, times=st.integers(1, 4))
    def call_server(self, player: str, timeout_s: float | None, times: int) -> None:
        for _ in range(times):
            self._trigger(player, "server", timeout_s)

    @rule(player=st.sampled_from(["a", "b", "b", "a", "nobody"]), timeout_s=timeouts, times=st.integers(1, 4))
    def call_player(self, player: str, timeout_s: float | None, times: int) -> None:
        for _ in range(times):
            self._trigger("server", player, timeout_s)

    @rule(timeout_s=timeouts)
    def call_oneself(self, timeout_s: float | None) -> None:
        self._trigger("server", "server", timeout_s, kind=None)

    @rule(which=st.integers(0, 30))
    def cancel(self, which: int) -> None:
        if self.calls:
            desk, _, _, call = self.calls[-1 - which % len(self.calls)]
            desk.core.cancel(call)

    @rule(name=names)
    def handle(self, name: str) -> None:
        for execution in self.desks[name].handle():
            self.started[execution.payload] += 1
            self.running.append((name, execution))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 30), keep=st.booleans(), fails=st.booleans())
    def reply(self, which: int, keep: bool, fails: bool) -> None:
        position = which % len(self.running)
        name, execution = self.running[position] if keep else self.running.pop(position)
        if fails:
            execution.fail(CallbackError("no", code="NO"))
        else:
            execution(name, execution.payload)

    @rule(name=names, call_id=st.integers(1, 40))
    def forge(self, name: str, call_id: int) -> None:
        """Reply to a call that this endpoint may never have got."""
        desk = self.desks[name]
        if desk.core.connected:
            frame = DATA_0 + join([write.result(call_id, (name, None))])
            desk.shell.send(b"\xa1a" if name == "server" else b"", frame)

    # -- the world

    @rule()
    def step(self) -> None:
        self.broker.step()

    @rule()
    def run_all(self) -> None:
        self.broker.run()

    @rule(seconds=st.sampled_from([0.005, 0.06, 0.5, 2.0, 45.0]))
    def wait(self, seconds: float) -> None:
        self.broker.wait(seconds, max(0.005, seconds / 15))

    @rule(name=names)
    def cut(self, name: str) -> None:
        self.broker.cut(self.desks[name])

    @rule(name=names)
    def leave(self, name: str) -> None:
        self.desks[name].core.close()

    @rule(name=names)
    def come_back(self, name: str) -> None:
        core = self.desks[name].core
        if core._link_state.closed:
            core.start(self.clock.now, 5.0)

    @rule(down=st.booleans())
    def broker_down(self, down: bool) -> None:
        self.broker.down = down
        if down:
            for desk in self.desks.values():
                self.broker.cut(desk)

    @rule(name=names)
    def drain(self, name: str) -> None:
        line = self.broker.lines.get(self.desks[name])
        if line is not None and line.welcomed:
            self.broker._say(line, control.DrainingNotice(10_000))

    @rule(name=names, full=st.booleans())
    def queue_at_broker(self, name: str, full: bool) -> None:
        line = self.broker.lines.get(self.desks[name])
        if line is not None:
            line.full = full

    @rule(name=names, room=st.sampled_from([0, 1, None]))
    def queue_to_broker(self, name: str, room: int | None) -> None:
        self.desks[name].shell.room = room

    # -- what must hold

    @invariant()
    def sums_are_right(self) -> None:
        for desk in self.desks.values():
            desk.check_sums()

    @invariant()
    def outcomes_are_true(self) -> None:
        for _, called, number, call in self.calls:
            assert call.settled == call.done
            assert self.started[number] <= 1
            if not call.done:
                continue
            if call._error is None:
                assert call.results[0] == called and call.results[1] in (number, None)
            elif call.error.executed == "no":
                assert not self.started[number], call.error

    def teardown(self) -> None:
        self._heal()
        self.outcomes_are_true()
        for name, desk in self.desks.items():
            assert desk.core._link_state.state is SessionState.READY
            desk.check_at_rest()
            own = [call for caller, _, _, call in self.calls if caller is desk]
            assert desk.counters.calls == len(own)
            assert all(call.done for call in own)
            assert sum(call._error is None for call in own) == desk.counters.results
            if name != "server":
                assert name in self.desks["server"].core.players

    def _heal(self) -> None:
        self.broker.down = False
        for _ in range(4):
            for name, desk in self.desks.items():
                desk.shell.room = None
                if desk in self.broker.lines:
                    self.broker.lines[desk].full = False
                self.come_back(name)
                self.handle(name)
            for name, execution in self.running:
                if not execution.replied:
                    execution(name, execution.payload)
            self.running.clear()
            self.broker.run()
            self.broker.wait(6.0, 0.3)


TestCalls = Calls.TestCase
TestCalls.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
