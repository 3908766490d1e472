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


def start(
    stack: ExitStack, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=HERE,
        env={**os.environ, **(environment or {})},
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


def make_keys(folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Makes keys for a broker, a server and player 7; gives the broker's options, and the environment of the
    other two, which tells where their keys are."""
    from ringback.credentials import load_key_pair, new_key_pair, write_key_pair

    broker = write_key_pair(new_key_pair("broker", "broker"), folder)
    public = load_key_pair(broker).public
    access = ""
    for role, ids in (("server", ()), ("player", (7,))):
        pair = new_key_pair(role, role, ids, public)
        write_key_pair(pair, folder)
        access += f'[[key]]\nname = "{role}"\nrole = "{role}"\npublic = "{pair.public}"\n'
        access += f"ids = {list(ids)}\n" if ids else ""
    (folder / "access.toml").write_text(access)
    options = ("--key-file", str(broker), "--access", str(folder / "access.toml"))
    return options, {"BENCH_KEYS": str(folder)}


def start_broker(stack: ExitStack, *options: str) -> tuple[subprocess.Popen[str], str, str]:
    """Gives a broker, and its addresses for players and the backend."""
    broker = start(stack, *BROKER, *options)
    players, backend = line_of(broker, r"ready players=(\S+) backend=(\S+)").groups()
    return broker, players, backend
