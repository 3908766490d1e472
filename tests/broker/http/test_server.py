"""The HTTP server of a broker: metrics, health, and who may read them."""

from __future__ import annotations

import json
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPMessage
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.harness import PATIENCE_S, BrokerProcess, eventually
from support.names import Names

from ringback import CallbackError, Operator, Player, Refused, Server
from ringback.errors import Code, RejectCode
from ringback.protocol.frames import Role
from ringback_broker.daemon.broker import Broker
from ringback_broker.http.server import MAX_AT_ONCE, _listener
from ringback_broker.net.router_socket import BindError
from ringback_broker.operations.counters import BrokerCounters
from ringback_broker.operations.snapshot import LAG_BOUNDS_S, Lags
from ringback_broker.settings.schema import BrokerSettings

TOKEN = "correct-horse-battery"


def url_of(broker: BrokerProcess) -> str:
    found = re.search(r"http=(\S+)", "\n".join(broker.process.lines))
    assert found is not None
    return found[1]


def get(url: str, **headers: str) -> tuple[int, str, HTTPMessage]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def samples(url: str) -> dict[tuple[str, ...], float]:
    """Return all metrics by name and label values."""
    status, text, _ = get(f"{url}/metrics")
    assert status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(options=("--http", "127.0.0.1:0")) as broker:
        yield broker


def test_metrics_count_what_happens(broker: BrokerProcess) -> None:
    url = url_of(broker)
    before = samples(url)
    assert {name: before["ringback_sessions", name] for name in ("player", "server", "operator")} == {
        "player": 0,
        "server": 0,
        "operator": 0,
    }
    with Player(broker.players, 1) as player, Operator(broker.backend) as operator:
        with pytest.raises(CallbackError):
            player.trigger_server_callback("nobody").result()
        with pytest.raises(Refused):
            Player(broker.players, 1).start()
        with Server(broker.backend) as server:
            server.register_server_callback("echo", lambda source, payload: payload)
            assert player.trigger_server_callback("echo", "x" * 1000).result() == "x" * 1000
            there = {("ringback_sessions", role.value): 1.0 for role in Role}
            eventually(lambda: there.items() <= samples(url).items(), "the change is in a snapshot")
            operator.ping().result()
    eventually(lambda: samples(url)["ringback_sessions_ended_total",] == 3, "the change is in a snapshot")
    after = samples(url)
    grown = {
        name: value - before.get(name, 0.0)
        for name, value in after.items()
        if name[0].startswith("ringback_")
    }
    assert grown["ringback_sessions_begun_total",] == 3
    assert grown["ringback_bounced_total", "NO_SERVER"] == 1
    assert grown["ringback_sessions_refused_total", "ID_TAKEN"] == 1
    assert (grown["ringback_frames_total", "up"], grown["ringback_frames_total", "down"]) == (1, 1)
    assert grown["ringback_bytes_total", "up"] > 1000 and grown["ringback_bytes_total", "down"] > 1000
    assert grown["ringback_loop_lag_seconds_count",] > 0
    assert after["process_resident_memory_bytes",] > 1e7 and after["process_open_fds",] > 5


