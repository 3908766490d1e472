"""Histories: what each endpoint of a test did and saw, one line a moment, and the checker of what must hold.

A line is a JSON object with `t` (monotonic seconds), `who` (an endpoint's life: a name that no other life
has) and `what`. The other fields by `what`:

- `start`: `role`, `name` (the player ID, or the role). `kill`, `stop`, `continue`: written by who did that to
  it; `close`: it left in order. `cut`, `heal`: written by who cut the link below it.
- `invoke`: `call` (a name that no other call has), `to` (a `name`), `as` (the source that the callee has to
  be given: the caller's own name, or the one that an operator names), `timeout` (s, or null), `hash`.
- `exec_start`: `call`, `source` (null on a player), `hash`. `exec_end`: `call`, `hash` of what was answered.
- `complete`: `call`, `code` (null for a result), `executed`, `hash` of the result.
- `rest`: `tables` (entries by table, all to be 0), `counters` (of `ringback.core.counters`).

The invariants are numbered as in docs/reliability.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgpack

Line = dict[str, Any]


def digest(value: Any) -> str:
    """Gives a hash of a payload or of results. Equal for a list and a tuple."""
    return hashlib.blake2b(msgpack.packb(value), digest_size=8).hexdigest()


class Recorder:
    """Writes the lines of one endpoint's life.

    Args:
        who: the name of this life.
        write: takes a line.
        clock: gives monotonic seconds.
    """

    def __init__(
        self, who: str, write: Callable[[Line], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.who = who
        self._write = write
        self._clock = clock

    def note(self, what: str, **fields: Any) -> None:
        self._write({"t": self._clock(), "who": self.who, "what": what, **fields})

    def start(self, role: str, name: Any) -> None:
        self.note("start", role=role, name=name)

    def invoke(self, call: str, to: Any, source: Any, timeout: float | None, payload: Any) -> None:
        self.note("invoke", call=call, to=to, timeout=timeout, hash=digest(payload), **{"as": source})

    def exec_start(self, call: str, source: Any, payload: Any) -> None:
        self.note("exec_start", call=call, source=source, hash=digest(payload))

    def exec_end(self, call: str, results: Any) -> None:
        self.note("exec_end", call=call, hash=digest(results))

    def result(self, call: str, results: Any) -> None:
        self.note("complete", call=call, code=None, executed="yes", hash=digest(results))

    def error(self, call: str, code: str, executed: str) -> None:
        self.note("complete", call=call, code=code, executed=executed, hash=None)

    def rest(self, tables: dict[str, int], counters: dict[str, int]) -> None:
        self.note("rest", tables=tables, counters=counters)


class File:
    """A file that lines are written to, each at once and whole: a killed process loses none."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, line: Line) -> None:
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")


def read(paths: Iterable[Path]) -> list[Line]:
    """Gives the lines of all files, in the order of time."""
    lines: list[Line] = []
    for path in paths:
        lines += (json.loads(line) for line in path.read_bytes().splitlines())
    return sorted(lines, key=lambda line: line["t"])


def check(lines: Iterable[Line], *, skew_s: float, network_s: float = 0.0, rest: bool = True) -> list[str]:
    """Gives what is wrong with a history, worst first; nothing if all holds.

    Args:
        lines: of all endpoints, in the order of time.
        skew_s: how late a deadline may take effect at either end: timers.
        network_s: for how long the network may have held a frame up on its way to the handler, cuts apart.
            There is no common clock: a handler counts the time of a call from when it came, so it may run
            so much later. A caller may not end a call later for that.
        rest: whether each life that was not killed or closed ends at rest.
    """
    return _Checker(list(lines), skew_s, network_s).problems(rest)


