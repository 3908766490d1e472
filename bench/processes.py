"""Processes of a benchmark: started, read line by line, and their processor time and memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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


def start_endpoint(
    stack: ExitStack,
    contender: str,
    role: str,
    address: str,
    *,
    calls: bool,
    players: int = 1,
    blob_bytes: int = 0,
    settings: dict[str, Any] | None = None,
) -> subprocess.Popen[str]:
    """Starts the server or the players of a contender, and waits until they are ready."""
    spec = {
        "role": role,
        "calls": calls,
        "address": address,
        "players": players,
        "blob_bytes": blob_bytes,
        "settings": settings or {},
    }
    process = start(stack, "endpoint.py", contender, json.dumps(spec))
    line_of(process, "^ready")
    return process


def measure_calls(
    caller: subprocess.Popen[str],
    processes: dict[str, subprocess.Popen[str]],
    in_flight: int,
    seconds: float,
) -> dict[str, Any]:
    """Has an endpoint call for so long; gives its figures, and the processor time that each process took for
    a call."""
    send_line(caller, json.dumps({"in_flight": in_flight, "seconds": seconds}))
    line_of(caller, "^START")
    before = {name: cpu_s(process) for name, process in processes.items()}
    send_line(caller)
    figures: dict[str, Any] = json.loads(line_of(caller, r"^\{.*\}$")[0])
    for name, process in processes.items():
        figures[f"cpu_{name}_us"] = 1e6 * (cpu_s(process) - before[name]) / figures["calls"]
    return figures


def line_of(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if match := re.search(pattern, line):
            return match
    sys.exit(f"a process ended without {pattern!r}: {''.join(seen)}")


def send_line(process: subprocess.Popen[str], line: str = "") -> None:
    """Writes a line to a process; an empty one tells it to go on."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
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
