"""The checker of histories passes sound ones, and finds each planted fault under its own number."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import histories
from support.histories import File, Line, Recorder, check


class Story:
    """A history of a server and of the players 7 and 8, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[Line] = []
        self.server = self.life("s1", "server", "server")
        self.seven = self.life("p7", "player", 7)
        self.eight = self.life("p8", "player", 8)

    def life(self, who: str, role: str, name: Any) -> Recorder:
        recorder = Recorder(who, self.lines.append, lambda: self.now)
        recorder.start(role, name)
        return recorder

    def call(self, call: str, caller: Recorder, to: Any, source: Any, timeout: float | None = 1.0) -> None:
        caller.invoke(call, to, source, timeout, ["payload", call])

    def run(self, call: str, at: Recorder, source: Any) -> None:
        at.exec_start(call, source, ["payload", call])
        at.exec_end(call, ["result", call])

    def whole(self, call: str, caller: Recorder, to: Any, source: Any, at: Recorder) -> None:
        """Add a call that succeeds."""
        self.call(call, caller, to, source)
        self.now += 0.1
        self.run(call, at, source if at is self.server else None)
        self.now += 0.1
        caller.result(call, ["result", call])


def sound() -> Story:
    story = Story()
    story.whole("up", story.seven, "server", 7, story.server)
    story.whole("down", story.server, 8, None, story.eight)
    story.seven.invoke("long", "server", 7, None, ["payload", "long"], asks=True)
    story.server.exec_start("long", 7, ["payload", "long"])
    for number in range(3):
        story.server.report("long", number)
    story.now += 0.1
    for number in (0, 2):  # one was lost
        story.seven.progress("long", number)
    story.seven.error("long", "SOLD_OUT", "yes")
    story.call("late", story.seven, "server", 7)
    story.now += 1.0
    story.seven.error("late", "TIMEOUT", "maybe")
    story.call("unknown", story.server, 99, None)
    story.server.error("unknown", "UNKNOWN_PLAYER", "no")
    typed(story, "fits", fits=True, by_contract=True)
    typed(story, "refused", fits=False, by_contract=False)
    story.eight.invoke("unsent", "server", 8, 1.0, ["payload", "unsent"], fits=False, by_contract=True)
    for note in (story.eight.error, story.eight.look_at_error):
        note("unsent", "INVALID_PAYLOAD", "no")
    typed(story, "wrong", fits=True, by_contract=True, wrong="typed")
    typed(story, "untyped", fits=True, by_contract=True, wrong="old")
    story.call("own", story.eight, "server", 8)
    story.server.exec_start("own", 8, ["payload", "own"])
    story.eight.error("own", "SOLD_OUT", "yes")
    return story


def typed(story: Story, call: str, fits: bool, by_contract: bool, wrong: str = "") -> None:
    """Add a call of a callback with a contract, of player 8.

    Args:
        wrong: which handler gives a result that does not fit: "typed", with the contract; "old", without it.
    """
    caller, payload, result = story.eight, ["payload", call], ["result", call]
    caller.invoke(call, "server", 8, 1.0, payload, fits=fits, by_contract=by_contract)
    story.now += 0.1
    if not fits:
        caller.error(call, "INVALID_PAYLOAD", "no")
        return
    story.server.exec_start(call, 8, payload, typed=wrong != "old")
    story.server.exec_end(call, result, not wrong, wrong != "old")
    story.now += 0.1
    if wrong == "typed":
        for note in (caller.error, caller.look_at_error):
            note(call, "HANDLER_ERROR", "yes")
        return
    caller.result(call, result)
    if wrong:
        caller.look_at_error(call, "INVALID_PAYLOAD", "yes")
    else:
        caller.look(call, result)


def rest(story: Story) -> list[Line]:
    """Let each life come to rest. Return all lines."""
    for recorder, (results, errors) in (
        (story.server, (1, 1)),
        (story.seven, (1, 2)),
        (story.eight, (2, 4)),
    ):
        counters = {"calls": results + errors, "results": results, "errors": errors}
        recorder.rest({"pending": 0}, counters)
    return story.lines


def test_a_sound_history_passes() -> None:
    assert check(rest(sound()), skew_s=0.2) == []


def lines_of(lines: list[Line], **fields: Any) -> list[Line]:
    return [line for line in lines if fields.items() <= line.items()]


def twice(lines: list[Line]) -> None:
    lines.append(copy.deepcopy(lines_of(lines, call="up", what="complete")[0]))


def lost(lines: list[Line]) -> None:
    lines.remove(lines_of(lines, call="late", what="complete")[0])


