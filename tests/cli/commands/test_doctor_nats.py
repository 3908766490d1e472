"""What `ringback doctor` says about real NATS servers."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.harness import eventually
from support.nats_servers import (
    ADMIN,
    NODE,
    PERMISSIONS,
    REALM,
    NatsCluster,
    NatsServer,
    administer,
    credentials_file,
    debian_server,
    free_ports,
    make_certificates,
    make_realm,
    rewriting,
    stream_info,
)

from ringback_broker.nats.bucket import config_of
from ringback_broker.nats.client import Client
from ringback_broker.nats.names import RealmNames
from ringback_cli.app import run
from ringback_cli.exits import Exit

Row = tuple[str, str, str]
Look = Callable[..., dict[str, Row]]
OTHERS = {"python", "libzmq", "ringback", "clock", "settings", "descriptors", "keys", "broker"}
TO_ADMINISTRATORS = "this needs the credentials of an administrator"
DOCUMENTED = "docs/scale.md has the permissions of a node"


@pytest.fixture
def look(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Look:
    """Return a function that runs doctor as a node, and returns what it finds of NATS: verdict, what is
    there, and advice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RINGBACK_BACKEND", "tcp://127.0.0.1:0")  # no broker is asked
    node = credentials_file(tmp_path)

    def look_at(addresses: str | None, *options: str, credentials: str | None = node) -> dict[str, Row]:
        named = () if addresses is None else ("--cluster", addresses, "--node", "a")
        login = () if credentials is None else ("--nats-credentials", credentials)
        code = run(["doctor", "--json", *named, *login, *options])
        shown = capsys.readouterr()
        assert shown.err == ""
        rows = json.loads(shown.out)
        found = {
            row["what"]: (row["verdict"], row["found"], row["advice"])
            for row in rows
            if row["what"] not in OTHERS and not row["what"].startswith("extra ")
        }
        some_failed = any(verdict == "failed" for verdict, _, _ in found.values())
        assert code == (Exit.FAILED if some_failed else Exit.OK)
        return found

    return look_at


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    """Start a NATS server with a realm for all tests of this module. No test may stop it."""
    with NatsServer() as server:
        make_realm(server.address)
        yield server


def admin_in(folder: Path) -> str:
    (folder / "admin").mkdir()
    return credentials_file(folder / "admin", ADMIN)


def nobody() -> str:
    return f"nats://127.0.0.1:{free_ports(1)[0]}"


def well(server: NatsServer, how: str = "without TLS") -> str:
    """Return a pattern of what doctor says about a server that is as it must be."""
    return rf"NATS \d+\.\d+\.\d+, {server.name}, answers in \d+\.\d ms, {how}"


def make_three(look: Look, cluster: NatsCluster) -> None:
    """Make a realm on three servers, and wait until all have its records."""
    make_realm(cluster.servers[0].address, replicas=3)
    eventually(lambda: look(cluster.addresses)["replicas"][0] == "ok", "all have the records")


def test_three_servers_as_they_must_be(look: Look) -> None:
    with NatsCluster() as cluster:
        make_three(look, cluster)
        before = administer(cluster.servers[0].address, stream_info)["state"]
        found = look(cluster.addresses)
        assert administer(cluster.servers[0].address, stream_info)["state"] == before
        for server in cluster.servers:
            verdict, what, advice = found.pop(server.address)
            assert (verdict, advice) == ("ok", "") and re.fullmatch(well(server), what)
        assert found == {
            "jetstream": ("ok", "on at 3 of 3 addresses", ""),
            "realm main": ("ok", "its bucket is as it must be", ""),
            "replicas": ("ok", f"3, led by {cluster.leader().name}; all have the latest records", ""),
            "max_payload": ("ok", "2097152 bytes", ""),
            "permissions": ("ok", "what a node needs, and no more", ""),
        }


@pytest.mark.faults
def test_three_servers_of_which_one_is_killed_and_then_another_one(look: Look) -> None:
    """NATS notices after ten seconds that a server is gone, and after twenty that it must not lead."""
    with NatsCluster() as cluster:
        make_three(look, cluster)
        leader = cluster.leader()
        first, second = [server for server in cluster.servers if server is not leader]
        refused = ("warning", "Connection refused", "brokers use the other addresses")

        def one_is_gone() -> bool:
            found = look(cluster.addresses)
            assert found[first.address] == refused
            behind = f"3, led by {leader.name}; gone or behind: {first.name}"
            return found["replicas"] == ("warning", behind, "start these servers, and look at their logs")

        def nobody_leads() -> bool:
            found = look(cluster.addresses)
            assert found[second.address] == refused
            verdict, why, _ = found.get("replicas", ("", "", ""))
            return verdict == "failed" and why.startswith(
                "3, and no server leads them, so nothing can be written"
            )

        first.kill()
        eventually(one_is_gone, "NATS notices that one server is gone")
        second.kill()
        eventually(nobody_leads, "NATS notices that two servers are gone")


