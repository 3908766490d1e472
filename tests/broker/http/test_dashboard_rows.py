"""Lists that the broker's side filters, sorts and cuts; one player, one callback; and the history."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import tracemalloc
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.dashboards import ask, get, running, url_of
from support.harness import BrokerProcess, eventually

from ringback import CallbackError, Player, Server
from ringback.errors import BrokerUnreachable
from ringback.protocol.control import Subject
from ringback.protocol.latencies import count_latencies
from ringback_broker.http import dashboard_pace, dashboard_rows
from ringback_broker.http.dashboard_faults import pause
from ringback_broker.http.dashboard_history import EVERY_S, MAX_SERIES, POINTS, History
from ringback_broker.http.dashboard_operator import State
from ringback_broker.http.dashboard_pace import ASKING_PAUSES, LOOKING_PAUSES, Budget, Paced
from ringback_broker.http.dashboard_requests import LIMIT, MAX_LIMIT, BadRequest, PageRequest
from ringback_broker.http.dashboard_rows import Lists
from ringback_broker.http.dashboard_totals import Latencies, Totals, add_latencies


def refusal(url: str, path: str) -> str:
    """Return the message with which a path refuses a request."""
    status, found, _ = ask(f"{url}/api/{path}")
    assert (status, found["error"]["code"]) == (400, "BAD_REQUEST")
    return str(found["error"]["message"])


# -- lists


def test_filters_and_pages_reach_all_rows(broker: BrokerProcess) -> None:
    url, many = url_of(broker), MAX_LIMIT + 20
    with Server(broker.backend) as server, Player(broker.players, "Anna"), Player(broker.players, 70):
        for number in range(many):
            server.register_server_callback(f"key-{number:04}", lambda source, payload: None)
        eventually(lambda: get(url, "callbacks")["total"] == many, "all keys are registered")
        eventually(lambda: get(url, "players")["total"] == 2, "both players have joined")
        assert len(get(url, "callbacks")["rows"]) == LIMIT
        assert len(get(url, "callbacks", limit=str(MAX_LIMIT))["rows"]) == MAX_LIMIT
        seen = []
        for offset in range(0, many, 100):
            seen += [row["key"] for row in get(url, "callbacks", offset=str(offset), limit="100")["rows"]]
        assert seen == [f"key-{number:04}" for number in range(many)]
        beyond = get(url, "callbacks", offset="9999", limit="100")  # the rows may have become fewer
        assert (beyond["offset"], len(beyond["rows"])) == (500, 20)
        (row,) = get(url, "callbacks", match="KEY-0519")["rows"]
        assert row["key"] == "key-0519"
        found = get(url, "players", match="nn")
        assert (found["matching"], [row["player"] for row in found["rows"]]) == (1, ["Anna"])
        assert [row["player"] for row in get(url, "players", match="7")["rows"]] == [70]
        nobody = get(url, "players", match="nobody", offset="50")
        assert [nobody[name] for name in ("total", "matching", "offset", "rows")] == [2, 0, 0, []]


def test_any_column_sorts_both_ways(broker: BrokerProcess) -> None:
    url = url_of(broker)

    def order(path: str, column: str, **parameters: str) -> list[Any]:
        return [row[column] for row in get(url, path, sort=column, **parameters)["rows"]]

    with (
        Server(broker.backend) as server,
        Player(broker.players, "bot-10") as busy,
        Player(broker.players, "Bot-2"),
        Player(broker.players, 12),
        Player(broker.players, 7),
    ):
        server.register_server_callback("b", lambda source, payload: None)
        server.register_server_callback("a", lambda source, payload: None)
        for _ in range(3):
            busy.trigger_server_callback("b").result()
        eventually(lambda: 3 in order("players", "calls"), "the calls are reported")
        assert order("players", "player") == [7, 12, "Bot-2", "bot-10"]
        assert order("players", "player", order="descending") == ["bot-10", "Bot-2", 12, 7]
        assert order("players", "calls", order="descending") == [3, 0, 0, 0]
        assert order("players", "calls", order="ascending") == [0, 0, 0, 3]
        connected = order("players", "connected_s")
        assert connected == sorted(connected)
        # Rows without a value are last either way.
        eventually(lambda: any(order("callbacks", "p50_ms")), "the latencies are reported")
        for way in ("ascending", "descending"):
            assert [one is None for one in order("callbacks", "p50_ms", order=way)] == [False, True]
        assert order("callbacks", "key", order="descending") == ["b", "a"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("players?sort=key", "sort must be one of node, player, connected_s,"),
        ("callbacks?sort=failed", "sort must be one of node, key, side,"),
        ("players?order=up", "order must be ascending or descending, not 'up'"),
        ("players?limit=0", "limit must be a number from 1 to 500, not '0'"),
        ("players?limit=501", "limit must be a number from 1 to 500, not '501'"),
        ("players?offset=-1", "offset must be a number from 0 to"),
        ("players?offset=%C2%B2", "offset must be a number from 0 to"),
        ("callbacks?filter=x", "'filter' is unknown; allowed are match, sort, order, offset, limit"),
        ("state?player=7", "'player' is unknown; allowed are none"),
        ("player", 'id must be a player ID in JSON: 7, or "anna" in quotes'),
        ("player?id=anna", 'id must be a player ID in JSON: 7, or "anna" in quotes'),
        ("player?id=0", "a player ID must be from 1 to 2**63-1"),
        ("player?id=[7]", "a player ID must be an int or a str, not list"),
        ("player?id=7&node=a", "'node' is unknown; allowed are id"),
        ("callback?key=k", 'side must be "server" or "player"'),
        ("history?key=k&side=operator", 'side must be "server" or "player"'),
        ("schema?side=server&key=k&x=1", "'x' is unknown; allowed are key, side"),
    ],
)
def test_wrong_parameters(calm: str, query: str, message: str) -> None:
    assert refusal(calm, query).startswith(message)


def page(**given: str) -> PageRequest:
    return PageRequest.read(Subject.PLAYERS, given)


def test_the_same_list_is_made_once_for_each_answer() -> None:
    rows = [{"player": number} for number in range(3 * dashboard_rows.SORTED_AT_ONCE, 0, -1)]

    async def look() -> None:
        budget = Budget(LOOKING_PAUSES)
        lists = Lists(budget)
        found = [
            await lists.page(Subject.PLAYERS, rows, 1, page(sort="player", offset=str(offset)))
            for offset in (0, 50)
        ]
        assert [row["player"] for one in found for row in one["rows"]] == list(range(1, 101))
        spent_s = budget.left_s
        assert spent_s > 0
        # The answer is a new one, but a new list may not be made yet: the old order, with the new figures.
        changed = [{**row, "calls": 9} for row in rows if row["player"] != 2]
        again = await lists.page(Subject.PLAYERS, changed, 2, page(sort="player", limit="3"))
        assert (again["total"], again["matching"]) == (len(rows) - 1, len(rows))
        assert again["rows"] == [{"player": 1, "calls": 9}, {"player": 3, "calls": 9}]

    asyncio.run(look())


def test_too_many_different_lists_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_rows, "MAX_WAIT_S", 0.2)

    async def look() -> None:
        budget = Budget(LOOKING_PAUSES)
        lists = Lists(budget)
        await lists.page(Subject.PLAYERS, [{"player": 7}], 1, page(match="7"))
        budget.spend(1.0)
        with pytest.raises(BadRequest, match="too many different filters and orders at one time") as caught:
            await lists.page(Subject.PLAYERS, [{"player": 7}], 1, page(match="8"))
        assert caught.value.status == 429
        found = await lists.page(Subject.PLAYERS, [{"player": 7}], 1, page(match="7"))
        assert found["matching"] == 1

    asyncio.run(look())


def test_the_number_of_lists_is_bounded() -> None:
    async def look() -> None:
        lists = Lists(Budget(0))
        for number in range(3 * dashboard_rows.MAX_LISTS):
            await lists.page(Subject.PLAYERS, [{"player": 7}], 1, page(match=str(number)))
        assert len(lists._kept) == dashboard_rows.MAX_LISTS

    asyncio.run(look())


# -- how often the broker is asked


@dataclass
class Answer:
    """An answer of a broker that knows how often it was asked."""

    number: int
    missing: dict[str, str] = field(default_factory=dict)


def paced(budget: Budget, failures: list[Exception] | None = None) -> Paced[Answer]:
    async def ask(before: Answer | None) -> Answer:
        if failures:
            raise failures.pop()
        return Answer(1 if before is None else before.number + 1)

    return Paced(ask, budget)


def test_an_answer_serves_all_until_the_next_one_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> None:
        budget = Budget(ASKING_PAUSES)
        question = paced(budget)
        found = await asyncio.gather(*(question.latest() for _ in range(20)))
        assert {answer.number for answer in found} == {1}
        monkeypatch.setattr(dashboard_pace, "POLL_S", 0.0)
        question._next_at = 0.0
        budget.spend(60.0)
        assert (await question.latest()).number == 1  # it is due, but the time for questions is used up
        question._old_at = 0.0
        assert (await question.latest()).number == 2  # too old

    asyncio.run(look())


def test_a_failure_is_told_to_all_and_asked_again() -> None:
    async def look() -> None:
        budget = Budget(ASKING_PAUSES)
        question = paced(budget, [BrokerUnreachable("it is gone")])
        for _ in range(2):
            with pytest.raises(BrokerUnreachable):
                await question.latest()
        budget.spend(60.0)
        question._next_at = 0.0
        assert (await question.latest()).number == 1

    asyncio.run(look())


# -- one player, one callback


def test_one_player(broker: BrokerProcess) -> None:
    url = url_of(broker)
    with Player(broker.players, 7) as player, Player(broker.players, "7"):
        player.register_client_callback("k", lambda payload: None)
        eventually(lambda: get(url, "player", id="7")["events"], "its event is there")
        found = get(url, "player", id="7")
        assert [row["player"] for row in found["rows"]] == [7]
        assert [(row["event"], row["player"]) for row in found["events"]] == [("joined", 7)]
        assert [row["player"] for row in get(url, "player", id='"7"')["rows"]] == ["7"]
        assert get(url, "player", id="8")["rows"] == get(url, "player", id="8")["events"] == []

    def has_left() -> bool:
        found = get(url, "player", id="7")
        return not found["rows"] and [row["event"] for row in found["events"]] == ["joined", "left"]

    eventually(has_left, "it has left, and its events are still there")


def test_one_callback(broker: BrokerProcess) -> None:
    def sold_out(source: Any, payload: Any) -> None:
        raise CallbackError("all gone", code="SOLD_OUT")

    url = url_of(broker)
    with Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("shop:buy", sold_out, limit="100/s")
        player.register_client_callback("shop:buy", lambda payload: None)
        assert player.trigger_server_callback("shop:buy").exception() is not None

        def counted() -> bool:
            rows = get(url, "callback", key="shop:buy", side="server")["rows"]
            return [row["failed"] for row in rows] == [{"APPLICATION": 1}]

        eventually(counted, "the failure is counted by its code")
        (row,) = get(url, "callback", key="shop:buy", side="server")["rows"]
        assert (row["key"], row["side"], row["endpoints"], row["calls"]) == ("shop:buy", "server", 1, 1)
        (row,) = get(url, "callback", key="shop:buy", side="player")["rows"]
        assert (row["side"], row["calls"]) == ("player", 0)
        assert get(url, "callback", key="nothing", side="server")["rows"] == []


def test_recent_failures_need_no_watch(broker: BrokerProcess) -> None:
    def sold_out(source: Any, payload: Any) -> None:
        raise CallbackError("all gone", code="SOLD_OUT", data="secret")

    url = url_of(broker)
    server = Server(broker.backend)
    server.register_server_callback("shop:buy", sold_out)
    with server, Player(broker.players, 7) as player, Player(broker.players, "7") as other:
        for _ in range(3):
            assert player.trigger_server_callback("shop:buy", "secret").exception() is not None
        assert other.trigger_server_callback("shop:by").exception() is not None

        def failures(path: str, **of: str) -> list[tuple[Any, ...]]:
            found = get(url, path, **of)["failures"]
            times = [row["unix_s"] for row in found]
            assert times == sorted(times, reverse=True)
            assert all(row["ms"] is None or row["ms"] > 0 for row in found)
            return [(row["player"], row["side"], row["key"], row["code"]) for row in found]

        sold = [(7, "server", "shop:buy", "SOLD_OUT")] * 3
        mistyped = [("7", "server", "shop:by", "UNKNOWN_CALLBACK")]
        eventually(lambda: failures("player", id="7") == sold, "those of a player")
        eventually(lambda: failures("player", id='"7"') == mistyped, "those of another one")
        assert failures("callback", key="shop:buy", side="server") == sold
        assert failures("callback", key="", side="server") == mistyped  # it is counted with all others
        assert failures("callback", key="shop:buy", side="player") == failures("player", id="8") == []
        assert "secret" not in str(get(url, "player", id="7")["failures"])


# -- the history


def test_the_history_begins_before_anybody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    from ringback_broker.http import dashboard, dashboard_history

    monkeypatch.setattr(dashboard, "EVERY_S", 0.3)
    assert dashboard_history.EVERY_S == EVERY_S
    with running(dashboard=True) as (made, url), Server(made.backend) as server:
        server.register_server_callback("echo", lambda source, payload: payload)
        with Player(made.players, 7) as player:
            for number in range(40):
                player.trigger_server_callback("echo", number).result()

        def seen() -> bool:
            found = get(url, "history", key="echo", side="server")
            return any(found["rate"])

        eventually(seen, "its calls are in the series of the callback")
        found = get(url, "history")
        assert any(found["rate"]) and not any(found["errors"])
        assert len({len(found[name]) for name in ("age_s", "rate", "errors", "server_p50_ms")}) == 1
        assert found["age_s"] == sorted(found["age_s"], reverse=True)
        unknown = get(url, "history", key="nothing", side="server")
        assert len(unknown["age_s"]) >= len(found["age_s"]) and set(unknown["rate"]) == {None}


def test_a_fault_in_the_history_is_logged_once_and_the_history_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ringback_broker.http import dashboard

    broken = threading.Event()
    pauses: list[tuple[asyncio.Event, float]] = []

    class Breaking(History):
        def take(self, state: State, now: float) -> None:
            if broken.is_set():
                raise ValueError("a fault")
            super().take(state, now)

    async def paused(closing: asyncio.Event, pause_s: float) -> None:
        pauses.append((closing, pause_s))
        await pause(closing, pause_s)

    def first_tries() -> list[list[float]]:
        """Return the first pauses of each dashboard: another one may run in this process."""
        seen = list(pauses)
        return [[pause_s for one, pause_s in seen if one is closing][:4] for closing, _ in seen]

    broken.set()
    monkeypatch.setattr(dashboard, "EVERY_S", 0.05)
    monkeypatch.setattr(dashboard, "RETRY_S", 0.15)
    monkeypatch.setattr(dashboard, "pause", paused)
    monkeypatch.setattr(dashboard, "History", Breaking)
    with running(dashboard=True) as (_, url):
        eventually(lambda: [0.1, 0.15, 0.15, 0.15] in first_tries(), "it tries again")
        assert get(url, "history")["age_s"] == []
        broken.clear()
        eventually(lambda: get(url, "history")["age_s"], "points are added again")
    faults = [record for record in caplog.records if record.name == "ringback.broker.faults"]
    assert [record.getMessage() for record in faults] == [
        "keeping the history failed, and the dashboard goes on; this is a fault of ringback"
    ]
    assert faults[0].exc_info is not None and str(faults[0].exc_info[1]) == "a fault"


def state_of(
    rows: list[dict[str, Any]], nodes: tuple[str, ...] = ("",), latencies: Latencies | None = None
) -> State:
    totals = Totals({node: {} for node in nodes}, {}, {})
    return State(1, [], {}, rows, {}, {}, {}, {}, None, [], [], latencies or {}, totals)


def row(key: str, calls: int, errors: int = 0, p99_ms: float | None = 2.0, node: str = "") -> dict[str, Any]:
    where = {"node": node} if node else {}
    half = None if p99_ms is None else p99_ms / 2
    figures = {"calls": calls, "errors": errors, "rate": 1.0, "p50_ms": half, "p99_ms": p99_ms}
    return {"key": key, "side": "server", **figures, **where}


def test_points_are_what_grew_since_the_point_before() -> None:
    history = History()
    history.take(state_of([row("a", 100)]), 0.0)
    history.take(state_of([row("a", 150, 10), row("rare", 1, p99_ms=900.0), row("b", 500)]), 5.0)
    history.skip(10.0)
    history.take(state_of([row("a", 150, 10), row("b", 480, p99_ms=None)]), 15.0)
    of_a = history.fields(17.0, ("a", "server"))
    assert of_a["age_s"] == [17.0, 12.0, 7.0, 2.0]
    assert (of_a["rate"], of_a["errors"]) == ([None, 10.0, None, 0.0], [None, 2.0, None, 0.0])
    assert of_a["p99_ms"] == [None, 2.0, None, 2.0]
    everything = history.fields(17.0)
    assert (everything["rate"], everything["errors"]) == ([None, 110.0, None, 0.0], [None, 2.0, None, 0.0])
    assert history.fields(17.0, ("b", "server"))["rate"] == [None, 100.0, None, None]  # counts began anew


def test_percentiles_of_all_calls_are_those_of_single_calls() -> None:
    """90 calls of the server take 10 ms, 8 take 100 ms, and 2 take 1 s. Two nodes report them."""
    counts: dict[int, int] = {}
    count_latencies([0.01] * 90 + [0.1] * 8 + [1.0] * 2, counts)
    fast, slower, slowest = sorted(counts)
    rows = [
        {"node": "a", "side": "server", "classes": [fast, slowest], "counts": [60, 2]},
        {"node": "b", "side": "server", "classes": [fast, slower], "counts": [30, 8]},
        {"node": "b", "side": "player", "classes": [slower], "counts": [1]},
    ]
    history = History()
    latencies = add_latencies(rows)
    assert latencies["server"] == counts
    both = ("a", "b")
    history.take(state_of([row("k", 1, node="a")], both), 0.0)
    history.take(state_of([row("k", 2, node="a")], both, latencies), 5.0)
    found = history.fields(5.0)
    shown = {name: found[name][1] for name in found if name.endswith("_ms")}
    assert shown == {
        "server_p50_ms": pytest.approx(10, rel=0.02),
        "server_p99_ms": pytest.approx(1000, rel=0.02),
        "player_p50_ms": pytest.approx(100, rel=0.02),
        "player_p99_ms": pytest.approx(100, rel=0.02),
    }
    assert {found[name][0] for name in shown} == {None}


def test_the_chart_of_all_calls_has_the_latencies_of_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    from ringback_broker.http import dashboard

    monkeypatch.setattr(dashboard, "EVERY_S", 0.3)
    with running(dashboard=True) as (made, url), Server(made.backend) as server:
        held = threading.Event()
        server.register_server_callback("quick", lambda source, payload: None)
        server.register_server_callback("slow", lambda source, payload: held.wait(0.2) and None)
        with Player(made.players, 7) as player:
            player.register_client_callback("where", lambda payload: held.wait(0.1) and None)
            for _ in range(30):
                player.trigger_server_callback("quick").result()
            player.trigger_server_callback("slow").result()
            server.trigger_client_callback("where", 7).result()

            def latest() -> dict[str, float]:
                found = get(url, "history")
                return {name: found[name][-1] or 0.0 for name in found if name.endswith("_ms")}

            eventually(lambda: latest()["server_p99_ms"] and latest()["player_p99_ms"], "they are reported")
            found = latest()
        # One call of 31 is slow: it is the p99, and the p50 is that of the others.
        assert found["server_p50_ms"] < 100 and found["server_p99_ms"] >= 195
        assert found["player_p50_ms"] == found["player_p99_ms"] >= 98


def test_a_node_that_was_missing_makes_no_peak() -> None:
    history = History()
    both, one = ("a", "b"), ("a",)
    history.take(state_of([row("k", 10, node="a"), row("k", 1000, node="b")], both), 0.0)
    history.take(state_of([row("k", 15, node="a")], one), 5.0)
    history.take(state_of([row("k", 20, node="a"), row("k", 1100, node="b")], both), 10.0)
    history.take(state_of([row("k", 25, node="a"), row("k", 1110, node="b")], both), 15.0)
    assert history.fields(15.0, ("k", "server"))["rate"] == [None, 1.0, 1.0, 3.0]


def test_the_memory_of_the_history_is_fixed() -> None:
    """Whatever is called, and however long: MAX_SERIES callbacks that were called last, an hour each."""
    history = History()
    tracemalloc.start()
    try:
        for number in range(POINTS + 10):
            keys = [f"key-{number}-{other}" for other in range(5)]
            history.take(state_of([row("busy", number), *(row(key, 1) for key in keys)]), 5.0 * number)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(history._series) == MAX_SERIES
    assert size < 3 * 2**20
    now = 5.0 * (POINTS + 9)
    busy = history.fields(now, ("busy", "server"))
    assert busy["age_s"] == [5.0 * (POINTS - 1 - place) for place in range(POINTS)]
    assert busy["rate"] == [0.2] * POINTS  # it is called all the time, so no other key takes its place
    assert set(history.fields(now, ("key-1-1", "server"))["rate"]) == {None}
    assert not any(math.isnan(value) for value in busy["p99_ms"])


def test_the_document_says_what_is_kept() -> None:
    from support.harness import ROOT

    text = re.sub(r"\s+", " ", (ROOT / "docs" / "dashboard.md").read_text())
    assert f"every {EVERY_S:g} s" in text and POINTS * EVERY_S == 3600.0
    assert f"{MAX_SERIES} callbacks" in text
