"""A thousand simulated runs: whatever happens to network, broker and endpoints, the promise holds."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sim.replay import REPLAY, ROOT
from sim.simulation import LIMITS, Simulation, failure_of

from ringback._roles.typed_calls import TypedCallBase
from ringback.core import typed_execution
from ringback.core.calls_in import CallsIn
from ringback.core.calls_out import CallsOut
from ringback.core.deadlines import Deadlines
from ringback.core.duty import Duty
from ringback.core.execution import Execution
from ringback.core.link_opener import LinkOpener
from ringback.core.once import Once
from ringback.core.outbox import Outbox
from ringback.core.peers import Peer
from ringback.core.pending_call import PendingCall
from ringback.core.progress import Progress
from ringback.core.remembered_calls import OnceCall, RememberedCalls
from ringback.core.retried_call import RetriedCall
from ringback.core.typed_execution import TypedExecution
from ringback.core.waiting_room import WaitingRoom
from ringback.errors import Code, HandlerError, call_error
from ringback.protocol.contexts import PROGRESS
from ringback.protocol.frames import FrameType
from ringback_broker.daemon.receiver import Receiver
from ringback_broker.net.router_socket import RouterSocket
from ringback_broker.peers.connection import Sent
from ringback_broker.peers.session import Duty as Duties
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.sessions import Sessions

SEEDS = 1000
CHUNK = 50


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_the_promise_holds(first: int) -> None:
    for seed in range(first, first + CHUNK):
        if (why := failure_of(seed)) is not None:
            pytest.fail(f"seed {seed}: {why}\nreplay: {REPLAY.format(seed)}", pytrace=False)


def trace_of(seed: int) -> list[str]:
    simulation = Simulation(seed, tracing=True)
    simulation.run()
    assert simulation.world.trace
    return simulation.world.trace


def test_a_seed_gives_the_same_trace_twice() -> None:
    for seed in range(5):
        assert trace_of(seed) == trace_of(seed)


def test_a_seed_gives_the_same_trace_in_another_process() -> None:
    command = [sys.executable, str(ROOT / "tests/sim/replay.py"), "--seed", "3", "--trace"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PYTHONHASHSEED": "3"})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    trace = trace_of(3)
    assert ended.stdout.splitlines()[: len(trace)] == trace


# -- the simulator finds faults that are planted in the code


def reply_on_any_route(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = CallsOut.finish

    def mutant(self: CallsOut, peer: Peer, call_id: int, *outcome: Any) -> None:
        called = [other for other in self._state.peers.values() if call_id in other.calls]
        finish(self, called[0] if called else peer, call_id, *outcome)

    monkeypatch.setattr(CallsOut, "finish", mutant)


def nobody_is_told_of_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sessions, "_announce_end", lambda self, session, finished: None)


def queues_outlive_their_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Outbox, "forget", lambda self, peer: list(peer.outgoing))


def every_error_says_that_nothing_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback.core.dispatch.call_error", _never_ran)


def _never_ran(code: Code, message: str, _executed: str, data: Any = None) -> Any:
    return call_error(code, message, "no", data)


def events_overtake_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Receiver.take

    def mutant(self: Receiver, now: float) -> bool:
        self.take_events(now)
        return take(self, now)

    monkeypatch.setattr(Receiver, "take", mutant)


def deadlines_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadlines, "sweep", lambda self, now: None)


def bounces_get_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose each bounce that finds a queue full."""
    send, send_with_id = RouterSocket.send, RouterSocket.send_with_id

    def sent(outcome: Sent, frame: Any) -> Sent:
        return Sent.YES if bytes(frame)[1] == FrameType.BOUNCE and outcome is Sent.FULL else outcome

    def mutant(self: RouterSocket, routing_id: bytes, frame: Any) -> Sent:
        return sent(send(self, routing_id, frame), frame)

    def mutant_with_id(self: RouterSocket, routing_id: bytes, encoded_id: bytes, frame: Any) -> Sent:
        return sent(send_with_id(self, routing_id, encoded_id, frame), frame)

    monkeypatch.setattr(RouterSocket, "send", mutant)
    monkeypatch.setattr(RouterSocket, "send_with_id", mutant_with_id)


