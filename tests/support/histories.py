"""Histories: what each endpoint of a test did and saw, and a checker of the invariants.

A history is a list of lines. A line is a JSON object with `t` (monotonic seconds), `who` (a life: one
endpoint in one process, under a name that no other life has) and `what`. The other fields depend on `what`:

- `start`: `role`, and `name` (the player ID, or the role).
- `kill`, `stop`, `continue`: the test did this to the process. `cut`, `heal`: the test did this to the link
  below the endpoint. `close`: the endpoint closed its session itself.
- `invoke`: `call` (a name that no other call has), `to` (a `name`), `as` (the source that the handler must
  get: the caller's own name, or the source that an operator names), `timeout` (seconds, or null), `hash` of
  the payload, `asks` (whether it asks for progress), `retry` (whether it is tried again), `fits` (whether the
  payload fits the contract of the callback; null if there is none), `by_contract` (whether the caller
  triggered it by contract, or else by key).
- `exec_start`: `call`, `source` (null on a player), `hash` of the payload, `idempotent` (whether the handler
  may run twice for a call that is tried again), `typed` (whether the handler was registered with the
  contract).
- `exec_end`: `call`, `hash` of the results, `fits` (whether the results fit the contract; null if there is
  none), `typed`.
- `report`: `call`, `number`: a handler reported progress; it numbers its reports from 0. `progress`: `call`,
  `number`: this report came to the caller.
- `complete`: `call`, `code` (null for results), `executed`, `hash` of the results. `look`: the same, as the
  program sees it when it looks at a call that it triggered by contract.
- `rest`: `tables` (the number of entries in each table; all must be 0), `counters` (see
  `ringback.core.counters`).

docs/reliability.md has the list of the invariants, with the same numbers.
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
    """Return a hash of a payload or of results. A list and a tuple have the same hash."""
    return hashlib.blake2b(msgpack.packb(value), digest_size=8).hexdigest()


class Recorder:
    """The writer of the lines of one life.

    Args:
        who: the name of this life.
        write: the function that stores a line.
        clock: the function that returns monotonic seconds.
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

    def invoke(
        self,
        call: str,
        to: Any,
        source: Any,
        timeout: float | None,
        payload: Any,
        asks: bool = False,
        retry: bool = False,
        fits: bool | None = None,
        by_contract: bool = False,
    ) -> None:
        fields = {"as": source, "hash": digest(payload), "asks": asks, "retry": retry}
        fields |= {"fits": fits, "by_contract": by_contract}
        self.note("invoke", call=call, to=to, timeout=timeout, **fields)

    def exec_start(
        self, call: str, source: Any, payload: Any, idempotent: bool = False, typed: bool = False
    ) -> None:
        fields = {"hash": digest(payload), "idempotent": idempotent, "typed": typed}
        self.note("exec_start", call=call, source=source, **fields)

    def exec_end(self, call: str, results: Any, fits: bool | None = None, typed: bool = False) -> None:
        self.note("exec_end", call=call, hash=digest(results), fits=fits, typed=typed)

    def report(self, call: str, number: int) -> None:
        self.note("report", call=call, number=number)

    def progress(self, call: str, number: int) -> None:
        self.note("progress", call=call, number=number)

    def result(self, call: str, results: Any) -> None:
        self.note("complete", call=call, code=None, executed="yes", hash=digest(results))

    def error(self, call: str, code: str, executed: str) -> None:
        self.note("complete", call=call, code=code, executed=executed, hash=None)

    def look(self, call: str, results: Any) -> None:
        self.note("look", call=call, code=None, executed="yes", hash=digest(results))

    def look_at_error(self, call: str, code: str, executed: str) -> None:
        self.note("look", call=call, code=code, executed=executed, hash=None)

    def rest(self, tables: dict[str, int], counters: dict[str, int]) -> None:
        self.note("rest", tables=tables, counters=counters)


