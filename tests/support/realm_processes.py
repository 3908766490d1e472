"""A realm of real processes: NATS servers, brokers as its nodes, and endpoints at any of them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from support.harness import BrokerProcess, Process, eventually
from support.nats_servers import (
    NatsCluster,
    NatsServer,
    credentials_file,
    free_ports,
    make_realm,
    settings_with_tls,
)

from ringback import CallbackError, Operator, Player, Server

LEASE_S = 12.0
"""The shortest that is allowed."""

LONG_LEASE_S = 120.0
"""Longer than any test waits."""

SERVER_PROGRAM = """
import sys
from ringback import Server

server = Server(sys.argv[1], standby=len(sys.argv) > 3, connect_timeout=60)

@server.on_acting
def acting(acts):
    sys.stdout.write("acting\\n" if acts else "not acting\\n")

server.register_server_callback("who", lambda source, payload: sys.argv[2])
server.register_server_callback("players", lambda source, payload: sorted(map(str, server.players)))
with server:
    sys.stdout.write("started\\n")
    sys.stdin.read()
"""


class RealmOfProcesses:
    """NATS, and brokers that are nodes of one realm.

    Args:
        nodes: their names.
        cluster: whether there are three NATS servers, not one.
        lease_s: how long others wait before they take what a node owns that is gone.
        one_name: whether the nodes listen at 127.0.0.1, 127.0.0.2 and so on, with the same two ports. So
            endpoints can dial them by one name, if a test gives that name these IPs.
        environment: more variables of the nodes.
        options: more options of all nodes.
        certificates: a folder with some, see `make_certificates`. NATS and the nodes use TLS then, and NATS
            asks for a certificate of each.
        shows_logs: whether to print the end of each node's log at the end.

    Attributes:
        nats: the NATS server, or the first of three.
        brokers: the nodes, by name.
    """

    def __init__(
        self,
        nodes: str = "abc",
        *,
        cluster: bool = False,
        lease_s: float = LONG_LEASE_S,
        one_name: bool = False,
        environment: dict[str, str] | None = None,
        options: tuple[str, ...] = (),
        certificates: Path | None = None,
        shows_logs: bool = True,
    ) -> None:
        self._shows_logs = shows_logs
        self._stack = ExitStack()
        self._names = nodes
        self._cluster = cluster
        self._lease_s = lease_s
        self._environment = environment
        self._certificates = certificates
        self._more_options = options
        self.ports = free_ports(2) if one_name else None
        self.brokers: dict[str, BrokerProcess] = {}

    @property
    def players(self) -> list[str]:
        """The addresses of all nodes for players."""
        return [broker.players for broker in self.brokers.values()]

    @property
    def backends(self) -> list[str]:
        """The addresses of all nodes for the server and operators."""
        return [broker.backend for broker in self.brokers.values()]

    def node_of(self, endpoint: Any) -> str | None:
        """Return the name of the node that an endpoint has a link to; None if it has none."""
        nodes = {address: name for name, broker in self.brokers.items() for address in _both(broker)}
        return nodes.get(endpoint.link_address)

    def __enter__(self) -> Self:
        with self._stack:
            folder = Path(tempfile.mkdtemp(prefix="realm"))
            self._stack.callback(shutil.rmtree, folder)
            if self._cluster:
                self.nats_cluster = self._stack.enter_context(NatsCluster())
                self.servers, self.leader = self.nats_cluster.servers, self.nats_cluster.leader
            else:
                self.servers = [self._stack.enter_context(NatsServer())]
            self.nats = self.servers[0]
            make_realm(self.nats.address, replicas=len(self.servers))
            self.options = (
                *("--cluster", ",".join(server.address for server in self.servers)),
                *("--nats-credentials", credentials_file(folder), "--node-lease", str(self._lease_s)),
                *self._more_options,
            )
            if self._certificates is not None:
                self._encrypt(self._certificates)
            for name in self._names:
                self.start(name)
            self._stack = self._stack.pop_all()
        return self

    def _encrypt(self, folder: Path) -> None:
        self.nats.stop()
        self.nats.settings = settings_with_tls(folder, ", verify: true")
        self.nats.start()
        files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
        options = [part for name, file in files.items() for part in (f"--nats-{name}", str(folder / file))]
        self.options = (*self.options, "--cluster", self.nats.address.replace("nats", "tls"), *options)

    def __exit__(self, *_: object) -> None:
        if self._shows_logs:  # pytest shows this if the test has failed
            for name, broker in self.brokers.items():
                broker.process.kill()
                print(f"-- the log of node {name}", *broker.process.output()[-40:], sep="\n")
        self._stack.close()

    def start(self, name: str, *more: str) -> BrokerProcess:
        """Start a node, and wait until peers may join there.

        Args:
            more: options on top of those that all nodes have.
        """
        options = (*self.options, "--node", name, *more)
        addresses: tuple[str, ...] = ()
        if self.ports is not None:
            ip = f"127.0.0.{len(self.brokers) + 1}"
            addresses = tuple(f"tcp://{ip}:{port}" for port in self.ports)
        broker = BrokerProcess(*addresses, options=options, environment=self._environment)
        self.brokers[name] = broker
        self._stack.callback(broker.process.kill)
        broker.process.wait_for("in contact with the realm")
        if "--access" not in options:  # else it would need a key
            Operator(broker.backend, connect_timeout=60).start().close()  # it tries until the node has joined
        return broker

    def restart(self, name: str) -> None:
        """Start a node again that was killed, at the same addresses."""
        broker = self.brokers[name]
        broker.start()
        self._stack.callback(broker.process.kill)

    def kill(self, name: str) -> None:
        self.brokers[name].process.kill()

    def stop(self, name: str) -> None:
        """Stop a node (SIGSTOP), and wait until it is: its connections stay, and it does nothing."""
        process = self.brokers[name].process
        process.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.popen.pid, os.WSTOPPED)

    def go_on(self, name: str) -> None:
        """Let a stopped node go on."""
        self.brokers[name].process.signal(signal.SIGCONT)

    # -- endpoints. Each begins when this returns, and ends with the realm

    def server(self, node: str | list[str], **options: Any) -> Server:
        """Start a server with three callbacks. `never` does not reply.

        Args:
            node: its name, or an address, or several.
        """
        address = self.brokers[node].backend if isinstance(node, str) and node in self.brokers else node
        server = Server(address, connect_timeout=60, **options)
        server.register_server_callback("echo", lambda source, payload: [source, payload])
        server.register_server_callback("node", lambda source, payload: node)
        server.register_server_callback("never", lambda source, payload, cb: None)
        return self._begin(server)

    def player(self, node: str | list[str], *player_id: Any, **options: Any) -> Player:
        """Start a player with three callbacks.

        Args:
            node: its name, or an address, or several.
        """
        address = self.brokers[node].players if isinstance(node, str) and node in self.brokers else node
        player = Player(address, *player_id, connect_timeout=60, **options)
        player.register_client_callback("echo", lambda payload: payload)
        player.register_client_callback("node", lambda payload: node)
        player.register_client_callback("never", lambda payload, cb: None)
        return self._begin(player)

    def operator(self, node: str, **options: Any) -> Operator:
        return self._begin(Operator(self.brokers[node].backend, connect_timeout=60, **options))

    def server_process(self, node: str, name: str, *, standby: bool = False) -> Process:
        """Start a server in a process of its own. Its callback `who` replies with its name."""
        import subprocess

        more = ("standby",) if standby else ()
        arguments = ("-c", SERVER_PROGRAM, self.brokers[node].backend, name, *more)
        process = Process(*arguments, stdin=subprocess.PIPE)
        self._stack.callback(process.kill)
        process.wait_for("^started$")
        return process

    def _begin(self, endpoint: Any) -> Any:
        endpoint.start()
        self._stack.callback(endpoint.close)
        return endpoint


def _both(broker: BrokerProcess) -> tuple[str, str]:
    return broker.players, broker.backend


def outcome(make: Callable[[], Any], timeout: float = 30.0) -> Any:
    """Make a call, and return its result, or the name of its error code."""
    try:
        return make().result(timeout=timeout)
    except CallbackError as error:
        return error.code_name


def until_works(make: Callable[[], Any], wanted: Any) -> float:
    """Make calls one after the other until one gets the wanted result. Return how long that took."""
    began_at = time.monotonic()
    found: list[Any] = []

    def works() -> bool:
        found.append(outcome(make))
        return bool(found[-1] == wanted)

    try:
        eventually(works, f"the result {wanted!r}")
    except AssertionError as error:
        raise AssertionError(f"{error}; the last ones of {len(found)}: {found[-5:]}") from None
    return time.monotonic() - began_at