def stale_lookups_count(monkeypatch: pytest.MonkeyPatch) -> None:
    take = LinkOpener.take_addresses

    def mutant(self: LinkOpener, number: int, *found: Any) -> None:
        self._looking = True
        take(self, self._asked, *found)

    monkeypatch.setattr(LinkOpener, "take_addresses", mutant)


def a_wait_for_room_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WaitingRoom, "sweep", lambda self, now: math.inf)


def progress_of_anyone_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    take = CallsOut.take_progress

    def mutant(self: CallsOut, peer: Peer, call_id: int, value: Any) -> None:
        called = [other for other in self._state.peers.values() if call_id in other.calls]
        take(self, called[0] if called else peer, call_id, value)

    monkeypatch.setattr(CallsOut, "take_progress", mutant)


def progress_follows_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def mutant(self: CallsIn, execution: Execution, envelope: bytes) -> None:
        peer = self._peers.get(execution.route)
        if peer is not None:
            self._outbox.add(peer, envelope)

    monkeypatch.setattr(Execution, "progress", _reports_always)
    monkeypatch.setattr(CallsIn, "report", mutant)


def _reports_always(execution: Execution, value: object) -> None:
    if execution.context is not None and PROGRESS in execution.context:
        execution.shell.progress(execution, value)


def progress_overtakes(monkeypatch: pytest.MonkeyPatch) -> None:
    report = CallsIn.report

    def mutant(self: CallsIn, execution: Execution, envelope: bytes) -> None:
        report(self, execution, envelope)
        peer = self._peers.get(execution.route)
        if peer is not None and peer.outgoing and peer.outgoing[-1] == envelope:
            peer.outgoing.insert(0, peer.outgoing.pop())

    monkeypatch.setattr(CallsIn, "report", mutant)


def progress_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "end", lambda self: None)


def progress_has_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "take", lambda self, value: self.waiting.append(value))


def a_call_that_comes_again_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def mutant(self: Once, call: OnceCall, *arrived: Any) -> None:
        self._start(*arrived)

    monkeypatch.setattr(Once, "_join", mutant)


def tokens_are_forgotten_with_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    detach = Once.abandon

    def mutant(self: Once, peer: Peer, execution: Execution, why: Code, recorded: Code) -> None:
        call = self.running[execution]
        detach(self, peer, execution, why, recorded)
        if call.execution is not None and not call.repeats:
            del self.memory.calls[call.name]

    monkeypatch.setattr(Once, "abandon", mutant)


def outcomes_are_forgotten_when_they_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RememberedCalls, "replied", lambda self, call, call_id: self._forget(call))


def the_last_try_says_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetriedCall, "outcome", lambda self, error: error)


def an_endpoint_knows_what_it_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a repeat anew once its outcome is forgotten, and forget each one soon."""
    monkeypatch.setattr(RememberedCalls, "would_know", lambda self, age_s, now: True)
    monkeypatch.setattr("sim.simulation.REMEMBER_S", 0.01)


def a_server_leaves_what_it_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Duty, "_has_finished", lambda self: True)


def calls_of_servers_are_answered_at_the_one_that_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.simulation.STANDBYS", [1])
    take = Duty.welcomed
    monkeypatch.setattr(Duty, "welcomed", lambda self, welcome: take(self, replace(welcome, own_link=None)))


def nobody_is_told_of_one_that_retires_and_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.simulation.STANDBYS", [1])
    announce = Sessions._announce_end

    def mutant(self: Sessions, session: Session, finished: bool) -> None:
        if session.duty is not Duties.RETIRING:
            announce(self, session, finished)

    monkeypatch.setattr(Sessions, "_announce_end", mutant)


def nobody_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sessions, "promote", lambda self: None)


def any_ticket_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback_broker.admission.hello._shows_ticket", lambda hello, present: True)


def payloads_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TypedExecution, "begin", Execution.begin)


def a_payload_that_does_not_fit_is_logged_only(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = TypedExecution.begin

    def mutant(self: TypedExecution, clock: Callable[[], float]) -> tuple[object, ...] | None:
        return begin(self, clock) or Execution.begin(self, clock)

    monkeypatch.setattr(TypedExecution, "_refuse", lambda self, problem, converter: None)
    monkeypatch.setattr(TypedExecution, "begin", mutant)


def what_leaves_is_not_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def mutant(self: Any, value: Any) -> Any:
        return self._to_plain(value)

    monkeypatch.setattr("ringback.converters._MsgspecConverter.write", mutant)


def results_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TypedExecution, "__call__", Execution.__call__)


def a_wrong_result_leaves_the_reply_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a handler reply again after a result that does not fit."""
    reply = TypedExecution.__call__

    def mutant(self: TypedExecution, *results: Any) -> None:
        failed: list[Exception] = []
        with monkeypatch.context() as patched:
            patched.setattr(TypedExecution, "fail", lambda _, error: failed.append(error))
            reply(self, *results)

    monkeypatch.setattr(TypedExecution, "__call__", mutant)