def elsewhere(lines: list[Line]) -> None:
    lines_of(lines, call="up", what="complete")[0]["who"] = "p8"


def overdue(lines: list[Line]) -> None:
    lines_of(lines, call="late", what="complete")[0]["t"] += 0.3


def ran_twice(lines: list[Line]) -> None:
    lines.append(copy.deepcopy(lines_of(lines, call="up", what="exec_start")[0]))


def retried_and_ran_twice(lines: list[Line]) -> None:
    lines_of(lines, call="up", what="invoke")[0]["retry"] = True
    ran_twice(lines)


def not_run(lines: list[Line]) -> None:
    lines_of(lines, call="own", what="complete")[0]["executed"] = "no"


def never_run(lines: list[Line]) -> None:
    lines.remove(lines_of(lines, call="own", what="exec_start")[0])


def made_up(lines: list[Line]) -> None:
    lines.remove(lines_of(lines, call="up", what="exec_end")[0])


def altered_result(lines: list[Line]) -> None:
    lines_of(lines, call="down", what="complete")[0]["hash"] = "0"


def altered_payload(lines: list[Line]) -> None:
    lines_of(lines, call="down", what="exec_start")[0]["hash"] = "0"


def swapped_target(lines: list[Line]) -> None:
    for what in ("exec_start", "exec_end"):
        lines_of(lines, call="down", what=what)[0]["who"] = "p7"


def swapped_source(lines: list[Line]) -> None:
    lines_of(lines, call="up", what="exec_start")[0]["source"] = 8


def started_late(lines: list[Line]) -> None:
    lines_of(lines, call="own", what="exec_start")[0]["t"] += 1.3
    lines_of(lines, call="own", what="complete")[0]["t"] += 1.1


def not_at_rest(lines: list[Line]) -> None:
    lines_of(lines, what="rest", who="s1")[0]["tables"]["pending"] = 1


def silent(lines: list[Line]) -> None:
    lines.remove(lines_of(lines, what="rest", who="p8")[0])


def miscounted(lines: list[Line]) -> None:
    lines_of(lines, what="rest", who="s1")[0]["counters"]["errors"] = 0


def counted_too_many(lines: list[Line]) -> None:
    counters = lines_of(lines, what="rest", who="s1")[0]["counters"]
    counters["calls"], counters["results"] = 3, 2


def without_invoke(lines: list[Line]) -> None:
    lines.remove(lines_of(lines, call="own", what="invoke")[0])


def born_twice(lines: list[Line]) -> None:
    lines.append(copy.deepcopy(lines[0]))


def not_asked(lines: list[Line]) -> None:
    lines_of(lines, call="long", what="invoke")[0]["asks"] = False


def progress_elsewhere(lines: list[Line]) -> None:
    lines_of(lines, call="long", what="progress")[0]["who"] = "p8"


def out_of_order(lines: list[Line]) -> None:
    lines_of(lines, call="long", what="progress")[0]["number"] = 2


def never_reported(lines: list[Line]) -> None:
    lines.remove(lines_of(lines, call="long", what="report")[2])


def after_the_outcome(lines: list[Line]) -> None:
    lines_of(lines, call="long", what="progress")[1]["t"] += 0.1


def runs_a_wrong_payload(lines: list[Line], call: str, is_typed: bool) -> None:
    start = lines_of(lines, call="fits", what="exec_start")[0]
    payload = lines_of(lines, call=call, what="invoke")[0]["hash"]
    lines.append({**start, "call": call, "typed": is_typed, "hash": payload})
    lines_of(lines, call=call, what="complete")[0]["executed"] = "maybe"


def not_refused(lines: list[Line]) -> None:
    runs_a_wrong_payload(lines, "refused", True)


def left_although_wrong(lines: list[Line]) -> None:
    runs_a_wrong_payload(lines, "unsent", False)


def refused_by_another_error(lines: list[Line]) -> None:
    lines_of(lines, call="unsent", what="complete")[0]["code"] = "OVERLOADED"


def maybe_refused(lines: list[Line]) -> None:
    lines_of(lines, call="refused", what="complete")[0]["executed"] = "maybe"


def refused_although_right(lines: list[Line]) -> None:
    lines_of(lines, call="refused", what="invoke")[0]["fits"] = True


def wrong_result_maybe_ran(lines: list[Line]) -> None:
    lines_of(lines, call="wrong", what="complete")[0]["executed"] = "maybe"


def wrong_result_leaves(lines: list[Line]) -> None:
    lines_of(lines, call="untyped", what="exec_end")[0]["typed"] = True


