"""Processes of `ringback_cli.load`: tell them line by line what to measure, and read their processor time.

`ringback bench` and the project's benchmarks share this module.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from subprocess import Popen
from typing import Any


class ProcessEnded(Exception):
    """A process ended before it printed the expected line.

    Args:
        code: its exit code.
        lines: the lines that it printed instead.
    """

    def __init__(self, code: int, lines: list[str]) -> None:
        self.code = code
        self.lines = lines
        super().__init__(
            f"a process ended with exit code {code}: {' / '.join(lines) or 'it printed nothing'}"
        )


def line_of(process: Popen[str], pattern: str) -> re.Match[str]:
    """Wait for a line that matches a pattern, and return the match.

    Raises:
        ProcessEnded: the process ended without such a line.
    """
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match
        seen.append(line.rstrip("\n"))
    raise ProcessEnded(process.wait(), seen)


def send_line(process: Popen[str], line: str = "") -> None:
    """Write a line to a process. An empty line tells it to continue."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended; reading from it raises ProcessEnded
        process.stdin.write(f"{line}\n")
        process.stdin.flush()


def measure_calls(caller: Popen[str], processes: Mapping[str, Popen[str]], **asked: float) -> dict[str, Any]:
    """Make a process call, and return its figures.

    Args:
        caller: a process of `ringback_cli.load` that calls.
        processes: the processes whose processor time is wanted, by name.
        asked: what to measure, as the workload of the caller takes it. For a closed loop: `in_flight`, the
            number of calls in flight, and `seconds`, the duration.

    Returns:
        The caller's figures, and `cpu_NAME_us` for each process: its processor time for one call.

    Raises:
        ProcessEnded: one of the processes has ended.
    """
    send_line(caller, json.dumps(asked))
    line_of(caller, "^START$")
    before = {name: cpu_s(process) for name, process in processes.items()}
    send_line(caller)
    figures: dict[str, Any] = json.loads(line_of(caller, r"^\{.*\}$")[0])
    for name, process in processes.items():
        figures[f"cpu_{name}_us"] = 1e6 * (cpu_s(process) - before[name]) / figures["calls"]
    return figures


def can_measure() -> bool:
    """Return whether this system tells the processor time of another process, as `cpu_s` asks for it."""
    try:
        time.clock_gettime(~os.getpid() << 3 | 2)
    except (AttributeError, OSError):
        return False
    return True


def cpu_s(process: Popen[str]) -> float:
    """Return the processor time of a process with all its threads, in seconds.

    /proc counts in steps of 10 ms. This clock is exact, so short measurements are exact too.

    Raises:
        ProcessEnded: the process has ended.
    """
    try:
        # The number that clock_getcpuclockid() would return: the process and CPUCLOCK_SCHED.
        return time.clock_gettime(~process.pid << 3 | 2)
    except OSError:
        raise ProcessEnded(process.wait(), []) from None