def results_are_not_checked_where_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TypedCallBase, "convert", PendingCall.convert)


def nobody_knows_if_a_refused_payload_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    error = typed_execution.misfit_error
    monkeypatch.setattr(typed_execution, "misfit_error", lambda *given: error(*given[:-1], "maybe"))


def a_refused_payload_is_an_error_of_the_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_execution, "misfit_error", lambda *_: HandlerError("the payload does not fit"))


def a_result_that_does_not_fit_did_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def mutant(self: TypedExecution, error: Exception) -> None:
        self.refuse(HandlerError("the result does not fit", executed="no"))

    monkeypatch.setattr(TypedExecution, "fail", mutant)


def a_reply_without_room_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every reply that finds no room for one of a handler that ran. Few bytes find room."""
    monkeypatch.setitem(LIMITS, "max_queued_bytes", [100])
    monkeypatch.setattr("ringback.core.calls_in.executed_in", lambda error: "yes")
    monkeypatch.setattr("ringback.core.once.executed_in", lambda error: "yes")


def questions_take_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a question to the broker fill the room of all calls."""
    monkeypatch.setitem(LIMITS, "max_pending", [1])
    monkeypatch.setattr("sim.simulation.STANDBYS", [1])
    monkeypatch.setattr(CallsOut, "pending_with_peers", property(lambda self: self.pending))


@pytest.mark.parametrize(
    "plant",
    [
        payloads_are_not_checked,
        a_payload_that_does_not_fit_is_logged_only,
        what_leaves_is_not_read_back,
        results_are_not_checked,
        a_wrong_result_leaves_the_reply_open,
        results_are_not_checked_where_they_arrive,
        nobody_knows_if_a_refused_payload_ran,
        a_refused_payload_is_an_error_of_the_handler,
        a_result_that_does_not_fit_did_not_run,
        a_reply_without_room_ran,
        questions_take_room,
        a_server_leaves_what_it_has_begun,
        nobody_is_told_of_one_that_retires_and_dies,
        nobody_takes_over,
        any_ticket_will_do,
        calls_of_servers_are_answered_at_the_one_that_acts,
        reply_on_any_route,
        nobody_is_told_of_an_end,
        queues_outlive_their_peers,
        every_error_says_that_nothing_ran,
        events_overtake_messages,
        deadlines_are_forgotten,
        bounces_get_lost,
        stale_lookups_count,
        progress_of_anyone_counts,
        progress_follows_the_outcome,
        progress_overtakes,
        progress_has_no_end,
        progress_has_no_bound,
        a_wait_for_room_has_no_end,
        a_call_that_comes_again_runs_again,
        tokens_are_forgotten_with_the_link,
        outcomes_are_forgotten_when_they_leave,
        the_last_try_says_what_ran,
        an_endpoint_knows_what_it_never_saw,
    ],
)
@pytest.mark.timeout(600)  # a thousand seeds take half a minute of processor time
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert any(failure_of(seed) is not None for seed in range(SEEDS))
