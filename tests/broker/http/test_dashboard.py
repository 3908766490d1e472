"""The requests of the dashboard's page: who may send them, and what the broker answers or refuses."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import zmq
from support.dashboards import OPTIONS, ask, get, post, running, state, trigger, url_of
from support.harness import ENVIRONMENT, PATIENCE_S, ROOT, BrokerProcess, eventually
from support.keyring import KeyRing
from support.rawpeers import RawPeer

from ringback import CallbackError, Operator, Player, Server, ServerCallback
from ringback.credentials import write_key_pair
from ringback.protocol.frames import Role
from ringback_broker.daemon.broker import Broker
from ringback_broker.http.dashboard import FILES, FOLDER
from ringback_broker.http.dashboard_calls import MAX_TRIGGERS
from ringback_broker.http.dashboard_web import MAX_BODY_BYTES
from ringback_broker.settings.schema import BrokerSettings

TOKEN = "correct-horse-battery"
LOOKED_AT = ("state", "players", "callbacks", "player", "callback", "schema", "history")
SENT = ("tap", "trigger", "trigger_all", "kick", "drain")


# -- the page


def test_the_page_loads_nothing_from_other_hosts(broker: BrokerProcess) -> None:
    url = url_of(broker)
    for path, (_, kind) in FILES.items():
        status, text, headers = ask(url + path)
        assert (status, headers["Content-Type"].partition(";")[0]) == (200, kind)
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
        assert headers["X-Content-Type-Options"] == "nosniff"
        if path.startswith("/vendor/"):
            text = text.partition("*/")[2] or text  # the comment at the top says where it comes from
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}
        assert "innerHTML" not in text and "insertAdjacent" not in text and " style=" not in text


def test_vendored_files_are_those_that_their_author_published() -> None:
    text = (FOLDER / "vendor" / "README.md").read_text()
    listed = dict(re.findall(r"`(\S+)`, SHA-256 \| `([0-9a-f]{64})`", text))
    files = [path for path in (FOLDER / "vendor").iterdir() if path.suffix in (".js", ".css")]
    assert listed == {path.name: sha256(path.read_bytes()).hexdigest() for path in files}


def test_without_the_setting_there_is_no_dashboard() -> None:
    with BrokerProcess(options=("--http", "127.0.0.1:0")) as broker:
        for path in (*FILES, *(f"/api/{name}" for name in (*LOOKED_AT, *SENT))):
            assert ask(url_of(broker) + path)[0] == 404


# -- what is shown


def test_the_state(broker: BrokerProcess) -> None:
    url = url_of(broker)
    with Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("shop:items", lambda source, payload: payload)
        player.register_client_callback("local:coords", lambda payload: None)
        with pytest.raises(CallbackError):
            server.trigger_client_callback("local:coords", 8).result()

        def complete() -> bool:
            found, rows = state(url), get(url, "callbacks")["rows"]
            keys = {(row["key"], row["side"], row["endpoints"]) for row in rows}
            return (
                keys == {("shop:items", "server", 1), ("local:coords", "player", 1)}
                and found["sessions"] == {"player": 1, "server": 1, "operator": 1}
                and "frames_up" in found["rates"]
            )

        eventually(complete, "the state shows everything")
        found, players = state(url), get(url, "players")
    (row,) = players["rows"]
    assert (row["player"], row["callbacks"], row["ip"]) == (7, 1, "127.0.0.1")
    assert (players["total"], players["matching"], players["offset"]) == (1, 1, 0)
    assert found["counters"]["bounced_unknown_player"] == 1
    assert [(event["event"], event["role"], event["player"]) for event in found["events"]] == [
        ("joined", "server", None),
        ("joined", "player", 7),
    ]
    assert not found["draining"]


def test_all_pages_share_one_query(broker: BrokerProcess) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = {found["number"] for found in pool.map(lambda _: state(url_of(broker)), range(40))}
    assert len(answers) < 20


# -- triggering


def test_results(broker: BrokerProcess) -> None:
    url = url_of(broker)
    with Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("echo", lambda source, payload: [source, payload])
        server.register_server_callback("odd", lambda source, payload, cb: cb(b"\0", {1: float("nan")}))
        player.register_client_callback("none", lambda payload, cb: cb())
        found = trigger(url, side="server", key="echo", source="7", payload={"a": [1.5, None]})
        assert found == {"results": [["7", {"a": [1.5, None]}]]}
        found = trigger(url, side="server", key="odd", source=2**63 - 1)
        assert found == {"results": [{"base64": "AA=="}, {"map": [[1, {"float": "NaN"}]]}]}
        assert trigger(url, side="player", key="none", player_id=7) == {"results": []}
    broker.process.wait_for(r"the dashboard triggered player 'none' \(7\) for 127\.0\.0\.1: results")


def test_a_code_of_a_handler_cannot_command_the_terminal_of_the_log(broker: BrokerProcess) -> None:
    def fail(source: Any, payload: Any) -> None:
        raise CallbackError("x", code="a\x1b[2J\nready")

    url = url_of(broker)
    with Server(broker.backend) as server:
        server.register_server_callback("fail", fail)
        assert trigger(url, side="server", key="fail", source=7)["error"]["code"] == "a\x1b[2J\nready"
    broker.process.wait_for(
        r"the dashboard triggered server 'fail' \(7\) for 127\.0\.0\.1: a\\x1b\[2J\\nready$"
    )


def test_errors(broker: BrokerProcess) -> None:
    def sold_out(source: Any, payload: Any) -> None:
        raise CallbackError("all gone", code="SOLD_OUT", data={"left": 0})

    url = url_of(broker)
    found = trigger(url, side="server", key="shop:buy", source=1)["error"]
    assert (found["code"], found["executed"]) == ("NO_SERVER", "no")
    with Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("shop:buy", sold_out)
        server.register_server_callback("late", lambda source, payload, cb: None)
        player.register_client_callback("late", lambda payload, cb: None)
        found = trigger(url, side="server", key="shop:buy", source=1)["error"]
        assert found == {"code": "SOLD_OUT", "message": "all gone", "executed": "yes", "data": {"left": 0}}
        found = trigger(url, side="player", key="k", player_id=9)["error"]
        assert (found["code"], found["executed"]) == ("UNKNOWN_PLAYER", "no")
        # The server records its call. If the machine is busy, the CANCEL may come long before the server's
        # deadline, and counts as CANCELLED. The dashboard records the player's call, so there is a TIMEOUT.
        for wanted in ({"side": "server", "source": 1}, {"side": "player", "player_id": 7}):
            found = trigger(url, key="late", timeout=0.5, **wanted)["error"]
            assert (found["code"], found["executed"]) == ("TIMEOUT", "maybe")

        def counted() -> bool:
            errors = sum(row["errors"] for row in get(url, "callbacks")["rows"])
            found = state(url)
            return sum(found["failed"].values()) == errors and {"APPLICATION", "TIMEOUT"} <= set(
                found["failed"]
            )

        eventually(counted, "the list of errors and the columns of callbacks count the same calls")


def test_what_a_callback_takes(broker: BrokerProcess) -> None:
    url = url_of(broker)

    def schema(side: str, key: str) -> Any:
        return get(url, "schema", side=side, key=key)["schema"]

    contract = ServerCallback("shop: buy&sell", list[int], None)
    with Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register(contract, lambda source, payload: None)
        player.register_client_callback("plain", lambda payload: None)
        eventually(lambda: schema("server", contract.key) is not None, "the broker knows the schema")
        assert schema("server", contract.key) == {"type": "array", "items": {"type": "integer"}}
        assert schema("player", contract.key) is schema("player", "plain") is schema("server", "") is None
    assert ask(f"{url}/api/schema?side=operator&key=k")[0] == 400
    with zmq.Context() as context, RawPeer(context, broker.players) as peer:  # a player may say anything
        deep = "[" * 600 + "]" * 600
        odd = {"k": "{", "deep": deep, "NaN": "[NaN]", "lone": '{"const": "\\ud800"}'}
        peer.hello(Role.PLAYER, 9, keys=tuple(odd), schemas=odd)
        eventually(lambda: any(row["schema"] for row in get(url, "callbacks")["rows"]), "the lie is there")
        eventually(lambda: schema("player", "NaN") == [{"float": "NaN"}], "its schemas are there")
        assert schema("player", "k") is schema("player", "deep") is None
        assert schema("player", "lone") == {"const": "\ud800"}


def test_the_number_of_calls_at_one_time_is_bounded(broker: BrokerProcess) -> None:
    url = url_of(broker)
    waiting: list[Any] = []
    with Server(broker.backend) as server, ThreadPoolExecutor(MAX_TRIGGERS) as pool:
        server.register_server_callback("late", lambda source, payload, cb: waiting.append(cb))
        wanted = {"side": "server", "key": "late", "source": 1}
        calls = [pool.submit(trigger, url, **wanted) for _ in range(MAX_TRIGGERS)]
        eventually(lambda: len(waiting) == MAX_TRIGGERS or not state(url), "all calls wait")
        body = json.dumps(wanted).encode()
        status, found, _ = ask(f"{url}/api/trigger", body, Content_Type="application/json")
        assert (status, found["error"]["message"]) == (
            429,
            "8 calls at one time are allowed: try again later",
        )
        for answer in waiting:
            answer("done")
        assert [call.result() for call in calls] == [{"results": ["done"]}] * MAX_TRIGGERS


@pytest.mark.parametrize(
    "payload", ["1" + 30 * "0", r'"\ud800"', 70 * "[" + 70 * "]", '"' + 1024 * 1024 * "x" + '"']
)
def test_payloads_that_cannot_be_sent(broker: BrokerProcess, payload: str) -> None:
    body = f'{{"side": "server", "key": "k", "source": 1, "payload": {payload}}}'.encode()
    status, found, _ = ask(f"{url_of(broker)}/api/trigger", body, Content_Type="application/json")
    assert status == 200 and found["error"]["code"] in ("INVALID_PAYLOAD", "TOO_LARGE")


def test_the_document(broker: BrokerProcess, tmp_path: Path) -> None:
    """The broker answers as docs/dashboard.md shows, and accepts its commands."""
    text = (ROOT / "docs" / "dashboard.md").read_text()
    asked, answered = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    with Server(broker.backend) as server:
        server.register_server_callback("shop:items", lambda source, payload: {"apple": 3, "bread": 5})
        for line, shown in zip(asked.splitlines(), answered.splitlines(), strict=True):
            found, expected = trigger(url_of(broker), **json.loads(line)), json.loads(shown)
            expected.pop("took_ms")
            if "error" in expected:
                expected["error"]["message"] = found["error"]["message"]
            assert found == expected
    KeyRing(tmp_path)
    (tmp_path / "http.token").write_text(TOKEN)
    *commands, last = text.partition("pair of its own:")[2].split("```")[1].removeprefix("sh\n").splitlines()
    commands, start = commands[:2], (commands[2] + last).replace("\\", "").split()[2:]
    for line in commands:
        run = [sys.executable, "-m", "ringback_cli", *line.split()[1:]]
        subprocess.run(
            run, cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True, timeout=PATIENCE_S
        )
    paths = [str(tmp_path / word) if word.endswith((".key", ".toml", ".token")) else word for word in start]
    options = [word.replace("127.0.0.1:5772", "127.0.0.1:0") for word in paths]
    with BrokerProcess(options=tuple(options)) as other:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert ask(f"{url_of(other)}/api/state", **headers)[0] == 200


# -- what is not done


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON: line 1, column 1: Expecting value"),
        (b"\xff", "the body is not UTF-8: byte 1"),
        (b"[" * 100_000, "the body cannot be sent as a payload: it is nested too deeply"),
        (b'{"side": NaN}', "the body cannot be sent as a payload: NaN is not a JSON number"),
        (b"[]", "the body must be a JSON object, in { }"),
        (b'{"side": "both"}', 'the body must be an object whose side is "server" or "player"'),
        (b'{"side": "server", "player_id": 7}', "'player_id' is unknown; allowed are side, key, source, pay"),
        (b'{"side": "server", "source": 7}', "a key must be a str, not NoneType"),
        (b'{"side": "player", "key": "k"}', "a player ID must be an int or a str, not NoneType"),
        (b'{"side": "player", "key": "k", "player_id": 0}', "a player ID must be from 1 to 2**63-1"),
        (
            b'{"side": "server", "key": "k", "source": 1, "timeout": 61}',
            "timeout must be above 0 and at most 60 seconds, not 61",
        ),
        (
            b'{"side": "server", "key": "k", "source": 1, "timeout": true}',
            "timeout must be above 0 and at most 60 seconds, not True",
        ),
    ],
)
def test_wrong_bodies(broker: BrokerProcess, body: bytes, message: str) -> None:
    status, found, _ = ask(f"{url_of(broker)}/api/trigger", body, Content_Type="application/json")
    assert (status, found["error"]["code"]) == (400, "BAD_REQUEST")
    assert found["error"]["message"].startswith(message)


def test_other_sites_and_other_forms(broker: BrokerProcess) -> None:
    url = url_of(broker)
    kind = {"Content_Type": "application/json"}
    body = b'{"side": "server", "key": "k", "source": 1}'

    def status(path: str = "/api/trigger", body: bytes | None = body, **headers: str) -> int:
        return ask(url + path, body, **headers)[0]

    for odd in ({}, {"Content_Type": "text/plain"}, {"Content_Type": "application/x-www-form-urlencoded"}):
        for name in SENT:
            assert status(f"/api/{name}", **odd) == 415
    sites = "http://evil.example", "null", "", "http://[", "http://[x]"
    for site in (*({"Origin": site} for site in sites), {"Sec_Fetch_Site": "cross-site"}):
        for name in SENT:
            assert status(f"/api/{name}", **kind, **site) == 403
        for name in LOOKED_AT:
            assert status(f"/api/{name}", None, **site) == 403
    assert status(**kind, Host="evil.example") == status("/", None, Host="evil.example") == 400
    assert status(**kind, Origin=url, Sec_Fetch_Site="same-origin") == 200
    for name in SENT:
        assert ask(f"{url}/api/{name}")[0] == 405
        assert ask(f"{url}/api/{name}", body, "PUT", **kind)[0] == 405
    for name in LOOKED_AT:
        assert ask(f"{url}/api/{name}", body, **kind)[0] == 405


def test_a_body_that_is_too_large(broker: BrokerProcess) -> None:
    host, port = url_of(broker).removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as client:
        head = "POST /api/trigger HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {10 * MAX_BODY_BYTES}\r\n\r\n".encode())
        client.sendall(b" " * (MAX_BODY_BYTES + 1))
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_half_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    from ringback_broker.http import dashboard_web

    monkeypatch.setattr(dashboard_web, "BODY_S", 0.2)
    with running(dashboard=True) as (_, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), PATIENCE_S) as client:
            head = "POST /api/trigger HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: 10\r\n\r\n{{".encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_the_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    options = ("--http", "0.0.0.0:0", "--http-token-file", str(path), "--dashboard")
    with BrokerProcess(options=options) as broker:
        url = url_of(broker)
        assert ask(url)[0] == ask(f"{url}/app.js")[0] == 200
        for wrong in ({}, {"Authorization": "Bearer no"}):
            for name in LOOKED_AT:
                assert ask(f"{url}/api/{name}", **wrong)[0] == 401
            for name in SENT:
                assert ask(f"{url}/api/{name}", b"{}", Content_Type="application/json", **wrong)[0] == 401
        assert ask(f"{url}/api/state", Authorization=f"Bearer {TOKEN}")[0] == 200


# -- the dashboard is an operator


def test_the_operator_stays_until_the_broker_stops() -> None:
    """It keeps the history, also while nobody looks. There is one, however many pages there are."""
    with running(dashboard=True) as (broker, url):

        def operators() -> int:
            _, text, _ = ask(f"{url}/metrics")
            found = re.search(r'ringback_sessions\{role="operator"\} (\d+)', text)
            assert found is not None
            return int(found[1])

        eventually(lambda: operators() == 1, "it has joined, and nobody has looked")
        for _ in range(3):
            assert state(url)["sessions"]["operator"] <= 1
        assert broker.switchboard.counters.sessions_begun == 1


@pytest.mark.parametrize("by_order", [False, True])
def test_it_is_no_news_that_its_own_broker_stops(by_order: bool) -> None:
    with BrokerProcess(options=OPTIONS) as broker:
        url = url_of(broker)
        eventually(lambda: state(url)["sessions"]["operator"] == 1, "its operator has joined")
        if by_order:
            assert post(url, "drain")[0] == 200
        else:
            broker.process.signal(signal.SIGTERM)
        assert broker.process.wait() == 0
        lines = broker.process.output()
    assert "stopped: everybody has left" in lines[-1]
    assert [line for line in lines if " INFO " not in line] == []


def test_a_draining_broker_does_not_wait_for_it() -> None:
    with (
        BrokerProcess(options=(*OPTIONS, "--grace", "60")) as broker,
        Player(broker.players, 1) as player,
        Server(broker.backend) as server,
    ):
        url = url_of(broker)
        waiting: list[Any] = []
        server.register_server_callback("late", lambda source, payload, cb: waiting.append(cb))
        call = player.trigger_server_callback("late")
        eventually(lambda: bool(waiting and state(url)), "the call waits, and the dashboard has joined")
        broker.process.signal(signal.SIGTERM)

        def stopping() -> bool:
            status, found, _ = ask(f"{url}/api/state")
            return status == 503 and found["error"]["code"] == "DRAINING"

        eventually(stopping, "the dashboard says that the broker is stopping")
        waiting[0]("done")
        assert call.result() == "done"
        assert broker.process.wait() == 0
        assert "everybody has left" in "\n".join(broker.process.output())


def test_keys(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    key, console = (
        write_key_pair(ring.add("dashboard", "operator"), tmp_path),
        ring.add("console", "operator"),
    )
    more = ("--http-token-file", str(token), "--dashboard-key-file", str(key))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with BrokerProcess(options=(*OPTIONS, *ring.options, *more)) as broker:
        url = url_of(broker)
        with Operator(broker.backend, key_file=console) as operator:
            assert ask(f"{url}/api/state", **headers)[1]["sessions"]["player"] == 0
            ring.remove("dashboard")

            def shut_out() -> bool:
                status, found, _ = ask(f"{url}/api/state", **headers)
                return status == 503 and found["error"]["code"] in ("NO_BROKER", "UNAUTHORIZED")

            eventually(shut_out, "the revoked key is refused")
            operator.ping().result()


def test_an_operator_without_orders_sees_no_failures(tmp_path: Path) -> None:
    """The broker logs what it refuses. So the dashboard does not ask again and again."""
    ring = KeyRing(tmp_path)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    key = write_key_pair(ring.add("dashboard", "operator", more="orders = false"), tmp_path)
    more = ("--http-token-file", str(token), "--dashboard-key-file", str(key))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with BrokerProcess(options=(*OPTIONS, *ring.options, *more)) as broker:
        url, numbers = url_of(broker), set[int]()

        def asked_three_times() -> bool:
            status, found, _ = ask(f"{url}/api/callback?side=server&key=k", **headers)
            assert (status, found["rows"], found["failures"]) == (200, [], None)
            numbers.add(found["number"])
            return len(numbers) == 3

        eventually(asked_three_times, "the dashboard has asked the broker three times")
        _, found, _ = ask(f"{url}/api/state", **headers)
        refused = [event for event in found["events"] if event["event"] == "refused"]
        assert [event["code"] for event in refused] == ["FORBIDDEN"]


def test_a_key_of_another_role(tmp_path: Path) -> None:
    from ringback_broker.settings.schema import InvalidSetting

    ring = KeyRing(tmp_path)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    key = write_key_pair(ring.add("shop", "server"), tmp_path)
    with pytest.raises(InvalidSetting, match=r"shop\.key is the key of a server, not of an operator"):
        Broker(
            BrokerSettings(
                "tcp://127.0.0.1:0",
                "tcp://127.0.0.1:0",
                **ring.settings,
                http="127.0.0.1:0",
                http_token_file=str(token),
                dashboard=True,
                dashboard_key_file=str(key),
            )
        )
