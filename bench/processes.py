"""Processes of a benchmark: started, read line by line, and their processor time and memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
BROKER = ("-m", "ringback_cli", "broker", "--players=tcp://127.0.0.1:0", "--backend=tcp://127.0.0.1:0")


def start(stack: ExitStack, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=HERE,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def line_of(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if match := re.search(pattern, line):
            return match
    sys.exit(f"a process ended without {pattern!r}: {''.join(seen)}")


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def cpu_s(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(process: subprocess.Popen[str]) -> float:
    """Gives what of a process is resident."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


def start_broker(stack: ExitStack, *options: str) -> tuple[subprocess.Popen[str], str, str]:
    """Gives a broker, and its addresses for players and the backend."""
    broker = start(stack, *BROKER, *options)
    players, backend = line_of(broker, r"ready players=(\S+) backend=(\S+)").groups()
    return broker, players, backend