class _Checker:
    def __init__(self, lines: list[Line], skew_s: float, network_s: float) -> None:
        self._skew_s = skew_s
        self._network_s = network_s
        self._by_call: dict[str, dict[str, list[Line]]] = defaultdict(lambda: defaultdict(list))
        self._starts: dict[str, Line] = {}
        self._ends: dict[str, Line] = {}
        self._rests: dict[str, Line] = {}
        self._pauses: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._cuts: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._problems: list[str] = []
        stopped: dict[str, float] = {}
        cut: dict[str, float] = {}
        for line in lines:
            who, what = line["who"], line["what"]
            if "call" in line:
                self._by_call[line["call"]][what].append(line)
                self._counts[who][what] += 1
                if what == "complete":
                    self._counts[who]["errors" if line["code"] else "results"] += 1
            elif what == "start":
                if who in self._starts:
                    self._problem(0, line, "a life begins twice")
                self._starts[who] = line
            elif what in ("kill", "close"):
                self._ends[who] = line
            elif what == "rest":
                self._rests[who] = line
            elif what == "stop":
                stopped[who] = line["t"]
            elif what == "continue":
                self._pauses[who].append((stopped.pop(who), line["t"]))
            elif what == "cut":
                cut[who] = line["t"]
            elif what == "heal":
                self._cuts[who].append((cut.pop(who), line["t"]))
        for who, since in stopped.items():
            self._pauses[who].append((since, float("inf")))

    def _problem(self, invariant: int, line: Line, text: str) -> None:
        self._problems.append(f"{invariant}: {text}: {json.dumps(line)}")

    def problems(self, rest: bool) -> list[str]:
        for found in self._by_call.values():
            if len(found["invoke"]) != 1:
                line = next(line for lines in found.values() for line in lines)
                self._problem(0, line, f"{len(found['invoke'])} invokes of one call")
                continue
            self._check_call(found["invoke"][0], found)
        if rest:
            self._check_rest()
        return sorted(self._problems)

    def _name(self, line: Line) -> Any:
        start = self._starts.get(line["who"])
        return None if start is None else start["name"]

    def _on_its_way(self, invoke: Line, start: Line) -> float:
        """Gives how long the network may have held a call up: its budget counts from when it came."""
        cuts = [span for who in {invoke["who"], start["who"]} for span in self._cuts[who]]
        return self._network_s + _overlap(cuts, invoke["t"], start["t"])

    def _late(self, line: Line, invoke: Line, *held: str) -> float:
        """Gives by how much something came after the deadline, what is excused taken off."""
        if invoke["timeout"] is None:
            return 0.0
        excused = sum(_overlap(self._pauses[who], invoke["t"], line["t"]) for who in {*held, "broker"})
        return float(line["t"] - invoke["t"] - invoke["timeout"] - self._skew_s - excused)

    def _check_call(self, invoke: Line, found: dict[str, list[Line]]) -> None:
        starts, ends, completes = found["exec_start"], found["exec_end"], found["complete"]
        caller = invoke["who"]
        if len(completes) > 1:
            self._problem(1, completes[1], "a call ended twice")
        if not completes and caller not in self._ends:
            self._problem(1, invoke, "a call never ended")
        for complete in completes:
            if complete["who"] != caller:
                self._problem(1, complete, "a call ended at somebody else")
            if (late_s := self._late(complete, invoke, caller)) > 0:
                self._problem(2, complete, f"a call ended {late_s:.3f} s too late")
            if complete["executed"] == "no" and starts:
                self._problem(4, complete, "a call that did not run has run")
            if complete["code"] is None:
                self._check_result(complete, starts, ends)
            elif complete["executed"] == "yes" and not starts:
                self._problem(4, complete, "a call that ran has not run")
        if len(starts) > 1:
            self._problem(3, starts[1], "a handler ran twice")
        for start in starts:
            if self._name(start) != invoke["to"]:
                self._problem(6, start, f"a call to {invoke['to']!r} ran at {self._name(start)!r}")
            if self._role(start) == "server" and start["source"] != invoke["as"]:
                self._problem(6, start, f"a call of {invoke['as']!r} ran as one of {start['source']!r}")
            if start["hash"] != invoke["hash"]:
                self._problem(5, start, "a handler was given another payload")
            late_s = self._late(start, invoke, caller, start["who"])
            if late_s > 0 and (late_s := late_s - self._on_its_way(invoke, start)) > 0:
                self._problem(7, start, f"a handler ran {late_s:.3f} s too late")

    def _role(self, line: Line) -> Any:
        start = self._starts.get(line["who"])
        return None if start is None else start["role"]

    def _check_result(self, complete: Line, starts: list[Line], ends: list[Line]) -> None:
        where = {start["who"] for start in starts}
        for end in ends:
            if end["who"] in where and end["hash"] == complete["hash"] and end["t"] <= complete["t"]:
                return
        self._problem(5, complete, "a result that no handler gave")

    def _check_rest(self) -> None:
        for who, start in self._starts.items():
            if who in self._ends:
                continue
            line = self._rests.get(who)
            if line is None:
                self._problem(8, start, "an endpoint never came to rest")
                continue
            if any(line["tables"].values()):
                self._problem(8, line, "a table is not empty")
            counters, counts = line["counters"], self._counts[who]
            if counters and counters["calls"] != counters["results"] + counters["errors"]:
                self._problem(9, line, "the counters do not add up")
            for name, what in (("calls", "invoke"), ("results", "results"), ("errors", "errors")):
                if counters and counters[name] != counts[what]:
                    self._problem(9, line, f"{counts[what]} {what} were recorded, {counters[name]} counted")


def _overlap(spans: list[tuple[float, float]], since: float, until: float) -> float:
    """Gives how much of a span of time lies in others."""
    return sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in spans)
