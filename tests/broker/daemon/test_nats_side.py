"""A broker process with `--cluster`: it waits for NATS, or ends with one line and exit code 8."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from support.harness import BrokerProcess, Process
from support.nats_servers import REALM, NatsServer, credentials_file, make_realm

from ringback import Player, Server
from ringback_broker.daemon import nats_side
from ringback_broker.settings.schema import BrokerSettings
from ringback_cli.exits import Exit

ANY = ("--players", "tcp://127.0.0.1:0", "--backend", "tcp://127.0.0.1:0")


def options(server: NatsServer, folder: Path, *more: str) -> tuple[str, ...]:
    credentials = credentials_file(folder)
    return ("--cluster", server.address, "--nats-credentials", credentials, "--node", "a", *more)


def ending(*arguments: str) -> tuple[int, str]:
    """Return the exit code and the last line of a broker that ends by itself."""
    with Process("-m", "ringback_cli", "broker", *ANY, *arguments) as process:
        return process.wait(), process.output()[-1]


def test_a_broker_waits_for_nats_and_says_so_once(tmp_path: Path) -> None:
    server = NatsServer()
    with BrokerProcess(options=options(server, tmp_path)) as broker:
        line = broker.process.wait_for("no contact").string
        why = f"{server.address}: Connection refused; trying again until there is"
        assert line.endswith(f"WARNING ringback.broker no contact with the realm main: {why}")
        with server:
            broker.process.wait_for(
                f"no contact with the realm main: NATS has no realm '{REALM}'|REALM_FAILED"
            )
            assert broker.process.wait() == Exit.REALM_FAILED


def test_a_broker_is_in_contact_and_stops_in_good_order(tmp_path: Path) -> None:
    with NatsServer() as server:
        make_realm(server.address)
        with BrokerProcess(options=options(server, tmp_path)) as broker:
            broker.process.wait_for("in contact with the realm main as node a: NATS 2")
            server.kill()
            broker.process.wait_for(f"the connection to NATS at {server.address} was lost; connecting again")
            broker.process.wait_for("no contact with the realm main: .*Connection refused")
            server.start()
            broker.process.wait_for("in contact with the realm main")
            broker.process.signal(signal.SIGTERM)
            assert broker.process.wait() == Exit.OK
            assert "Traceback" not in "\n".join(broker.process.output())


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"user": "node", "password": "guessed"}, "NATS refuses the credentials of nats_credentials"),
        ({}, "NATS asks for credentials: set nats_credentials (--nats-credentials)"),
    ],
)
def test_wrong_credentials_end_a_broker(values: dict[str, str], line: str, tmp_path: Path) -> None:
    with NatsServer() as server:
        make_realm(server.address)
        more = ("--nats-credentials", credentials_file(tmp_path, values)) if values else ()
        code, last = ending("--cluster", server.address, *more)
        assert (code, last) == (Exit.REALM_FAILED, f"REALM_FAILED: {server.address}: {line}")


def test_no_bucket_and_a_wrong_realm_end_a_broker(tmp_path: Path) -> None:
    with NatsServer() as server:
        code, last = ending(*options(server, tmp_path))
        assert code == Exit.REALM_FAILED and "make it with `ringback realm create main`" in last
        code, last = ending(*options(server, tmp_path, "--realm", "other"))
        assert code == Exit.REALM_FAILED and "the permissions of a node of the realm 'other'" in last


def test_files_that_cannot_be_used_are_an_error_of_usage(tmp_path: Path) -> None:
    code, last = ending("--cluster", "nats://127.0.0.1", "--nats-credentials", f"{tmp_path}/no")
    assert (code, last) == (
        Exit.USAGE,
        f"USAGE: --nats-credentials: {tmp_path}/no: No such file or directory",
    )


def test_a_node_is_called_as_its_host_is(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = BrokerSettings(cluster="nats://h")
    for host, name in (("shop-1.example.net", "shop-1"), ("a_b", "a_b"), ("ä.x", "-"), ("x" * 99, "x" * 64)):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        assert nats_side.node_name(settings) == name
    assert nats_side.node_name(BrokerSettings(cluster="nats://h", node="own")) == "own"


def test_a_broker_alone_loads_nothing_of_it() -> None:
    code = """
import sys
from ringback_broker import Broker, BrokerSettings
broker = Broker(BrokerSettings(players="tcp://127.0.0.1:0", backend="tcp://127.0.0.1:0"))
broker.close()
print(sorted(name for name in sys.modules if name.split(".")[0] in ("nats", "uvloop", "nkeys")
    or name.startswith("ringback_broker.nats")))
"""
    with Process("-c", code) as process:
        assert process.output() == ["[]"]


def test_calls_pass_while_nats_is_stopped(tmp_path: Path) -> None:
    """Nothing that NATS does or does not makes the loop wait."""
    with NatsServer() as server:
        make_realm(server.address)
        with BrokerProcess(options=options(server, tmp_path)) as broker:
            broker.process.wait_for("in contact")
            endpoints = Server(broker.backend), Player(broker.players, 7)
            endpoints[0].register_server_callback("echo", lambda source, payload: payload)
            with endpoints[0], endpoints[1]:
                call = endpoints[1].trigger_server_callback("echo", 1)
                assert call.result(timeout=30) == 1
                server.pause()
                for number in range(200):
                    call = endpoints[1].trigger_server_callback("echo", number)
                    assert call.result(timeout=30) == number
                server.resume()
