"""Who measures: starts processes of `ringback_cli.load`, tells them line by line what to do, and reads the
processor time that they take.

`ringback bench` and the project's own benchmarks share it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from subprocess import Popen
from typing import Any


class ProcessEnded(Exception):
    """A process ended without the line that was waited for.

    Args:
        code: its exit code.
        lines: what it had printed meanwhile.
    """

    def __init__(self, code: int, lines: list[str]) -> None:
        self.code = code
        self.lines = lines
        super().__init__(f"a process ended with {code}: {' / '.join(lines) or 'it said nothing'}")


def line_of(process: Popen[str], pattern: str) -> re.Match[str]:
    """Waits for a line that matches.

    Raises:
        ProcessEnded: none came.
    """
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match
        seen.append(line.rstrip("\n"))
    raise ProcessEnded(process.wait(), seen)


def send_line(process: Popen[str], line: str = "") -> None:
    """Writes a line to a process; an empty one tells it to go on."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended: who reads from it is told why
        process.stdin.write(f"{line}\n")
        process.stdin.flush()


def measure_calls(
    caller: Popen[str], processes: Mapping[str, Popen[str]], in_flight: int, seconds: float
) -> dict[str, Any]:
    """Has a process call for so long.

    Args:
        caller: a process of `ringback_cli.load` that calls.
        processes: those whose processor time is wanted, by name.

    Returns:
        The caller's figures, and for each process `cpu_NAME_us`, what it took for a call.

    Raises:
        ProcessEnded: one of the processes has ended.
    """
    send_line(caller, json.dumps({"in_flight": in_flight, "seconds": seconds}))
    line_of(caller, "^START$")
    before = {name: cpu_s(process) for name, process in processes.items()}
    send_line(caller)
    figures: dict[str, Any] = json.loads(line_of(caller, r"^\{.*\}$")[0])
    for name, process in processes.items():
        figures[f"cpu_{name}_us"] = 1e6 * (cpu_s(process) - before[name]) / figures["calls"]
    return figures


def cpu_s(process: Popen[str]) -> float:
    """Gives the processor time that a process has taken with all its threads.

    /proc counts it in steps of 10 ms. This clock is exact, so that short measurements are too.

    Raises:
        ProcessEnded: it has ended.
    """
    try:
        # As clock_getcpuclockid() makes it: the process, and CPUCLOCK_SCHED.
        return time.clock_gettime(~process.pid << 3 | 2)
    except OSError:
        raise ProcessEnded(process.wait(), []) from None
