"""`ringback realm create` at a real NATS server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.harness import eventually
from support.nats_servers import (
    ADMIN,
    REALM,
    NatsCluster,
    NatsServer,
    administer,
    credentials_file,
    delete_bucket,
    free_ports,
    make_certificates,
    stream_info,
)

from ringback_cli.app import run
from ringback_cli.exits import Exit

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def create(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """Return a function that runs the command as an administrator."""
    monkeypatch.chdir(tmp_path)
    admin = credentials_file(tmp_path, ADMIN)

    def run_it(*arguments: str, credentials: str = admin) -> tuple[int, str, str]:
        code = run(["realm", "create", *arguments, "--nats-credentials", credentials])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    yield run_it


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


def test_twice(create: Run, server: NatsServer) -> None:
    made = create(REALM, "--cluster", server.address)
    assert made == (Exit.OK, "the realm main is made, with 1 replica\n", "")
    before = administer(server.address, stream_info)["created"]
    again = create(REALM, "--cluster", server.address)
    assert again == (Exit.OK, "the realm main is there already, as it must be, with 1 replica\n", "")
    assert administer(server.address, stream_info)["created"] == before


def test_no_revision_comes_back_in_another_bucket(create: Run, server: NatsServer) -> None:
    """Not even one that was never written: a clock tells where a bucket begins."""
    create(REALM, "--cluster", server.address)
    first = administer(server.address, stream_info)["config"]["first_seq"]
    administer(server.address, delete_bucket)
    begun = int(time.time() * 1e6)
    create(REALM, "--cluster", server.address)
    second = administer(server.address, stream_info)
    assert first < begun <= second["config"]["first_seq"] <= int(time.time() * 1e6)
    assert second["state"]["first_seq"] == second["config"]["first_seq"]


def test_what_differs(create: Run, server: NatsServer) -> None:
    create(REALM, "--cluster", server.address)
    code, output, errors = create(REALM, "--cluster", server.address, "--replicas", "3")
    assert (code, output) == (Exit.REALM_FAILED, "")
    wanted = (
        "the bucket ringback-main is not as ringback needs it: replicas is 1, not 3; change the stream"
        " KV_ringback-main with NATS' own tools, or delete it, which ends all sessions"
    )
    assert errors == f"REALM_FAILED: {wanted}\n"


def test_more_replicas_than_servers(create: Run, server: NatsServer) -> None:
    code, _, errors = create(REALM, "--cluster", server.address, "--replicas", "3")
    assert code == Exit.REALM_FAILED
    assert errors == (
        "REALM_FAILED: NATS does not make the bucket ringback-main: replicas > 1 not supported in"
        " non-clustered mode\n"
    )


def test_three_replicas(create: Run) -> None:
    with NatsCluster() as cluster:
        dead = f"nats://127.0.0.1:{free_ports(1)[0]}"
        addresses = f"{dead},{cluster.addresses}"
        made: list[str] = []

        def is_made() -> bool:
            code, output, errors = create(REALM, "--cluster", addresses, "--replicas", "3")
            made[:] = [output]
            assert code == Exit.OK or (code == Exit.REALM_FAILED and len(errors.splitlines()) == 1)
            return code == Exit.OK

        eventually(is_made, "the servers have started and elected a leader")
        assert made[0].startswith("the realm main is ") and made[0].endswith("with 3 replicas\n")
        assert administer(cluster.servers[1].address, stream_info)["config"]["num_replicas"] == 3


def test_nats_is_not_there(create: Run) -> None:
    address = f"nats://127.0.0.1:{free_ports(1)[0]}"
    assert create(REALM, "--cluster", address) == (
        Exit.REALM_FAILED,
        "",
        f"REALM_FAILED: {address}: Connection refused\n",
    )


def test_who_may_not_make_a_realm(create: Run, server: NatsServer, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    code, _, errors = create(REALM, "--cluster", server.address, credentials=credentials_file(folder))
    assert code == Exit.REALM_FAILED
    assert errors.startswith("REALM_FAILED: NATS refuses: permissions violation for ")
    assert errors.endswith("the permissions of an administrator of the realm 'main' (docs/scale.md)\n")
    wrong = credentials_file(folder, {"user": "admin", "password": "guessed"})
    code, _, errors = create(REALM, "--cluster", server.address, credentials=wrong)
    assert (code, errors) == (
        Exit.REALM_FAILED,
        f"REALM_FAILED: {server.address}: NATS refuses the credentials of nats_credentials\n",
    )


def test_without_jetstream(create: Run) -> None:
    with NatsServer(jetstream=False) as server:
        code, _, errors = create(REALM, "--cluster", server.address)
    assert code == Exit.REALM_FAILED
    assert errors == "REALM_FAILED: NATS runs without JetStream: set jetstream in its configuration\n"


def test_settings_come_from_a_file_too(create: Run, server: NatsServer, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    (tmp_path / "ringback.toml").write_text(f'cluster = "{server.address}"\nnats_ca = "ca.pem"\n')
    code, _, errors = create(REALM)
    assert code == Exit.REALM_FAILED and "this server has no TLS, which tls://, nats_ca" in errors
    (tmp_path / "ringback.toml").write_text(f'cluster = "{server.address}"\n')
    assert create(REALM)[0] == Exit.OK