def wrong_result_arrives(lines: list[Line]) -> None:
    seen = lines_of(lines, call="untyped", what="complete")[0]
    lines_of(lines, call="untyped", what="look")[0].update(code=None, hash=seen["hash"])


def altered_at_the_look(lines: list[Line]) -> None:
    lines_of(lines, call="fits", what="look")[0]["hash"] = "0"


def never_looked(lines: list[Line]) -> None:
    lines.remove(lines_of(lines, call="fits", what="look")[0])


PLANTED: list[tuple[int, Callable[[list[Line]], None]]] = [
    (0, without_invoke),
    (0, born_twice),
    (1, twice),
    (1, lost),
    (1, elsewhere),
    (2, overdue),
    (3, ran_twice),
    (3, retried_and_ran_twice),
    (4, not_run),
    (4, never_run),
    (5, made_up),
    (5, altered_result),
    (5, altered_payload),
    (6, swapped_target),
    (6, swapped_source),
    (7, started_late),
    (8, not_at_rest),
    (8, silent),
    (9, miscounted),
    (9, counted_too_many),
    (10, not_asked),
    (10, progress_elsewhere),
    (10, out_of_order),
    (10, never_reported),
    (10, after_the_outcome),
    (11, not_refused),
    (11, left_although_wrong),
    (11, refused_by_another_error),
    (11, maybe_refused),
    (11, refused_although_right),
    (11, wrong_result_maybe_ran),
    (11, wrong_result_leaves),
    (11, wrong_result_arrives),
    (11, altered_at_the_look),
    (11, never_looked),
]


@pytest.mark.parametrize(("invariant", "plant"), PLANTED)
def test_a_planted_fault_is_found(invariant: int, plant: Callable[[list[Line]], None]) -> None:
    lines = rest(sound())
    plant(lines)
    problems = check(lines, skew_s=0.2)
    assert any(problem.startswith(f"{invariant}: ") for problem in problems), problems


def test_a_killed_life_owes_nothing() -> None:
    story = sound()
    story.call("open", story.seven, "server", 7)
    story.seven.note("kill")
    lines = [line for line in rest(story) if not (line["what"] == "rest" and line["who"] == "p7")]
    assert check(lines, skew_s=0.2) == []


def test_a_stopped_life_is_excused_for_that_time() -> None:
    def paused(seconds: float) -> list[str]:
        story = Story()
        story.call("c", story.seven, "server", 7)
        story.seven.note("stop")
        story.now += seconds
        story.seven.note("continue")
        story.now += 1.1
        story.seven.error("c", "TIMEOUT", "maybe")
        return check(story.lines, skew_s=0.2, rest=False)

    assert paused(3.0) == []
    story = Story()
    story.eight.note("stop")
    story.now += 3.0
    story.eight.note("continue")  # the pause of another life excuses nothing
    story.call("c", story.seven, "server", 7)
    story.now += 1.3
    story.seven.error("c", "TIMEOUT", "maybe")
    assert [problem[:2] for problem in check(story.lines, skew_s=0.2, rest=False)] == ["2:"]


def test_a_slow_network_excuses_handlers_but_not_callers() -> None:
    lines = rest(sound())
    started_late(lines)
    lines_of(lines, call="own", what="complete")[0]["t"] += 0.5
    assert [problem[:2] for problem in check(lines, skew_s=0.2)] == ["2:", "7:"]
    assert [problem[:2] for problem in check(lines, skew_s=0.2, network_s=0.05)] == ["2:", "7:"]
    assert [problem[:2] for problem in check(lines, skew_s=0.2, network_s=0.5)] == ["2:"]


def test_histories_are_kept_in_files(tmp_path: Path) -> None:
    story = sound()
    files = [tmp_path / name for name in ("a", "b")]
    sinks = [File(path) for path in files]
    for number, line in enumerate(story.lines):
        sinks[number % 2](line)
    kept = histories.read(files)
    assert [line["t"] for line in kept] == sorted(line["t"] for line in story.lines)
    assert sorted(map(json.dumps, kept)) == sorted(map(json.dumps, story.lines))


@pytest.mark.parametrize(("idempotent", "life"), [(True, "s1"), (False, "s2")])
def test_a_call_that_is_tried_again_may_run_elsewhere_or_if_it_is_idempotent(
    idempotent: bool, life: str
) -> None:
    story = sound()
    lines_of(story.lines, call="up", what="invoke")[0]["retry"] = True
    story.life("s2", "server", "server").note("kill")
    start = copy.deepcopy(lines_of(story.lines, call="up", what="exec_start")[0])
    story.lines.append({**start, "who": life, "idempotent": idempotent})
    assert check(rest(story), skew_s=0.2) == []