def test_one_server(look: Look, nats: NatsServer) -> None:
    assert look(nats.address)["replicas"] == (
        "warning",
        "1: the realm stands still while a server with its records is gone",
        "run three servers of NATS, and set the replicas of the stream KV_ringback-main to 3",
    )


def test_the_environment_and_the_settings_file_name_nats_too(
    look: Look, nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look(None, credentials=None) == {}
    (tmp_path / "ringback.toml").write_text(
        f'cluster = "{nats.address}"\nnats_credentials = "node.toml"\nrealm = "main"\n'
    )
    assert look(None, credentials=None)["permissions"][0] == "ok"
    other = nobody()
    monkeypatch.setenv("RINGBACK_CLUSTER", other)
    assert list(look(None, credentials=None)) == [other]


def test_addresses_where_nothing_is(look: Look, nats: NatsServer) -> None:
    first, second = nobody(), nobody()
    advice = "start NATS, or correct cluster; a broker waits until NATS is there"
    nothing = ("failed", "Connection refused", advice)
    assert look(f"{first},{second}") == {first: nothing, second: nothing}
    found = look(f"{first},{nats.address}")
    assert found[first] == ("warning", "Connection refused", "brokers use the other addresses")
    assert found[nats.address][0] == "ok" and found["jetstream"][1] == "on at 1 of 1 addresses"


def test_a_server_that_is_stopped(look: Look) -> None:
    with NatsServer() as server:
        server.pause()
        verdict, what, _ = look(server.address, "--timeout", "1")[server.address]
        assert (verdict, what) == ("failed", "no answer in time")


def test_credentials(look: Look, nats: NatsServer, tmp_path: Path) -> None:
    ends = "a broker stops then: docs/scale.md"
    why = "NATS asks for credentials: set nats_credentials (--nats-credentials)"
    assert look(nats.address, credentials=None) == {nats.address: ("failed", why, ends)}
    (tmp_path / "wrong").mkdir()
    wrong = credentials_file(tmp_path / "wrong", {**NODE, "password": "guessed"})
    why = "NATS refuses the credentials of nats_credentials"
    assert look(nats.address, credentials=wrong) == {nats.address: ("failed", why, ends)}
    Path(wrong).chmod(0o644)
    verdict, why, advice = look(nats.address, credentials=wrong)["nats_credentials"]
    assert (verdict, advice) == ("failed", "docs/scale.md") and f"run chmod 600 {wrong}" in why


def test_without_nats_py(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats", None)
    verdict, why, _ = look("nats://127.0.0.1:4222")["cluster"]
    assert verdict == "failed" and why.startswith("nats is not installed: ") and "[cluster]" in why


def test_no_realm(look: Look) -> None:
    with NatsServer() as server:
        why = "NATS has no realm 'main': make it with `ringback realm create main`, or correct realm"
        found = look(server.address)
        assert found["realm main"] == ("failed", why, TO_ADMINISTRATORS)
        assert found["permissions"][0] == "ok" and "replicas" not in found


def test_a_wrong_realm(look: Look, nats: NatsServer, tmp_path: Path) -> None:
    found = look(nats.address, "--realm", "other")
    assert found["realm other"] == ("failed", "this user may not ask for it", DOCUMENTED)
    needed = (
        "subscribe ringback.other.>, publish ringback.other.n.>, publish $KV.ringback-other.>,"
        " publish $JS.API.STREAM.INFO.KV_ringback-other, publish $JS.API.STREAM.MSG.GET.KV_ringback-other"
    )
    may_not = f"at {nats.address}, this user may not {needed}"
    assert found["permissions"] == ("failed", may_not, DOCUMENTED)
    found = look(nats.address, "--realm", "other", credentials=admin_in(tmp_path))
    why = "NATS has no realm 'other': make it with `ringback realm create other`, or correct realm"
    assert found["realm other"] == ("failed", why, TO_ADMINISTRATORS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('"ringback.main.n.>"', "publish ringback.main.n.>"),
        ('"$KV.ringback-main.>"', "publish $KV.ringback-main.>"),
        ('"$JS.API.STREAM.INFO.KV_ringback-main"', "publish $JS.API.STREAM.INFO.KV_ringback-main"),
        ('"$JS.API.STREAM.MSG.GET.KV_ringback-main"', "publish $JS.API.STREAM.MSG.GET.KV_ringback-main"),
        ('subscribe: ["ringback.main.>"]', "subscribe ringback.main.>"),
    ],
)
def test_a_permission_that_is_missing(look: Look, line: str, words: str) -> None:
    other = 'subscribe: ["ringback.main.x"]' if line.startswith("subscribe") else '"nothing"'
    assert line in PERMISSIONS
    with NatsServer(PERMISSIONS.replace(line, other)) as server:
        make_realm(server.address)
        may_not = f"at {server.address}, this user may not {words}"
        found = look(server.address)
        assert found["permissions"] == ("failed", may_not, DOCUMENTED)
        assert found["realm main"][0] == ("failed" if "subscribe" in words or "INFO" in words else "ok")


def test_a_user_that_may_do_more(look: Look, nats: NatsServer, tmp_path: Path) -> None:
    before = administer(nats.address, stream_info)
    assert look(nats.address, credentials=admin_in(tmp_path))["permissions"] == (
        "warning",
        "more than a node needs: this user may also delete buckets, empty buckets, tell nodes of records"
        " as NATS does, send to nodes of other realms, hear other realms",
        DOCUMENTED,
    )
    after = administer(nats.address, stream_info)
    assert (before["state"], before["config"]) == (after["state"], after["config"])
    with NatsServer(PERMISSIONS.replace('"ringback.main.n.>"', '"ringback.>"')) as server:
        make_realm(server.address)
        assert look(server.address)["permissions"][1] == (
            "more than a node needs: this user may also tell nodes of records as NATS does, send to nodes of"
            " other realms"
        )


def test_a_bucket_that_is_not_as_it_must_be(look: Look) -> None:
    async def make_it(client: Client) -> None:
        await client.jetstream().add_stream(config_of(RealmNames(REALM), 1).evolve(allow_direct=True))

    with NatsServer() as server:
        administer(server.address, make_it)
        why = "the bucket ringback-main is not as ringback needs it: allow_direct is True, not False"
        advice = "an administrator can delete it, and make it with `ringback realm create main`"
        assert look(server.address)["realm main"] == ("failed", why, advice)


def test_two_servers_that_do_not_know_each_other(look: Look, nats: NatsServer) -> None:
    with NatsServer() as other:
        both = f"{nats.address},{other.address}"
        verdict, why, _ = look(both)["realm main"]
        assert verdict == "failed" and why.startswith(f"at {other.address}: NATS has no realm 'main'")
        make_realm(other.address)
        assert look(both)["realm main"] == (
            "failed",
            "several servers have a bucket of their own each",
            "join the servers to one by a cluster block in each, and keep one of the buckets",
        )


def test_without_jetstream(look: Look) -> None:
    with NatsServer(jetstream=False) as server:
        found = look(server.address)
        advice = 'set jetstream { store_dir: "..." } in the configuration of NATS'
        assert found["jetstream"] == ("failed", f"off at {server.address}", advice)
        assert "realm main" not in found and found["permissions"][0] == "ok"


def test_small_messages(look: Look) -> None:
    with NatsServer(max_payload="1MB") as server:
        assert look(server.address)["max_payload"] == (
            "warning",
            f"1048576 bytes at {server.address}: the largest frames take several messages",
            "set max_payload: 2MB in the configuration of NATS",
        )


def test_a_server_that_is_too_old(look: Look, nats: NatsServer) -> None:
    with rewriting(nats.port, rb'"version":"[^"]*"', b'"version":"2.9.25"') as address:
        why = "this is NATS 2.9.25, and ringback needs 2.10 or newer"
        assert look(address) == {address: ("failed", why, "a broker stops then: docs/scale.md")}


def test_an_old_server_of_debian(look: Look) -> None:
    with debian_server() as server:
        assert look(server.address)[server.address][1].startswith("this is NATS 2.9.")


def test_tls(look: Look, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    files = f'cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key"'
    with NatsServer() as server:
        encrypted = server.address.replace("nats://", "tls://")
        why = "this server has no TLS, which tls://, nats_ca and nats_cert ask for: set tls in it"
        assert look(encrypted)[encrypted][:2] == ("failed", why)
        # The check takes this for an address that others can reach. It is loopback too.
        mapped = server.address.replace("127.0.0.1", "[::ffff:127.0.0.1]")
        verdict, what, advice = look(mapped)[mapped]
        assert verdict == "warning" and re.fullmatch(well(server), what) and "write tls:// here" in advice
        server.kill()
        server.settings = f"{PERMISSIONS}\ntls {{ {files} }}"
        server.start()
        verdict, what, _ = look(encrypted, "--nats-ca", f"{tmp_path}/ca.pem")[encrypted]
        assert verdict == "ok" and re.fullmatch(well(server, "with TLS"), what)
        verdict, what, _ = look(encrypted, "--nats-ca", f"{tmp_path}/other.pem")[encrypted]
        assert verdict == "failed" and "certificate is not valid here" in what
