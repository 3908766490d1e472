"""Start the processes of a benchmark, and measure their memory."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ringback_cli.load_processes import line_of

HERE = Path(__file__).parent
BROKER = ("-m", "ringback_cli", "broker", "--players=tcp://127.0.0.1:0", "--backend=tcp://127.0.0.1:0")


def start(
    stack: ExitStack, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start Python with these arguments. The process is killed when the stack is closed."""
    return start_program(stack, sys.executable, *arguments, environment=environment)


def start_program(
    stack: ExitStack, *command: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a program. The process is killed when the stack is closed."""
    process = subprocess.Popen(
        command,
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


def program(name: str) -> str | None:
    """Return where a program is. Look in /usr/sbin too: daemons are there, but it is not on every PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_endpoint(
    stack: ExitStack,
    contender: str,
    role: str,
    address: str,
    *,
    calls: bool,
    workload: str = "closed_loop",
    players: int = 1,
    first: int = 0,
    blob_bytes: int = 0,
    settings: dict[str, Any] | None = None,
) -> subprocess.Popen[str]:
    """Start the server or the players of a contender, and wait until they are ready.

    Args:
        role: "server" or "players".
        calls: whether this side makes the calls. The other side handles them.
        workload: how this side makes the calls: a name in `WORKLOADS` of endpoint.py.
        players: how many players there are. Of several processes with players: how many are in this one.
        first: the number of the first player in this process.
        blob_bytes: size of payload and result. 0 stands for small dicts.
        settings: the contender's own, for this role.
    """
    spec = {
        "role": role,
        "calls": calls,
        "workload": workload,
        "address": address,
        "players": players,
        "first": first,
        "blob_bytes": blob_bytes,
        "settings": settings or {},
    }
    process = start(stack, "endpoint.py", contender, json.dumps(spec))
    line_of(process, "^ready")
    return process


def use_uvloop(wanted: bool) -> None:
    """Have endpoints that are started from now on use uvloop, or asyncio's own loop."""
    os.environ["RINGBACK_BENCH_UVLOOP"] = "1" if wanted else ""


def use_chosen_loop() -> None:
    """Use the event loop in this process that `use_uvloop` has chosen in its parent."""
    if os.environ.get("RINGBACK_BENCH_UVLOOP"):
        import uvloop

        uvloop.install()


def allow_many_connections() -> None:
    """Let this process, and those that it starts, have as many descriptors as the system allows it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def memory_mib(process: subprocess.Popen[str]) -> float:
    """Return the resident memory of a process, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


def make_keys(folder: Path, *ids: int | str) -> tuple[str, ...]:
    """Make key pairs for a broker, a server and players, and return the broker's options.

    The key files server.key and player.key in the folder are for the endpoints. The player's key may join
    with each of these IDs.
    """
    from ringback.credentials import load_key_pair, new_key_pair, write_key_pair

    broker = write_key_pair(new_key_pair("broker", "broker"), folder)
    public = load_key_pair(broker).public
    access = ""
    for role, allowed in (("server", ()), ("player", ids)):
        pair = new_key_pair(role, role, allowed, public)
        write_key_pair(pair, folder)
        access += f'[[key]]\nname = "{role}"\nrole = "{role}"\npublic = "{pair.public}"\n'
        access += f"ids = {json.dumps(allowed)}\n" if allowed else ""
    (folder / "access.toml").write_text(access)
    return "--key-file", str(broker), "--access", str(folder / "access.toml")


def start_broker(stack: ExitStack, *options: str) -> tuple[subprocess.Popen[str], str, str]:
    """Start a broker, and return it with its addresses for players and for the backend."""
    broker = start(stack, *BROKER, *options)
    players, backend = line_of(broker, r"ready players=(\S+) backend=(\S+)").groups()
    return broker, players, backend
