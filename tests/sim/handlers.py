"""The handlers of an endpoint of the simulator: they do what the payload of a call says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.contracts import KEY, plain, read, result_of

from ringback._runtime import call_context
from ringback.core.execution import Execution
from ringback.errors import CallbackError
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.player_ids import PlayerID

if TYPE_CHECKING:
    from sim.endpoint_process import EndpointProcess

ODD = {(1, 2): "tile"}
"""A value that nobody can decode. A call with it fails at once, and a reply becomes HANDLER_ERROR."""


class Handlers:
    """What the handlers of one endpoint do."""

    def __init__(self, process: EndpointProcess) -> None:
        self._process = process
        self._world = process.world
        self._note = process.note
        self._open: list[tuple[Execution, str]] = []  # those that do not reply by themselves
        self._turns: dict[tuple[str, PlayerID | None], Execution] = {}
        self._returned: set[Execution] = set()

    def begin(self, execution: Execution) -> None:
        """Run a handler, in the order in which a shell does it."""
        arguments = execution.begin(lambda: self._world.now)
        if arguments is None:
            self._returns(execution)
            return
        self._check_turn(execution)
        *source, payload, cb = arguments
        assert source == [execution.source] * len(source) and cb is execution
        name, do, after_s = read(payload)
        handler = execution.handler
        self._note.exec_start(
            name, execution.source, plain(payload), handler.idempotent, typed=handler.types is not None
        )
        if self._world.chance(0.3):
            self._report(execution, name, range(int(8 * self._world.random.random())))
        role = self._process.role
        match do:
            case "reply" | "twice" | "raise" | "odd" | "odd data" | "wrong":
                self._process.later(after_s, self._reply, execution, name, do)
            case "nested" if role is Role.SERVER:
                self._nested(execution, name, execution.source, FrameType.DATA)
            case "nested" if role is Role.PLAYER:
                self._nested(execution, name, None, FrameType.DATA)
            case _:
                self._open.append((execution, name))
                self._returns(execution)

    def _check_turn(self, execution: Execution) -> None:
        """Check that no other call of the source runs now if it is serial, and that none came before it."""
        if execution.handler.serial:
            name = execution.key, execution.source
            last = self._turns.get(name)
            over = last is None or (last in self._returned if last.cancelled else last.replied)
            assert over, f"{self._process.name}: {execution} runs beside {last}"
            assert self._first_of_its_caller(execution), (
                f"{self._process.name}: {execution} is not the next one"
            )
            self._turns[name] = execution

    def _first_of_its_caller(self, execution: Execution) -> bool:
        """Return whether the calls that came before this one to the same callback have all begun."""
        core, route = self._process.core, execution.route
        came = [one for one in core._once._detached if one.route == route]  # before the link was lost
        if (peer := core._state.peers.get(route)) is not None:
            came += peer.executions.values()
        for one in came:
            if one is execution:
                break
            call = core._once.running.get(one)
            repeats = call is not None and call.execution is not one
            if one.key == execution.key and one.handler.serial and not one.began and not repeats:
                return False
        return True

    def _returns(self, execution: Execution) -> None:
        """Let the handler of a call return, as a shell tells the core."""
        if execution.handler.serial:
            self._returned.add(execution)
            self._process.core.handler_returned(execution)

    def _report(self, execution: Execution, name: str, numbers: range) -> None:
        """Report progress: some at once, and the rest later, maybe after the reply."""
        random = self._world.random
        for number in numbers:
            if not execution.replied and self._process.alive:
                self._note.report(name, number)
            execution.progress((name, number))
            if self._world.chance(0.5):
                rest = numbers[number + 1 - numbers.start :]
                self._process.later(random.choice([0.0, 0.01, 0.5]), self._report, execution, name, rest)
                return

    def _nested(self, execution: Execution, name: str, to: PlayerID | None, kind: FrameType) -> None:
        """Call back, and reply when that call has ended."""
        token = call_context.deadline.set(execution.deadline)
        try:
            call = self._process.trigger(to, ["reply", 0.0], 15.0, kind)
        finally:
            call_context.deadline.reset(token)
        later = self._process.later
        if call.done:
            self._reply(execution, name, "raise")
        else:
            call.then = lambda: later(0.0, self._reply, execution, name, "reply" if call.ok else "raise")

    def _reply(self, execution: Execution, name: str, do: str) -> None:
        self._give_reply(execution, name, do)
        self._returns(execution)

    def _give_reply(self, execution: Execution, name: str, do: str) -> None:
        process = self._process
        if (execution.cancelled and process.stops_handlers) or not process.alive:
            return
        if do == "raise":
            execution.fail(CallbackError("sold out", code="SOLD_OUT", executed="yes"))
        elif do == "odd":
            execution(name, ODD)
        elif do == "odd data":
            execution.fail(CallbackError("sold out", code="SOLD_OUT", data=ODD))
        else:
            self._give_results(execution, name, do)

    def _give_results(self, execution: Execution, name: str, do: str) -> None:
        place, fits = self._process.place, None
        results: tuple[Any, ...] = name, place
        again: tuple[Any, ...] = name, "again"
        typed = execution.handler.types is not None
        if execution.key == KEY:
            wrong, random = do == "wrong", self._world.random
            results, fits = result_of(name, place, wrong, typed, random)
            again, _ = result_of(name, "again", False, typed, random)
        if not execution.replied:
            # What does not fit must not leave. It is noted so that the checker knows it if it does.
            self._note.exec_end(name, [plain(result) for result in results], fits, typed)
        execution(*results)
        if do == "twice" or (do == "wrong" and self._world.chance(0.5)):
            execution(*again)

    def reply_to_all(self) -> None:
        """Reply to the open executions."""
        executions, self._open = self._open, []
        for execution, name in executions:
            self._reply(execution, name, "reply")


def _at_server(source: Any, payload: Any, cb: Any) -> None:
    """Stand for a handler of a server. `Handlers.begin` does its work."""


def _at_player(payload: Any, cb: Any) -> None:
    """Stand for a handler of a player or operator."""


FORMS: dict[Role, Any] = {Role.SERVER: _at_server, Role.PLAYER: _at_player, Role.OPERATOR: _at_player}
"""What an endpoint registers, by its role."""
