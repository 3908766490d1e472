"""What the dashboard orders and calls: kick, drain, calls to all players, and the live tap."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.dashboards import OPTIONS, ask, get, post, running, url_of
from support.harness import BrokerProcess, eventually
from support.keyring import KeyRing

from ringback import CallbackError, Player, Server
from ringback.credentials import write_key_pair
from ringback_broker.http import dashboard_calls, dashboard_tap
from ringback_broker.http.dashboard_calls import ALL_ROW_CHARS, ALL_ROWS
from ringback_broker.http.dashboard_operator import DashboardOperator, Follower
from ringback_broker.http.dashboard_tap import MAX_FILTERS

TOKEN = "correct-horse-battery"


def done(url: str, path: str, **fields: Any) -> dict[str, Any]:
    status, found = post(url, path, **fields)
    assert status == 200 and found["took_ms"] >= 0, found
    return dict(found)


# -- orders


def test_kick(broker: BrokerProcess) -> None:
    url = url_of(broker)
    with Player(broker.players, 7) as player, Player(broker.players, "7") as other:
        assert "error" not in done(url, "kick", player_id=7, reason="it floods")
        eventually(lambda: not player.connected, "its session has ended")
        assert other.connected
        broker.process.wait_for(r"ordered: kick player 7 \(it floods\), by operator")
        broker.process.wait_for(r"the dashboard kicked player 7 for 127\.0\.0\.1: done")
        assert done(url, "kick", player_id=7)["error"]["code"] == "UNKNOWN_PLAYER"
        broker.process.wait_for(r"the dashboard kicked player 7 for 127\.0\.0\.1: UNKNOWN_PLAYER")


def test_drain(broker: BrokerProcess) -> None:
    url = url_of(broker)
    found = done(url, "drain", node="b")["error"]
    assert (found["code"], found["executed"]) == ("UNKNOWN_NODE", "no")
    assert "error" not in done(url, "drain", node=None, grace=1.5)
    broker.process.wait_for(r"draining for at most 1\.5 s")
    assert broker.process.wait() == 0
    assert "the dashboard drained the broker for 127.0.0.1: done" in "\n".join(broker.process.output())


def test_an_operator_without_the_right_gives_no_orders(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    key = write_key_pair(ring.add("dashboard", "operator", more="orders = false"), tmp_path)
    more = ("--http-token-file", str(token), "--dashboard-key-file", str(key))
    with BrokerProcess(options=(*OPTIONS, *ring.options, *more)) as broker:
        url = url_of(broker)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json"}
        for path, body in (("kick", b'{"player_id": 7}'), ("drain", b"{}")):
            status, found, _ = ask(f"{url}/api/{path}", body, **headers)
            assert (status, found["error"]["code"]) == (200, "FORBIDDEN"), found
        status, found, _ = ask(f"{url}/api/tap", b"{}", **headers)
        assert (status, found["error"]["code"]) == (503, "FORBIDDEN"), found
        assert ask(f"{url}/api/state", Authorization=f"Bearer {TOKEN}")[0] == 200


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("kick", {}, "a player ID must be an int or a str, not NoneType"),
        ("kick", {"player_id": 7, "reason": 7}, "reason must be a text of at most 200 characters"),
        ("kick", {"player_id": 7, "reason": "x" * 201}, "reason must be a text of at most 200 characters"),
        ("kick", {"player": 7}, "'player' is unknown; allowed are player_id, reason"),
        ("drain", {"grace": 0}, "grace must be above 0 and at most 86400 seconds, or null, not 0"),
        ("drain", {"grace": True}, "grace must be above 0 and at most 86400 seconds, or null, not True"),
        ("drain", {"node": "a b"}, "the name of a node must be 1 to 64 of A-Z"),
        ("trigger_all", {}, "a key must be a str, not NoneType"),
        (
            "trigger_all",
            {"key": "k", "player_id": 7},
            "'player_id' is unknown; allowed are key, payload, tim",
        ),
        (
            "trigger_all",
            {"key": "k", "timeout": 61},
            "timeout must be above 0 and at most 60 seconds, not 61",
        ),
        ("tap", {"key": "["}, "a pattern must close each [ with a ]"),
        ("tap", {"player_id": 0}, "a player ID must be from 1 to 2**63-1"),
        ("tap", {"errors": 1}, "errors must be true or false, not 1"),
        ("tap", {"after": -1}, "after must be the after of the response before, or null"),
        ("tap", {"payloads": True}, "'payloads' is unknown; allowed are key, player_id, errors, after"),
    ],
)
def test_wrong_fields(calm: str, path: str, fields: dict[str, Any], message: str) -> None:
    status, found = post(calm, path, **fields)
    assert (status, found["error"]["code"]) == (400, "BAD_REQUEST")
    assert found["error"]["message"].startswith(message)


# -- calls to all players


def test_all_players_are_called(broker: BrokerProcess) -> None:
    def fails(payload: Any) -> None:
        raise CallbackError("no", code="BUSY")

    url = url_of(broker)
    assert done(url, "trigger_all", key="k")["players"] == 0
    with Player(broker.players, 1) as one, Player(broker.players, 2) as two, Player(broker.players, 3):
        one.register_client_callback("k", lambda payload: payload)
        two.register_client_callback("k", fails)
        eventually(lambda: get(url, "players")["total"] == 3, "the dashboard knows all players")
        found = done(url, "trigger_all", key="k", payload={"a": 1})
        assert found["players"] == 3 and found["other_codes"] == 0
        assert found["counts"] == {"OK": 1, "BUSY": 1, "UNKNOWN_CALLBACK": 1}
        rows = {row["player"]: row for row in found["rows"]}
        assert rows[1]["results"] == [{"a": 1}] and rows[2]["error"]["message"] == "no"
        broker.process.wait_for(
            r"the dashboard triggered player 'k' \(all\) for 127\.0\.0\.1: 1 of 3 players replied"
        )


def test_a_payload_that_cannot_be_sent_to_anybody(broker: BrokerProcess) -> None:
    url = url_of(broker)
    with Player(broker.players, 1), Player(broker.players, 2):
        eventually(lambda: get(url, "players")["total"] == 2, "the dashboard knows both players")
        found = done(url, "trigger_all", key="k", payload=10**30)
        assert found["counts"] == {"INVALID_PAYLOAD": 2}


def test_the_outcomes_that_are_shown_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_calls, "ALL_IN_FLIGHT", 3)
    monkeypatch.setattr(dashboard_calls, "MAX_CODES", 2)

    def fails(code: str, payload: Any) -> None:
        raise CallbackError("", code=code)

    with running(dashboard=True) as (made, url):
        players = [Player(made.players, number).start() for number in range(1, ALL_ROWS + 6)]
        for number, player in enumerate(players):
            if number < 4:
                player.register_client_callback("k", lambda payload, code=f"C{number}": fails(code, payload))
            else:
                player.register_client_callback("k", lambda payload: "x" * 10_000)
        eventually(lambda: get(url, "players")["total"] == len(players), "all are there")
        found = done(url, "trigger_all", key="k")
        for player in players:
            player.close()
    assert found["players"] == len(players) and found["counts"]["OK"] == len(players) - 4
    assert len(found["counts"]) == 2 and found["other_codes"] == 3
    assert len(found["rows"]) == ALL_ROWS
    cut = [row for row in found["rows"] if "cut" in row]
    assert cut and all((len(row["cut"]), row["chars"]) == (ALL_ROW_CHARS, 10_004) for row in cut)


def test_calls_to_all_players_are_made_once_at_a_time(broker: BrokerProcess) -> None:
    url = url_of(broker)
    called = threading.Event()
    waiting: list[Any] = []

    def late(payload: Any, cb: Any) -> None:
        waiting.append(cb)
        called.set()

    with Player(broker.players, 1) as player, ThreadPoolExecutor(1) as pool:
        player.register_client_callback("late", late)
        eventually(lambda: get(url, "players")["total"] == 1, "the dashboard knows the player")
        first = pool.submit(done, url, "trigger_all", key="late", timeout=30)
        assert called.wait(30)
        status, found = post(url, "trigger_all", key="late")
        assert (status, found["error"]["message"]) == (
            429,
            "one call to all players at one time is allowed: try again later",
        )
        waiting[0]("done")
        assert first.result()["counts"] == {"OK": 1}


def test_the_time_is_for_all_calls_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_calls, "ALL_IN_FLIGHT", 1)
    with running(dashboard=True) as (made, url):
        players = [Player(made.players, number).start() for number in (1, 2, 3)]
        for player in players:
            player.register_client_callback("late", lambda payload, cb: None)
        eventually(lambda: get(url, "players")["total"] == 3, "all are there")
        found = done(url, "trigger_all", key="late", timeout=0.5)
        for player in players:
            player.close()
    assert found["counts"] == {"TIMEOUT": 3} and found["took_ms"] < 1500


# -- the live tap


class Tapped:
    """A page that taps."""

    def __init__(self, url: str, **fields: Any) -> None:
        self.url, self.fields = url, fields
        self.calls: list[dict[str, Any]] = []
        self.after: int | None = None
        self.dropped = 0
        self.read()

    def read(self) -> list[dict[str, Any]]:
        status, found = post(self.url, "tap", after=self.after, **self.fields)
        assert status == 200, found
        self.after = found["after"]
        self.calls += found["calls"]
        self.dropped += found["dropped"]
        return self.calls


def test_the_tap_shows_calls_that_match(broker: BrokerProcess) -> None:
    def fails(source: Any, payload: Any) -> None:
        raise CallbackError("no", code="SOLD_OUT")

    url = url_of(broker)
    with (
        Server(broker.backend) as server,
        Player(broker.players, 7) as player,
        Player(broker.players, "7") as other,
    ):
        server.register_server_callback("shop:items", lambda source, payload: payload)
        server.register_server_callback("shop:buy", fails)
        player.register_client_callback("local:coords", lambda payload: None)
        player.trigger_server_callback("shop:items").result()  # before the taps: not shown
        everything, of_keys = Tapped(url), Tapped(url, key="shop:*")
        of_player, errors = Tapped(url, player_id=7), Tapped(url, key="shop:*", errors=True)
        broker.process.wait_for(r"the dashboard watches calls of 'shop:\*', of all players, for 127\.0\.0\.1")
        broker.process.wait_for(r"the dashboard watches calls of all keys, of player 7, for 127\.0\.0\.1")
        player.trigger_server_callback("shop:items", "secret").result()
        assert player.trigger_server_callback("shop:buy").exception() is not None
        other.trigger_server_callback("shop:items").result()
        server.trigger_client_callback("local:coords", 7).result()
        eventually(lambda: len(everything.read()) == 4, "all calls are shown")
        eventually(lambda: len(of_keys.read()) == 3, "those of the keys")
        eventually(lambda: len(of_player.read()) == 3, "those of player 7")
        eventually(lambda: len(errors.read()) == 1, "those that failed")
        assert {(call["player"], call["key"]) for call in of_player.calls} == {
            *((7, "shop:items"), (7, "shop:buy"), (7, "local:coords")),
        }
        (failed,) = errors.calls
        assert (failed["outcome"], failed["side"], failed["player"]) == ("SOLD_OUT", "server", 7)
        assert set(failed) == {"unix_s", "side", "player", "key", "outcome", "ms"}
        assert "secret" not in str(everything.calls)
        assert everything.dropped == of_keys.dropped == 0


def test_the_tap_counts_what_it_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_tap, "MAX_ROWS", 5)
    with running(dashboard=True) as (made, url), Server(made.backend) as server:
        server.register_server_callback("echo", lambda source, payload: payload)
        with Player(made.players, 7) as player:
            tapped, errors = Tapped(url, key="echo"), Tapped(url, key="echo", errors=True)
            for number in range(40):
                player.trigger_server_callback("echo", number).result()

            def seen() -> bool:
                tapped.read()
                return len(tapped.calls) + tapped.dropped == 40

            eventually(seen, "each call is shown or counted as dropped")
            assert tapped.dropped > 0
            errors.read()
            assert (errors.calls, errors.dropped) == ([], 0)  # calls that do not match are not missed


def test_filters_are_bounded_and_end_when_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_tap, "IDLE_S", 0.5)
    with running(dashboard=True) as (made, url):
        taps = [Tapped(url, key=f"k{number}") for number in range(MAX_FILTERS)]
        watches = made.switchboard._operations._reports.watches

        def watched() -> set[str | None]:
            return {one.pattern for one, _ in list(watches._until)}  # in one step: another thread changes it

        assert watched() == {"k0", "k1", "k2", "k3"}
        status, found = post(url, "tap", key="one more")
        assert (status, found["error"]["message"]) == (
            429,
            "4 filters at one time are allowed: try again later",
        )

        def first_alone() -> bool:
            taps[0].read()
            return watched() == {"k0"}

        eventually(first_alone, "the watches of pages that are gone have ended")
        eventually(lambda: not watched(), "the last one has ended too")
        Tapped(url, key="k9")
        assert watched() == {"k9"}


def test_a_watch_is_renewed_while_a_page_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_tap, "WATCH_S", 1.0)
    with running(dashboard=True) as (made, url):
        tapped = Tapped(url, key="k")
        watches = made.switchboard._operations._reports.watches
        ends: set[float] = set()

        def renewed() -> bool:
            tapped.read()
            ends.update(list(watches._until.values()))
            return len(ends) >= 3

        eventually(renewed, "the watch ends later and later")


def test_a_fault_in_the_tap_is_logged_once_and_the_tap_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = DashboardOperator.calls
    broken = threading.Event()
    tries: list[float] = []

    async def calls(operator: DashboardOperator, follower: Follower) -> tuple[list[Any], dict[str, str]]:
        if broken.is_set():
            tries.append(time.monotonic())
            raise ValueError("a fault")
        return await asked(operator, follower)

    monkeypatch.setattr(DashboardOperator, "calls", calls)
    monkeypatch.setattr(dashboard_tap, "MAX_ASK_S", 0.5)
    monkeypatch.setattr(dashboard_tap, "RETRY_S", 0.5)
    with running(dashboard=True) as (made, url), Server(made.backend) as server:
        server.register_server_callback("echo", lambda source, payload: payload)
        with Player(made.players, 7) as player:
            tapped = Tapped(url, key="echo")
            broken.set()

            def tried_again() -> bool:
                tapped.read()
                return len(tries) > 2

            eventually(tried_again, "it asks again")
            assert all(later - earlier >= 0.45 for earlier, later in itertools.pairwise(tries))
            broken.clear()

            def seen() -> bool:
                player.trigger_server_callback("echo", 1).result()
                tapped.read()
                return bool(tapped.calls)

            eventually(seen, "calls are shown again")
    faults = [record for record in caplog.records if record.name == "ringback.broker.faults"]
    assert [record.getMessage() for record in faults] == [
        "following watched calls failed, and the dashboard goes on; this is a fault of ringback"
    ]
    assert faults[0].exc_info is not None and str(faults[0].exc_info[1]) == "a fault"
