"""What ends a node, each in one line, and TLS and credentials to NATS. All with real servers."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]
import pytest
from support.harness import PATIENCE_S
from support.nats_servers import (
    ADMIN,
    NODE,
    PERMISSIONS,
    REALM,
    NatsServer,
    administer,
    credentials_file,
    debian_server,
    delete_bucket,
    free_ports,
    make_certificates,
    make_realm,
    rewriting,
    settings_with_tls,
    settle,
)
from support.nodes import Node

from ringback.testing.proxy import NONE, Faults, Proxy
from ringback_broker.cluster.records import Record
from ringback_broker.nats.bucket import config_of
from ringback_broker.nats.client import Client
from ringback_broker.nats.login import Login, load_login
from ringback_broker.nats.making import make
from ringback_broker.nats.names import RealmNames
from ringback_broker.nats.problems import Problem, problem_of
from ringback_broker.settings.schema import InvalidSetting


def failure(addresses: str, login: Login | None = None, realm: str = REALM) -> str:
    """Return the line that ends a node."""
    with Node(addresses, login=login, realm=realm) as node:
        node.wait(lambda: node.failures, "a failure")
        assert not node.in_contact
        [line] = node.failures
        assert "\n" not in line
        return line


def test_wrong_credentials(nats: NatsServer) -> None:
    wrong = Login((nats.address,), {"user": "node", "password": "guessed"})
    assert failure(nats.address, wrong) == f"{nats.address}: NATS refuses the credentials of nats_credentials"
    none = Login((nats.address,))
    wanted = f"{nats.address}: NATS asks for credentials: set nats_credentials (--nats-credentials)"
    assert failure(nats.address, none) == wanted


def test_credentials_that_come_too_late(lines: list[str]) -> None:
    """They may be right: the node or NATS was stopped for a moment, or is busy. So the node tries again."""
    settings = PERMISSIONS.replace("authorization {", "authorization {\n  timeout: 0.5", 1)
    with NatsServer(settings) as server, Proxy(server.address.replace("nats", "tcp")) as proxy:
        make_realm(server.address)
        proxy.set_faults(Faults(delay_s=0.7))
        with Node(proxy.address.replace("tcp", "nats")) as node:
            node.wait(lambda: lines or node.failures, "a line")
            assert not node.failures
            assert "NATS did not wait for the credentials: it, this broker or the network is slow" in lines[0]
            proxy.set_faults(NONE)
            node.wait(lambda: node.in_contact, "contact")


def test_no_bucket() -> None:
    with NatsServer() as server:
        wanted = "NATS has no realm 'main': make it with `ringback realm create main`, or correct realm"
        assert failure(server.address) == wanted


def test_a_wrong_name_of_the_realm(nats: NatsServer) -> None:
    line = failure(nats.address, realm="other")
    assert line.startswith('NATS refuses: permissions violation for publish to "ringback.other.n.a.00"; ')
    assert line.endswith("the user needs the permissions of a node of the realm 'other' (docs/scale.md)")
    may_everything = Login((nats.address,), dict(ADMIN))
    assert failure(nats.address, may_everything, "other").startswith("NATS has no realm 'other': make it")


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ('"ringback.main.n.>"', 'publish to "ringback.main.n.a.00"'),
        ('"$JS.API.STREAM.INFO.KV_ringback-main"', 'publish to "$js.api.stream.info.kv_ringback-main"'),
        ('"$JS.API.STREAM.MSG.GET.KV_ringback-main"', 'publish to "$js.api.stream.msg.get.kv_ringback-main"'),
        ('subscribe: ["ringback.main.>"]', 'subscription to "ringback.main.'),
    ],
)
def test_a_permission_that_is_missing(line: str, refused: str) -> None:
    other = 'subscribe: ["ringback.main.x"]' if line.startswith("subscribe") else '"nothing"'
    assert line in PERMISSIONS
    with NatsServer(PERMISSIONS.replace(line, other)) as server:
        make_realm(server.address)
        assert f"NATS refuses: permissions violation for {refused}" in failure(server.address)


def test_what_a_node_may_not_do(nats: NatsServer, node: Node) -> None:
    """With the permissions of docs/scale.md, a node cannot harm the bucket, nor speak as NATS."""
    import asyncio

    from ringback_broker.nats.client import connect

    names = RealmNames(REALM)
    refused: list[str] = []

    async def try_all() -> None:
        login = Login((nats.address,), dict(NODE))
        client = await connect(
            login, nats.address, "tests", names.inbox_of("x"), lambda error: refused.append(str(error))
        )
        for subject in (
            f"$JS.API.STREAM.DELETE.{names.stream}",
            f"$JS.API.STREAM.PURGE.{names.stream}",
            f"$JS.API.STREAM.UPDATE.{names.stream}",
            f"$JS.API.STREAM.MSG.DELETE.{names.stream}",
            "$JS.API.STREAM.CREATE.other",
            f"{names.changes}seat",
            "ringback.other.n.a.00",
            "anything",
        ):
            await client.publish(subject, b"{}")
            await settle(client)
            assert len(refused) == 1 and "permissions violation for publish" in refused.pop(), subject
        for subject in (">", f"{names.records}>", "_INBOX.>", "ringback.>"):
            await client.subscribe(subject)
            await settle(client)
            assert len(refused) == 1 and "permissions violation for subscription" in refused.pop(), subject
        # The header that wipes all records is refused by the bucket itself.
        answer = await client.request(
            f"{names.records}node.a", b"", headers={"Nats-Rollup": "all"}, timeout=5
        )
        assert b"rollup not permitted" in answer.data
        await client.end()

    made = node.ask(node.records.put, "p.x", b"one", 0)
    asyncio.run(try_all())
    assert node.ask(node.records.read, "p.x") == made


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"max_age": 3600.0}, "the age at which records end, in ns is 3600000000000, not 21600000000000"),
        ({"storage": "memory"}, "storage is memory, not file"),
        ({"max_msgs_per_subject": 5}, "history is 5, not 1"),
        ({"allow_direct": True}, "allow_direct is True, not False"),
        ({"republish": None}, "republish is None to None, not $KV.ringback-main.> to ringback.main.w.>"),
    ],
)
def test_a_bucket_that_is_not_as_it_must_be(changes: dict[str, object], difference: str) -> None:
    async def make_it(client: Client) -> None:
        await client.jetstream().add_stream(config_of(RealmNames(REALM), 1).evolve(**changes))

    with NatsServer() as server:
        administer(server.address, make_it)
        line = failure(server.address)
        assert line == f"the bucket ringback-main is not as ringback needs it: {difference}"
        administer(server.address, delete_bucket)


@pytest.mark.parametrize("version", ["2.9.25", "1.4.1", "0.0.0-x", "none"])
def test_a_server_that_is_too_old(nats: NatsServer, version: str) -> None:
    """The server is a new one; it is made to say another version."""
    with rewriting(nats.port, rb'"version":"[^"]*"', f'"version":"{version}"'.encode()) as address:
        assert failure(address) == f"{address}: this is NATS {version}, and ringback needs 2.10 or newer"


def test_an_old_server_of_debian() -> None:
    with debian_server() as server:
        assert "this is NATS 2.9." in failure(server.address)


def test_a_node_waits_for_nats_and_says_why(lines: list[str]) -> None:
    address = f"nats://127.0.0.1:{free_ports(1)[0]}"
    with Node(address) as node:
        node.wait(lambda: any("no contact" in line for line in lines), "the line")
        assert node.failures == []
        [line] = [line for line in lines if "no contact" in line]
        why = f"{address}: Connection refused; trying again until there is"
        assert line == f"no contact with the realm main: {why}"


def test_a_name_that_cannot_be_resolved() -> None:
    address, error = "nats://n1:4222", socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    problem = problem_of(error, address, Login((address,)))
    why = "its name cannot be resolved: Name or service not known"
    assert problem == Problem(f"{address}: {why}", lasts=False)


def test_a_node_waits_if_something_else_is_there(lines: list[str]) -> None:
    def greet(listener: socket.socket) -> socket.socket:
        near, _ = listener.accept()
        near.sendall(b"SSH-2.0-OpenSSH\r\n")
        return near

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        address = f"nats://127.0.0.1:{listener.getsockname()[1]}"
        greeting = pool.submit(greet, listener)
        with Node(address) as node:
            node.wait(lambda: any("no contact" in line for line in lines), "the line")
            greeting.result(PATIENCE_S).close()
            [line] = [line for line in lines if "no contact" in line]
            why = f"{address}: what listens there does not speak as NATS does; trying again until there is"
            assert node.failures == [] and line == f"no contact with the realm main: {why}"


def test_without_jetstream_a_node_waits_and_says_why(lines: list[str]) -> None:
    with NatsServer(jetstream=False) as server, Node(server.address) as node:
        node.wait(lambda: any("nothing in NATS answers" in line for line in lines), "the line")
        assert node.failures == []
        [line] = [line for line in lines if "no contact" in line]
        assert "no leader yet, or JetStream is off; trying again until there is" in line


# -- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@contextmanager
def encrypted(folder: Path, more: str = "") -> Iterator[NatsServer]:
    """Start a NATS server with TLS and a realm."""
    plain = NatsServer()
    with plain:
        make_realm(plain.address)
        plain.kill()
        plain.settings = settings_with_tls(folder, more)
        yield plain.start()


def with_files(server: NatsServer, scheme: str, tmp_path: Path, **files: str) -> Login:
    address = server.address.replace("nats://", f"{scheme}://")
    return load_login((address,), credentials_file(tmp_path), **files)


@pytest.mark.parametrize("scheme", ["tls", "nats"])
def test_tls_with_the_right_authority(certificates: Path, tmp_path: Path, scheme: str) -> None:
    with encrypted(certificates) as server:
        login = with_files(server, scheme, tmp_path, ca=f"{certificates}/ca.pem")
        with Node(server.address, login=login) as node:
            node.wait(lambda: node.in_contact, "contact")
        # A nats:// address of such a server without the authority is encrypted too, and not trusted.
        line = failure(server.address, with_files(server, scheme, tmp_path))
        assert "the server's certificate is not valid here: " in line and "nats_ca names the file" in line
        login = with_files(server, scheme, tmp_path, ca=f"{certificates}/other.pem")
        assert "certificate is not valid here" in failure(server.address, login)


def test_tls_with_a_certificate_of_the_node(certificates: Path, tmp_path: Path) -> None:
    ca, cert, key = (f"{certificates}/{name}" for name in ("ca.pem", "client.pem", "client.key"))
    with encrypted(certificates, ", verify: true") as server:
        with Node(
            server.address, login=with_files(server, "tls", tmp_path, ca=ca, cert=cert, key=key)
        ) as node:
            node.wait(lambda: node.in_contact, "contact")
        line = failure(server.address, with_files(server, "tls", tmp_path, ca=ca))
        assert "the server wants a certificate: set nats_cert and nats_key" in line


def test_secrets_are_not_sent_to_a_server_without_tls(nats: NatsServer, tmp_path: Path) -> None:
    """Somebody between could strip TLS from what the server says first."""
    line = failure(nats.address, with_files(nats, "tls", tmp_path))
    assert "this server has no TLS, which tls://, nats_ca and nats_cert ask for" in line

    def heard(listener: socket.socket) -> bytes:
        near, _ = listener.accept()
        with near:
            near.sendall(
                b'INFO {"server_id":"x","version":"2.12.0","max_payload":1048576,"headers":true}\r\n'
            )
            near.settimeout(PATIENCE_S)
            return b"".join(iter(lambda: near.recv(4096), b""))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        address = f"tls://127.0.0.1:{listener.getsockname()[1]}"
        login = load_login((address,), credentials_file(tmp_path))
        hearing = pool.submit(heard, listener)
        with Node(address, login=login) as node:
            node.wait(lambda: node.failures, "a failure")
        assert hearing.result(PATIENCE_S) == b""


# -- credentials


def test_a_seed_of_an_nkey(tmp_path: Path) -> None:
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    settings = PERMISSIONS.replace('user: "node", password: "node-secret"', f"nkey: {public}")
    path = tmp_path / "node.nk"
    path.write_bytes(seed + b"\n")
    path.chmod(0o600)
    with NatsServer(settings) as server:
        make_realm(server.address)
        with Node(server.address, login=load_login((server.address,), str(path))) as node:
            node.wait(lambda: node.in_contact, "contact")


def signed(signer: Any, issuer: str, name: str, subject: str, claims: dict[str, Any]) -> str:
    """Return a JWT of NATS, signed with an nkey."""
    parts = (
        {"typ": "JWT", "alg": "ed25519-nkey"},
        {"jti": "x", "iat": 1, "iss": issuer, "name": name, "sub": subject, "nats": {"version": 2, **claims}},
    )
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return (text + b"." + base64.urlsafe_b64encode(signer.sign(text)).rstrip(b"=")).decode()


def test_a_creds_file(tmp_path: Path) -> None:
    """The JWT of a user, signed by its account, whose JWT is signed by the operator."""
    seeds = {
        kind: nkeys.encode_seed(os.urandom(32), prefix)
        for kind, prefix in (
            ("operator", nkeys.PREFIX_BYTE_OPERATOR),
            ("system", nkeys.PREFIX_BYTE_ACCOUNT),
            ("account", nkeys.PREFIX_BYTE_ACCOUNT),
            ("user", nkeys.PREFIX_BYTE_USER),
        )
    }
    keys = {kind: nkeys.from_seed(bytearray(seed)) for kind, seed in seeds.items()}
    public = {kind: key.public_key.decode() for kind, key in keys.items()}
    none = {"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1}
    stores = {**none, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    operator = signed(
        keys["operator"], public["operator"], "o", public["operator"],
        {"type": "operator", "system_account": public["system"]},
    )  # fmt: skip
    accounts = {
        kind: signed(
            keys["operator"], public["operator"], kind, public[kind], {"type": "account", "limits": limits}
        )
        for kind, limits in (("system", none), ("account", stores))
    }
    user = signed(
        keys["account"], public["account"], "node", public["user"],
        {"type": "user", "subs": -1, "data": -1, "payload": -1},
    )  # fmt: skip
    preload = "\n".join(f"{public[kind]}: {token}" for kind, token in accounts.items())
    settings = f"operator: {operator}\nresolver: MEMORY\nresolver_preload: {{\n{preload}\n}}"
    path = tmp_path / "node.creds"
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seeds['user'].decode()}\n------END USER NKEY SEED------\n"
    )
    path.chmod(0o600)
    with NatsServer(settings) as server:
        login = load_login((server.address,), str(path))
        assert failure(server.address, login).startswith("NATS has no realm 'main'")
        assert "asks for credentials" in failure(server.address, Login((server.address,)))
        assert make(login, RealmNames(REALM), 1) is True
        with Node(server.address, login=login) as node:
            node.wait(lambda: node.in_contact, "contact")
            assert isinstance(node.ask(node.records.put, "p.x", b"one", 0), Record)


def test_a_token(tmp_path: Path) -> None:
    with NatsServer('authorization { token: "a-token" }') as server:
        login = load_login((server.address,), credentials_file(tmp_path, {"token": "a-token"}))
        assert failure(server.address, login).startswith("NATS has no realm 'main'")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *[(text, "it has other fields") for text in ("", "user = 'a'", "user = 'a'\npassword = 5", "[user]")],
        ("token = 'a'\nuser = 'b'", "it has other fields, or values that are no str"),
        ("SUxyz", "the seed is wrong"),
        ("-----BEGIN NATS USER JWT-----", "it has no seed"),
        *[(text, "it has none of the known forms") for text in ("\xff", "x")],
        ("#" * (64 * 1024 + 1), "it has more than 65536 bytes"),
    ],
)
def test_files_that_have_no_credentials(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    allowed = r"; a \.creds file, a file with an nkey seed .* is allowed$"
    with pytest.raises(InvalidSetting, match=rf"nats_credentials: .*file: {reason}.*{allowed}"):
        load_login(("nats://h:1",), str(path))


def test_files_that_cannot_be_used(tmp_path: Path, certificates: Path) -> None:
    path = credentials_file(tmp_path)
    Path(path).chmod(0o640)
    with pytest.raises(InvalidSetting, match=r"other users may read this file: run chmod 600 "):
        load_login(("nats://h:1",), path)
    with pytest.raises(InvalidSetting, match=r"nats_credentials: .*No such file"):
        load_login(("nats://h:1",), f"{tmp_path}/no")
    with pytest.raises(InvalidSetting, match=r"nats_ca: .*No such file"):
        load_login(("nats://h:1",), ca=f"{tmp_path}/no")
    with pytest.raises(InvalidSetting, match=r"nats_ca: .*certificates in PEM are allowed"):
        load_login(("nats://h:1",), ca=path)
    with pytest.raises(InvalidSetting, match=r"nats_cert: .*No such file"):
        load_login(("nats://h:1",), cert=f"{tmp_path}/no", key=f"{tmp_path}/no")
    with pytest.raises(InvalidSetting, match=r"nats_cert: .*a certificate and its key without a password"):
        load_login(("nats://h:1",), cert=f"{certificates}/client.pem", key=f"{certificates}/other.key")


def test_nothing_secret_is_in_a_repr(tmp_path: Path) -> None:
    login = load_login(("nats://h:1",), credentials_file(tmp_path))
    assert login.options == NODE and "secret" not in repr(login)