class File:
    """A file of lines. Each line is written at once, so a killed process loses none."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, line: Line) -> None:
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")


def read(paths: Iterable[Path]) -> list[Line]:
    """Return the lines of all files, in the order of time."""
    lines: list[Line] = []
    for path in paths:
        lines += (json.loads(line) for line in path.read_bytes().splitlines())
    return sorted(lines, key=lambda line: line["t"])


def check(
    lines: Iterable[Line],
    *,
    skew_s: float,
    network_s: float = 0.0,
    lookup_s: float = 0.0,
    rest: bool = True,
) -> list[str]:
    """Return the broken invariants of a history, sorted by their numbers. An empty list means that all hold.

    Args:
        lines: the lines of all endpoints, in the order of time.
        skew_s: how late a deadline may take effect at either end, in seconds. Timers are late.
        network_s: how long the network may have delayed a frame on its way to the handler, in seconds, apart
            from cuts. There is no common clock: a handler counts the time of a call from the moment at which
            the call came. So the handler may start later by this time. The caller may not end the call later.
        lookup_s: how long brokers may have looked for a player whom an operator calls. That counts as a delay
            of the network.
        rest: whether to require that each life comes to rest, unless it was killed or closed.
    """
    return _Checker(list(lines), skew_s, network_s, lookup_s).problems(rest)


class _Checker:
    def __init__(self, lines: list[Line], skew_s: float, network_s: float, lookup_s: float) -> None:
        self._skew_s = skew_s
        self._network_s = network_s
        self._lookup_s = lookup_s
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
                    self._problem(0, line, "a life started twice")
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

    def _delay_of_network(self, invoke: Line, start: Line) -> float:
        """Return how long the network may have delayed a call. Its budget counts from the moment it came."""
        cuts = [span for who in {invoke["who"], start["who"]} for span in self._cuts[who]]
        looked_up = self._role(invoke) == "operator" and self._role(start) == "player"
        lookup_s = self._lookup_s if looked_up else 0.0
        return self._network_s + lookup_s + _overlap(cuts, invoke["t"], start["t"])

    def _late(self, line: Line, invoke: Line, *lives: str) -> float:
        """Return how many seconds a line is late, not counting pauses of these lives or of the broker."""
        if invoke["timeout"] is None:
            return 0.0
        brokers = [who for who in self._pauses if who not in self._starts]
        excused = sum(_overlap(self._pauses[who], invoke["t"], line["t"]) for who in {*lives, *brokers})
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
                self._problem(1, complete, "a call ended at an endpoint that did not make it")
            if (late_s := self._late(complete, invoke, caller)) > 0:
                self._problem(2, complete, f"a call ended {late_s:.3f} s too late")
            if complete["executed"] == "no" and starts:
                self._problem(4, complete, 'a call with executed="no" has run')
            if complete["code"] is None:
                self._check_result(complete, starts, ends)
            elif complete["executed"] == "yes" and not starts:
                self._problem(4, complete, 'a call with executed="yes" has not run')
        self._check_once(invoke, starts)
        self._check_progress(invoke, found)
        if invoke.get("fits") is not None:
            self._check_contract(invoke, found)
        for start in starts:
            if self._name(start) != invoke["to"]:
                self._problem(6, start, f"a call to {invoke['to']!r} ran at {self._name(start)!r}")
            if self._role(start) == "server" and start["source"] != invoke["as"]:
                self._problem(6, start, f"a call of {invoke['as']!r} ran as a call of {start['source']!r}")
            if start["hash"] != invoke["hash"]:
                self._problem(5, start, "a handler got another payload than the caller sent")
            late_s = self._late(start, invoke, caller, start["who"])
            if late_s > 0 and (late_s := late_s - self._delay_of_network(invoke, start)) > 0:
                self._problem(7, start, f"a handler ran {late_s:.3f} s too late")

    def _check_progress(self, invoke: Line, found: dict[str, list[Line]]) -> None:
        where = {start["who"] for start in found["exec_start"]}
        reported = {line["number"]: line["t"] for line in found["report"] if line["who"] in where}
        over = min((complete["t"] for complete in found["complete"]), default=float("inf"))
        latest = -1
        if invoke.get("retry") and len(found["exec_start"]) > 1:  # each run has numbers of its own
            return
        for line in found["progress"]:
            if line["who"] != invoke["who"] or not invoke["asks"]:
                self._problem(10, line, "progress came to an endpoint that did not ask for it")
            if line["number"] <= latest:
                self._problem(10, line, "progress came twice, or in another order than it was reported")
            if line["t"] < reported.get(line["number"], float("inf")):
                self._problem(10, line, "progress came that no handler had reported")
            if line["t"] > over:
                self._problem(10, line, "progress came after the outcome")
            latest = line["number"]

    def _check_contract(self, invoke: Line, found: dict[str, list[Line]]) -> None:
        """Check that what does not fit a contract gets through neither to a handler nor to a caller."""
        fits, starts = invoke["fits"], found["exec_start"]
        if not fits and invoke["by_contract"] and starts:
            self._problem(11, invoke, "a payload that does not fit left its caller")
        elif not fits and any(start["typed"] for start in starts):
            self._problem(11, invoke, "a handler got a payload that does not fit")
        for complete in found["complete"]:
            code, executed = complete["code"], complete["executed"]
            # Of a call that is tried again, an earlier try may say more of what ran.
            refused = executed == "no" or (invoke["retry"] and executed == "maybe")
            if code == "INVALID_PAYLOAD" and (fits or not refused):
                self._problem(11, complete, "a payload was refused that fits, or that may have run")
            if not fits and invoke["by_contract"] and code not in ("INVALID_PAYLOAD", "TIMEOUT"):
                self._problem(
                    11, complete, "a payload that does not fit was not refused where it was triggered"
                )
            if code == "HANDLER_ERROR" and executed != "yes" and starts and not invoke["retry"]:
                self._problem(11, complete, "a handler whose result does not fit has run")
            result = self._result_of(complete, found["exec_end"])
            if result is not None and result["typed"] and not result["fits"]:
                self._problem(11, complete, "a result that does not fit left its handler")
            if invoke["by_contract"]:
                self._check_look(complete, result, found["look"])

    def _result_of(self, complete: Line, ends: list[Line]) -> Line | None:
        """Return the line that says what the result of a call was; None if it failed."""
        if complete["code"] is not None:
            return None
        return next((end for end in ends if end["hash"] == complete["hash"]), None)

    def _check_look(self, complete: Line, result: Line | None, looks: list[Line]) -> None:
        """Check that the program sees a result that fits as it is, another one as an error."""
        if not looks and complete["who"] not in self._ends:
            self._problem(11, complete, "nobody looked at a call")
        for look in looks:
            seen = look["code"], look["executed"], look["hash"]
            wanted = complete["code"], complete["executed"], complete["hash"]
            if result is not None and not result["fits"]:
                wanted = "INVALID_PAYLOAD", "yes", None
            if seen != wanted:
                self._problem(11, look, f"the program saw {seen}, not {wanted}")

    def _check_once(self, invoke: Line, starts: list[Line]) -> None:
        """Check that the handler of a call ran at most once.

        If the call is tried again, this holds for each life of the called endpoint, unless the handler is
        idempotent.
        """
        seen = set()
        for start in starts:
            where = start["who"] if invoke.get("retry") else ""
            if where in seen and not (where and start.get("idempotent")):
                self._problem(3, start, "a handler ran twice")
            seen.add(where)

    def _role(self, line: Line) -> Any:
        start = self._starts.get(line["who"])
        return None if start is None else start["role"]

    def _check_result(self, complete: Line, starts: list[Line], ends: list[Line]) -> None:
        where = {start["who"] for start in starts}
        for end in ends:
            if end["who"] in where and end["hash"] == complete["hash"] and end["t"] <= complete["t"]:
                return
        self._problem(5, complete, "a caller got a result that no handler gave")

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
    """Return how many seconds of the time from `since` to `until` lie in the spans."""
    return sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in spans)
