"""Measure what many idle players cost a realm, and how long they need to come back when a node is killed.

    python bench/realm_crowd.py [--players 30000] [--nodes 3] [--seconds 20] [--nice 10] [--json FILE]

The players are `ringback.aio.Player` with the addresses of all nodes and their default heartbeats, a few
thousand in each process. One server is at the first node. First all players join. Then they are idle. Then
the last node is killed, and its players go on at the others. Everything runs on one machine, so the joins
share its cores with the players themselves. These have a lower priority: elsewhere they have machines of
their own. With `--nice 0` they crowd out the brokers. Processor time is that of each process, as the kernel
counts it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from statistics import mean
from subprocess import Popen
from typing import Any

from options import OneLineParser, seconds, whole_number
from processes import memory_mib, start, start_endpoint
from realm_processes import Node, make_realm, start_nats, start_node

from ringback_cli.load_processes import cpu_s, line_of, send_line

PLAYERS_A_PROCESS = 2500
"""Each player takes four descriptors in its process. Many systems allow 20,000 for a process."""

JOINING_AT_ONCE = 120
"""In all processes together."""

CONNECT_S = 300.0
SHARES = (0.5, 0.99, 1.0)


async def crowd(addresses: list[str], count: int, at_once: int) -> None:
    """Run the players of one process, as the lines on standard input say."""
    from ringback.aio import Player

    logging.getLogger("ringback").setLevel(logging.CRITICAL)  # nobody reads that now

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    players = [Player(addresses, f"{os.getpid()}-{n}", connect_timeout=CONNECT_S) for n in range(count)]
    nodes: dict[int, str] = {}
    lost: Counter[str] = Counter()
    back: dict[int, float] = {}
    came_back = asyncio.Event()

    def watch(number: int, player: Any) -> None:
        @player.on_disconnected
        def disconnected(reason: str) -> None:
            lost[reason] += 1
            back.pop(number, None)

        @player.on_connected
        def connected(address: str) -> None:
            nodes[number], back[number] = address, time.monotonic()
            came_back.set()

    for number, player in enumerate(players):
        watch(number, player)
    await _say("READY")
    waiting = iter(players)

    async def join() -> None:
        for player in waiting:
            await player.start()

    await asyncio.gather(*(join() for _ in range(at_once)))
    killed = await _say("JOINED")
    print(json.dumps({"lost": lost}), flush=True)  # while they were idle
    moving = {number for number, node in nodes.items() if node == killed}
    back.clear()
    print("WATCHING", flush=True)
    while not moving <= back.keys():
        came_back.clear()
        await came_back.wait()
    await _say(json.dumps({"back": [back[number] for number in moving]}))
    os._exit(0)  # at once: the others need not see all of them leave


async def _say(line: str) -> str:
    """Print a line, and return the next one on standard input."""
    print(line, flush=True)
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


async def _records(address: str) -> int:
    import nats

    client = await nats.connect(address)
    try:
        answer = await client.request("$JS.API.STREAM.INFO.KV_ringback-main", b"", timeout=10)
    finally:
        await client.close()
    return int(json.loads(answer.data)["state"]["messages"])


def records(address: str) -> int:
    """Return how many records NATS has."""
    return asyncio.run(_records(address))


class Costs:
    """The processor time of brokers, NATS and the server since the last call of `take`."""

    def __init__(self, processes: dict[str, Popen[str]]) -> None:
        self.processes = processes
        self.take()

    def take(self) -> tuple[dict[str, float], float]:
        """Return the seconds of each process, and the time since the last call."""
        before = getattr(self, "_before", {})
        self._before = {name: cpu_s(process) for name, process in self.processes.items()}
        since, self._since = getattr(self, "_since", time.monotonic()), time.monotonic()
        return {name: spent - before.get(name, 0.0) for name, spent in self._before.items()}, (
            self._since - since
        )


def measure(stack: ExitStack, count: int, nodes: int, seconds: float, nice: int) -> dict[str, Any]:
    """Return the figures of one run.

    Args:
        nice: how much lower the priority of the players is.
    """
    nats, address = start_nats(stack)
    make_realm(address)
    names = [f"n{number}" for number in range(1, nodes + 1)]
    realm: dict[str, Node] = {
        name: start_node(stack, address, name, "--ip-handshakes", "1e6") for name in names
    }
    server = start_endpoint(stack, "ringback_aio", "server", realm[names[0]].backend, calls=False)
    processes = {"nats": nats, **{name: node.process for name, node in realm.items()}, "server": server}
    empty = {name: memory_mib(process) for name, process in processes.items()}
    addresses = json.dumps([node.players for node in realm.values()])
    crowds = []
    starts = range(0, count, PLAYERS_A_PROCESS)
    at_once = str(max(1, JOINING_AT_ONCE // len(starts)))
    for first in starts:
        some = str(min(PLAYERS_A_PROCESS, count - first))
        crowds.append(start(stack, __file__, "--nice", str(nice), "--crowd", addresses, some, at_once))
    for process in crowds:
        line_of(process, "READY")
    before = records(address)
    costs = Costs(processes)
    for process in crowds:
        send_line(process)
    joining_at = time.monotonic()
    for number, process in enumerate(crowds, 1):
        line_of(process, "JOINED")
        print(f"{number} of {len(crowds)} joined: {time.monotonic() - joining_at:.0f} s", flush=True)
    spent, joining_s = costs.take()
    at_nodes = (records(address) - before) / nodes
    found: dict[str, Any] = {
        "players": count,
        "nodes": nodes,
        "joins_per_s": count / joining_s,
        "join_us": {name: 1e6 * spent[name] / count for name in ("nats", "server")},
        "join_us_node": 1e6 * sum(spent[name] for name in names) / count,
        "records": records(address) - before,
        "empty_mib": {name: empty[name] for name in ("nats", names[0], "server")},
    }
    print(f"{count} joined in {joining_s:.0f} s", flush=True)
    costs.take()
    time.sleep(seconds)
    spent, idle_s = costs.take()
    found["idle_percent"] = {name: 100 * spent[name] / idle_s for name in processes}
    found["mib"] = {name: memory_mib(process) for name, process in processes.items()}
    grown = {name: found["mib"][name] - empty[name] for name in processes}
    found["kib_a_player"] = {
        "node": mean(1024 * grown[name] / at_nodes for name in names),
        "nats": 1024 * grown["nats"] / count,
        "server": 1024 * grown["server"] / count,
    }
    lost: Counter[str] = Counter()
    for process in crowds:
        send_line(process, realm[names[-1]].players)
        lost.update(json.loads(line_of(process, r"^\{.*\}$")[0])["lost"])
        line_of(process, "WATCHING")
    found["lost_before"] = dict(lost)
    costs = Costs({name: process for name, process in processes.items() if name != names[-1]})
    killed_at = time.monotonic()
    realm[names[-1]].process.kill()
    back: list[float] = []
    for process in crowds:
        told = json.loads(line_of(process, r"^\{.*\}$")[0])
        back += [at - killed_at for at in told["back"]]
    spent, _ = costs.take()
    back.sort()
    found["moved"] = len(back)
    found["back_s"] = {str(share): back[int(share * (len(back) - 1))] for share in SHARES} if back else {}
    found["rejoin_us_node"] = 1e6 * sum(spent[name] for name in names[:-1]) / max(1, len(back))
    found["records_after"] = records(address) - before
    found["mib_after"] = {name: memory_mib(processes[name]) for name in names[:-1]}
    for process in crowds:
        send_line(process)
    return found


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--players", type=whole_number, default=30_000)
    parser.add_argument("--nodes", type=whole_number, default=3)
    parser.add_argument("--seconds", type=seconds, default=20.0, help="seconds to watch the idle realm")
    parser.add_argument("--nice", type=int, default=10, help="how much lower the priority of players is")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--crowd", nargs=3, metavar=("ADDRESSES", "COUNT", "AT_ONCE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and so stop the processes
    if options.crowd:
        os.nice(options.nice)
        asyncio.run(crowd(json.loads(options.crowd[0]), *map(int, options.crowd[1:])))
        return
    print(f"{os.cpu_count()} cores; load {os.getloadavg()[0]:.1f} when this began", flush=True)
    with ExitStack() as stack:
        found = measure(stack, options.players, options.nodes, options.seconds, options.nice)
    text = json.dumps(found, indent=2, default=float, ensure_ascii=False)
    print(text)
    if options.json:
        options.json.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