def test_the_format_that_the_client_accepts(broker: BrokerProcess) -> None:
    _, text, headers = get(f"{url_of(broker)}/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(text)}
    assert families["ringback_frames"].type == "counter"
    buckets = [s for s in families["ringback_loop_lag_seconds"].samples if s.name.endswith("_bucket")]
    assert len(buckets) == len(LAG_BOUNDS_S) + 1
    odd = "application/openmetrics-text; version=abc", "text/plain; version=1.x", "text/plain;version", ";;,="
    for accept in ({}, *({"Accept": one} for one in odd)):
        status, _, headers = get(f"{url_of(broker)}/metrics", **accept)
        assert status == 200, accept
        if "openmetrics" not in str(accept):
            assert headers["Content-Type"].startswith("text/plain; version=")


def test_requests_that_are_no_http_do_not_fill_the_log(broker: BrokerProcess) -> None:
    host, port = url_of(broker).removeprefix("http://").split(":")
    for _ in range(50):
        with socket.create_connection((host, int(port)), PATIENCE_S) as client:
            client.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    broker.process.signal(signal.SIGTERM)
    lines = [line for line in broker.process.output() if "Invalid HTTP request" in line]
    counted = [int(found[1]) for line in lines if (found := re.search(r"(\d+) more line", line))]
    assert len(lines) < 10 and sum(counted) + len(lines) - len(counted) == 50, lines


def test_a_crowd_of_connections_keeps_no_probe_from_its_answer() -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(BrokerProcess(options=("--http", "127.0.0.1:0", "--dashboard")))
        url = url_of(broker)
        host, port = url.removeprefix("http://").split(":")

        def connect(text: str) -> None:
            client = stack.enter_context(socket.create_connection((host, int(port)), PATIENCE_S))
            client.sendall(text.encode())

        for _ in range(2 * MAX_AT_ONCE):
            connect("GET /metrics HTTP/1.1\r\nHost: loc")  # and no more
        assert [get(url + path)[0] for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
        body = "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        for _ in range(MAX_AT_ONCE):
            connect(f"POST /api/tap HTTP/1.1\r\nHost: localhost\r\n{body}")
        eventually(lambda: get(f"{url}/metrics")[0] == 503, "as many requests as may be wait for a body")
        assert "64 requests at one time" in get(f"{url}/metrics")[1]
        assert [get(url + path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
        eventually(lambda: get(f"{url}/metrics")[0] == 200, "their time is over")


def test_calls_are_counted_by_callback(broker: BrokerProcess) -> None:
    url = url_of(broker)
    with Server(broker.backend) as server, Player(broker.players, 1) as player:
        server.register_server_callback("echo", lambda source, payload: payload)
        player.register_client_callback("where", lambda payload: 1 / payload)
        for number in range(3):
            assert player.trigger_server_callback("echo", number).result() == number
        with pytest.raises(CallbackError):
            server.trigger_client_callback("where", 1, 0).result()
        wanted = {
            ("ringback_calls_total", "echo", "OK", "server"): 3.0,
            ("ringback_calls_total", "where", "HANDLER_ERROR", "player"): 1.0,
            ("ringback_calls_in_flight", "echo", "server"): 0.0,
            ("ringback_call_latency_seconds_count", "echo", "server"): 3.0,
        }
        eventually(lambda: wanted.items() <= samples(url).items(), "the report is in a snapshot")


def test_a_player_adds_no_series(broker: BrokerProcess) -> None:
    before = {name for name in samples(url_of(broker)) if name[0].startswith("ringback_")}
    with Player(broker.players, 'an ID with " and \\ in it') as player:
        player.register_client_callback("any key", lambda payload: None)
        eventually(
            lambda: samples(url_of(broker))["ringback_sessions", "player"] == 1, "the change is in a snapshot"
        )
        assert {name for name in samples(url_of(broker)) if name[0].startswith("ringback_")} == before


def test_health(broker: BrokerProcess) -> None:
    url = url_of(broker)
    assert get(f"{url}/healthz")[:2] == (200, '{"healthy":true}')
    assert get(f"{url}/readyz")[:2] == (200, '{"ready":true}')
    assert get(f"{url}/nothing")[0] == 404


def test_a_broker_that_drains_is_healthy_and_not_ready() -> None:
    with (
        BrokerProcess(options=("--http", "127.0.0.1:0", "--grace", "60")) as broker,
        Server(broker.backend) as server,
        Player(broker.players, 1) as player,
    ):
        url = url_of(broker)
        server.register_server_callback("late", lambda source, payload, cb: waiting.append(cb))
        waiting: list[object] = []
        call = player.trigger_server_callback("late")
        eventually(lambda: bool(waiting) or not get(f"{url}/healthz"), "the call waits")
        broker.process.signal(signal.SIGTERM)
        eventually(lambda: get(f"{url}/readyz")[0] == 503, "the change is in a snapshot")
        assert json.loads(get(f"{url}/readyz")[1]) == {"ready": False, "why": "draining"}
        assert get(f"{url}/healthz")[0] == 200
        waiting[0]("done")  # type: ignore[operator]
        assert call.result() == "done"


def test_a_blocked_loop_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of the HTTP server still answers."""
    from ringback_broker.http import server as web

    monkeypatch.setattr(web, "STALE_S", 0.0)  # every snapshot is too old now
    made = Broker(BrokerSettings("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", http="127.0.0.1:0"))
    try:
        assert made._http is not None
        made._http.start(0.0)  # the broker's loop does not run
        status, text, _ = get(f"{made.http}/healthz")
        assert status == 503 and re.search(r"the loop has been blocked for \d+\.\d s", text)
        assert json.loads(get(f"{made.http}/readyz")[1])["why"] == "the loop is blocked"
    finally:
        made.close()


def test_a_page_under_another_host_name_cannot_read_it(broker: BrokerProcess) -> None:
    """DNS rebinding: a browser believes that evil.example is 127.0.0.1."""
    assert get(f"{url_of(broker)}/metrics", Host="evil.example")[0] == 400
    assert get(f"{url_of(broker)}/metrics", Host="localhost:1")[0] == 200


def test_a_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    with BrokerProcess(options=("--http", "0.0.0.0:0", "--http-token-file", str(path))) as broker:
        url = url_of(broker).replace("0.0.0.0", "127.0.0.1")
        for wrong in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {TOKEN}"}):
            status, text, headers = get(f"{url}/metrics", **wrong)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert text == "a token is needed: Authorization: Bearer TOKEN\n"
        assert get(f"{url}/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert get(f"{url}/metrics", Authorization=f"bearer {TOKEN}", Host="metrics.example")[0] == 200
        assert get(f"{url}/healthz")[0] == get(f"{url}/readyz")[0] == 200
        assert TOKEN not in "\n".join(broker.process.lines)


def test_calls_go_on_while_http_is_flooded(broker: BrokerProcess) -> None:
    """Connections with half a request are bounded, and the switchboard runs in another thread."""
    port = int(url_of(broker).rpartition(":")[2])
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        for number, client in enumerate(clients):
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + b"\r\n" * (number % 2))
        with Server(broker.backend) as server, Player(broker.players, 1) as player:
            server.register_server_callback("echo", lambda source, payload: payload)
            for number in range(100):
                assert player.trigger_server_callback("echo", number, timeout=PATIENCE_S).result() == number
    finally:
        for client in clients:
            client.close()
    eventually(lambda: get(f"{url_of(broker)}/healthz")[0] == 200, "there is room for a request")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_a_connection_does_not_stay_open(monkeypatch: pytest.MonkeyPatch, request_bytes: bytes) -> None:
    """It sends nothing, half a request, or one request and then nothing."""
    from ringback_broker.http import server as web

    monkeypatch.setattr(web, "REQUEST_S", 0.5)
    made = Broker(BrokerSettings("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", http="127.0.0.1:0"))
    try:
        assert made._http is not None and made.http is not None
        made._http.start(0.0)
        host, port = made.http.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.settimeout(PATIENCE_S)
            client.sendall(request_bytes)
            while client.recv(4096):
                pass
    finally:
        made.close()


def test_a_name_whose_first_ip_is_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(two_test=["203.0.113.1", "127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    with closing(_listener("two.test", 0)) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_an_address_that_is_in_use(broker: BrokerProcess) -> None:
    address = url_of(broker).removeprefix("http://")
    with pytest.raises(BindError, match=f"cannot listen on {address} for HTTP: Address already in use"):
        Broker(BrokerSettings("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", http=address))


def test_close_leaves_no_descriptor_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        made = Broker(BrokerSettings("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", http="[::1]:0"))
        assert made.http is not None and made.http.startswith("http://[::1]:")
        made.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_all_codes_are_counted() -> None:
    """A code refuses a peer that wants to join, or ends a session; or it delays a join."""
    counters = BrokerCounters()
    ends = {
        RejectCode.LEASE_EXPIRED: "sessions_expired",
        RejectCode.TOO_SLOW: "sessions_too_slow",
        RejectCode.REVOKED: "sessions_revoked",
        RejectCode.REPLACED: "sessions_replaced",
        RejectCode.KICKED: "sessions_kicked",
    }
    for code in RejectCode:
        (counters.count_end if code in ends else counters.count_refusal)(code)
    for bounced in (Code.NO_SERVER, Code.FORBIDDEN):
        counters.count_bounce(bounced)
    rows = dict(counters.rows())
    refusals = [code for code in RejectCode if code not in (*ends, RejectCode.HEARTBEAT_TOO_SHORT)]
    assert rows["sessions_refused"] == len(refusals) and rows["joins_delayed"] == 1
    assert [rows[f"refused_{code.name.lower()}"] for code in refusals] == [1] * len(refusals)
    assert [rows[name] for name in ends.values()] == [1] * len(ends)


def test_lags() -> None:
    lags = Lags()
    for lag_s in (0.0, 0.001, 0.002, 7.0):
        lags.add(lag_s)
    counts, sum_s = lags.read()
    assert counts[0] == 2 and counts[1] == 1 and counts[-1] == 1 and sum(counts) == 4
    assert sum_s == pytest.approx(7.003)
