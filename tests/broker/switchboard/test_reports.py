"""Figures of calls at the broker: trusted endpoints report them, and operators list and watch calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.switchboards import Desk, Peer

from ringback.errors import Code
from ringback.protocol import control
from ringback.protocol.frames import Role
from ringback.protocol.limits import MAX_FRAME_BYTES
from ringback.protocol.reports import (
    CLASSES,
    LATENCY_BOUNDS_S,
    MAX_CALLBACKS,
    CallbackFigures,
    CallFilter,
    FailedCall,
    LatencyCounts,
    PlayerFigures,
    PlayerInFlight,
    WatchedCall,
    way,
)
from ringback_broker.operations.snapshot import Lags
from ringback_broker.peers.connection import Side

MS = LATENCY_BOUNDS_S.index(0.001)
"""The class of latencies from 0.5 to 1 ms."""


def figures(
    key: str = "k", side: Role = Role.SERVER, in_flight: int = 0, answered: int = 0, **failed: int
) -> CallbackFigures:
    counts = [0] * CLASSES
    counts[MS] = answered
    return CallbackFigures(key, side, in_flight, answered * 0.001, tuple(counts), failed)


def traced(key: str = "k", player_id: Any = 7, **fields: Any) -> WatchedCall:
    call = WatchedCall(0.5, Role.SERVER, player_id, key, "OK", 0.001, b"\x01", b"\x91\x02")
    return call._replace(**fields)


def failed(key: str = "k", player_id: Any = 7, **fields: Any) -> FailedCall:
    return FailedCall(0.5, Role.SERVER, player_id, key, "TIMEOUT", 0.001)._replace(**fields)


def rows(operator: Peer, subject: control.Subject, after: int = 0) -> list[Any]:
    operator.take()
    operator.say(control.Query(1, subject, after))
    [answer] = operator.told()
    assert isinstance(answer, control.Answer) and answer.rows is not None
    return list(answer.rows)


def order(operator: Peer, **fields: Any) -> control.Answer:
    """Order the broker to watch calls. Return the answer. A WATCH may come before it."""
    operator.take()
    operator.say(control.Order(1, control.What.WATCH, **fields))
    [answer] = [frame for frame in operator.told() if isinstance(frame, control.Answer)]
    return answer


def watches(peer: Peer) -> control.Watch | None:
    """Return the latest WATCH that a peer got, or None."""
    told = [frame for frame in peer.told() if isinstance(frame, control.Watch)]
    return told[-1] if told else None


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_reported_figures_are_listed(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server(("k",))
    server.say(
        control.Report((figures(in_flight=3, answered=90, TIMEOUT=10), figures("", Role.PLAYER, FORBIDDEN=1)))
    )
    desk.now += 20.0
    server.say(control.Report((figures(in_flight=1, answered=100),)))
    [first, ours] = rows(operator, control.Subject.CALLBACKS)
    assert first[:6] == ["", "player", 0, 0, 1, 1] and first[9] == {"FORBIDDEN": 1}
    assert ours[:7] == ["k", "server", 1, 1, 200, 10, 9.524]
    assert ours[7:9] == [None, None]  # an endpoint that reports no fine classes
    server.leave()
    [_, ours] = rows(operator, control.Subject.CALLBACKS)
    assert ours[:6] == ["k", "server", 0, 0, 200, 10]


def test_rates_are_of_the_last_minute(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    server.say(control.Report((figures(answered=600),)))
    desk.two_ticks()
    found = []
    for _ in range(8):
        found.append(rows(operator, control.Subject.CALLBACKS)[0][6])
        desk.now += 10.0
        server.say(control.Report())
    assert found[0] > found[3] > 0 and found[5] == pytest.approx(12, rel=0.2)
    assert rows(operator, control.Subject.CALLBACKS)[0][4:] == [600, 0, 0.0, None, None, {}, None, False, 0]


def test_the_rate_is_right_from_the_first_report_on(desk: Desk) -> None:
    """Ten calls a second. A report is of the second before it, also the first one."""
    operator, server = desk.operator(), desk.server()
    for _ in range(200):
        server.say(control.Report((figures(answered=10),)))
        assert rows(operator, control.Subject.CALLBACKS)[0][6] == pytest.approx(10.0)
        desk.now += 0.9  # the next report is not there yet
        assert rows(operator, control.Subject.CALLBACKS)[0][6] == pytest.approx(10.0)
        desk.now += 0.1


def test_reports_may_come_as_seldom_as_once_a_minute() -> None:
    desk = Desk(report=60.0)
    operator, server = desk.operator(), desk.server()
    for _ in range(5):
        desk.now += 60.0
        server.say(control.Report((figures(answered=600),), latencies=(latencies(c547=600),)))
        row = rows(operator, control.Subject.CALLBACKS)[0]
        assert row[6] == pytest.approx(10.0) and row[7] == 50.1
        desk.now += 59.0
        assert rows(operator, control.Subject.CALLBACKS)[0][6] == pytest.approx(10.0)
        desk.now -= 59.0


def latencies(key: str = "k", **counts: int) -> LatencyCounts:
    """Return counts by fine class: c3=1 is one call in class 3."""
    return LatencyCounts(key, Role.SERVER, tuple(int(name[1:]) for name in counts), tuple(counts.values()))


def test_percentiles_are_of_the_last_minute(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    slow, fast = latencies(c547=99, c662=1), latencies(c313=100)  # 50 ms; 0.49 s; 0.49 ms
    server.say(control.Report((figures(answered=100),), latencies=(slow,)))
    assert rows(operator, control.Subject.CALLBACKS)[0][7:9] == [50.1, 50.1]
    server.say(control.Report((figures(answered=1),), latencies=(latencies(c662=1),)))
    assert rows(operator, control.Subject.CALLBACKS)[0][7:9] == [50.1, 489.0]
    desk.now += 70.0
    server.say(control.Report((figures(answered=100),), latencies=(fast,)))
    assert rows(operator, control.Subject.CALLBACKS)[0][7:9] == [0.487, 0.487]
    server.say(control.Report(latencies=(latencies("never heard of", c5=1),)))
    assert [row[0] for row in rows(operator, control.Subject.CALLBACKS)] == ["k"]


def test_latencies_of_all_calls_are_listed_by_side(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    assert rows(operator, control.Subject.LATENCIES) == []
    both = (
        latencies("a", c5=1, c500=3),
        latencies("b", c5=2),
        latencies("c", c7=1)._replace(side=Role.PLAYER),
    )
    server.say(control.Report((figures("a"),), latencies=both))
    desk.now += 20.0
    server.say(control.Report(latencies=(latencies("a", c6=4),)))
    assert rows(operator, control.Subject.LATENCIES) == [
        ["player", [7], [1]],
        ["server", [5, 6, 500], [3, 4, 3]],
    ]
    desk.now += 45.0
    assert rows(operator, control.Subject.LATENCIES) == [["server", [6], [4]]]
    desk.now += 20.0
    assert rows(operator, control.Subject.LATENCIES) == []


def test_a_long_rest_does_not_count_as_the_last_minute(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    server.say(control.Report((figures(answered=5),)))
    desk.now += 1000.0
    server.say(control.Report((figures(answered=8),)))
    assert rows(operator, control.Subject.CALLBACKS)[0][4:7] == [13, 0, 8.0]


def test_more_callbacks_than_are_counted_apart(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    server.say(control.Report(tuple(figures(f"k{n}", answered=1) for n in range(MAX_CALLBACKS + 7))))
    found = {row[0]: row[4] for row in rows(operator, control.Subject.CALLBACKS)}
    assert len(found) == MAX_CALLBACKS + 1 and found[""] == 7
    server.say(control.Report((figures("one more", in_flight=5),)))
    assert [row[3] for row in rows(operator, control.Subject.CALLBACKS) if row[0] == ""] == [0]
    totals = desk.switchboard.snapshot(desk.now, Lags()).callbacks
    assert totals["k1", Role.SERVER].calls == 1 and totals["", Role.SERVER].calls == 7


@pytest.mark.parametrize("subject", control.Subject)
def test_all_columns_have_names(desk: Desk, subject: control.Subject) -> None:
    operator, server = desk.operator(), desk.server(("k",))
    desk.player(7)
    server.say(control.Keys(("k",), schemas={"k": "{}"}))
    server.say(control.Report(calls=(traced(),), failures=(failed(),), latencies=(latencies(c3=1),)))
    [*_, row] = rows(operator, subject)
    assert list(control.named(subject, row).values()) == list(row)
    assert len(control.COLUMNS[subject]) == len(row)


def test_the_listed_terms_are_the_latest(desk: Desk) -> None:
    operator, server = desk.operator(), desk.connect(Side.BACKEND)
    server.say(control.Hello(Role.SERVER, keys=("k",), terms={"k": "for operators only"}))
    player = desk.connect()
    player.say(control.Hello(Role.PLAYER, 7, ("k",), terms={"k": "what it says"}))
    assert [row[10] for row in rows(operator, control.Subject.CALLBACKS)] == [None, "for operators only"]
    server.say(control.Keys(("k",)))
    assert [row[10] for row in rows(operator, control.Subject.CALLBACKS)] == [None, None]


def test_the_listed_schemas_are_the_latest(desk: Desk) -> None:
    operator, server = desk.operator(), desk.connect(Side.BACKEND)
    server.say(control.Hello(Role.SERVER, keys=("k", "b"), schemas={"k": "1", "other": "{}"}))
    player = desk.connect()
    player.say(control.Hello(Role.PLAYER, 7, ("k",), schemas={"k": "2"}))
    assert rows(operator, control.Subject.SCHEMAS) == [["k", "player", "2"], ["k", "server", "1"]]
    assert [row[:2] for row in rows(operator, control.Subject.CALLBACKS) if row[11]] == [
        *(["k", "player"], ["k", "server"]),
    ]
    server.say(control.Keys(("k", "b"), schemas={"b": "3"}))
    assert rows(operator, control.Subject.SCHEMAS) == [["b", "server", "3"], ["k", "player", "2"]]
    player.leave()
    server.leave()
    assert rows(operator, control.Subject.SCHEMAS) == []


def test_schemas_come_in_pages_of_a_bounded_size(desk: Desk) -> None:
    operator, server = desk.operator(), desk.connect(Side.BACKEND)
    keys = tuple(f"{number:02}" for number in range(40))
    server.say(control.Hello(Role.SERVER, keys=keys, schemas=dict.fromkeys(keys, "x" * 4000)))
    pages: list[list[str]] = []
    after: int | None = 0
    while after is not None:
        operator.say(control.Query(1, control.Subject.SCHEMAS, after))
        [answer] = [frame for frame in operator.told() if isinstance(frame, control.Answer)]
        pages.append([row[0] for row in answer.rows or ()])
        after = answer.next
    assert [len(page) for page in pages] == [16, 16, 8]
    assert [key for page in pages for key in page] == list(keys)


def test_calls_of_players_are_added_up(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    desk.player(7)
    for _ in range(2):
        server.say(control.Report(players=(PlayerFigures(7, 10, 1), PlayerFigures(8, 5, 5))))
    [row] = rows(operator, control.Subject.PLAYERS)
    assert (row[0], row[7:]) == (7, [20, 2, 0.25, 0])


def in_flight(operator: Peer) -> dict[Any, int]:
    return {row[0]: row[10] for row in rows(operator, control.Subject.PLAYERS)}


def reporting(*counts: tuple[Any, int]) -> control.Report:
    return control.Report(in_flight=tuple(PlayerInFlight(*count) for count in counts))


def test_calls_in_flight_of_a_player_are_the_latest_of_all_endpoints(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    for player_id in (7, "7", 8):
        desk.player(player_id)
    server.say(reporting((7, 3), ("7", 1)))
    operator.say(reporting((7, 2)))
    assert in_flight(operator) == {7: 5, "7": 1, 8: 0}
    server.say(reporting((7, 4)))
    server.say(control.Report(players=(PlayerFigures(7, 10, 1),)))  # of an older endpoint: it says nothing
    assert in_flight(operator) == {7: 6, "7": 1, 8: 0}
    server.say(reporting((7, 0)))
    assert in_flight(operator) == {7: 2, "7": 1, 8: 0}


def test_calls_in_flight_are_forgotten_with_their_endpoint_or_their_player(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    leaving, _ = desk.player(7), desk.player(8)
    server.say(reporting((7, 3), (8, 1), (9, 1)))  # nobody has the ID 9
    operator.say(reporting((8, 2)))
    leaving.leave()
    desk.player(7), desk.player(9)
    assert in_flight(operator) == {7: 0, 8: 3, 9: 0}
    server.leave()
    assert in_flight(operator) == {7: 0, 8: 2, 9: 0}
    kept = desk.switchboard._operations._reports.in_flight._counts
    operator.say(reporting((8, 0)))
    assert kept == {}


def test_a_broker_that_wants_no_reports() -> None:
    desk = Desk(report=0.0)
    server = desk.connect(Side.BACKEND)
    server.say(control.Hello(Role.SERVER))
    [welcome] = server.told()
    assert isinstance(welcome, control.Welcome) and welcome.report_ms is None
    operator = desk.operator()
    assert order(operator, for_ms=1000).code is None and watches(server) is None


def test_watching(desk: Desk) -> None:
    operator, server, player = desk.operator(), desk.server(), desk.player(7)
    for peer in (operator, server, player):
        peer.take()
    assert order(operator, key="k*", player_id=7, payloads=True, for_ms=5000).code is None
    assert watches(server) == control.Watch((CallFilter(7, "k*", True),), 250)
    assert not player.take()
    ordered = "watch for 5 s the calls of 'k*' to and from player 7, by operator 1"
    assert any(ordered == detail for _, _, detail in desk.wire.reports)
    order(operator, key="k*", player_id=7, payloads=True, for_ms=5000)
    assert watches(server) is None  # nothing new
    desk.now += 5.1
    desk.switchboard.tick(desk.now)
    assert watches(server) == control.Watch((), 1000)
    order(operator, for_ms=60_000)
    assert watches(server) == control.Watch((CallFilter(None, None, False),), 250)
    order(operator, for_ms=0)
    assert watches(server) == control.Watch((), 1000)


def test_endpoints_that_join_later_learn_of_watches(desk: Desk) -> None:
    order(desk.operator(), for_ms=60_000)
    server = desk.connect(Side.BACKEND)
    server.say(control.Hello(Role.SERVER))
    assert [type(frame) for frame in server.told()] == [control.Welcome, control.Watch]


def test_watched_calls_are_listed_in_pages(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    assert rows(operator, control.Subject.CALLS) == []
    server.say(control.Report(calls=tuple(traced(f"k{n}") for n in range(250)), lost=3))
    assert desk.counters.watched_calls_lost == 3
    first = rows(operator, control.Subject.CALLS)
    assert len(first) == 100 and first[0][0] == 1
    assert first[0][1:] == [1.8e9 - 0.5, "server", 7, "k0", "OK", 0.001, b"\x01", b"\x91\x02"]
    last = rows(operator, control.Subject.CALLS, 200)
    assert [row[0] for row in last] == list(range(201, 251))
    assert rows(operator, control.Subject.CALLS, 250) == []
    for _ in range(4):
        server.say(control.Report(calls=(traced(),) * 250))
    assert rows(operator, control.Subject.CALLS)[0][0] == 251


def test_watched_calls_are_logged_if_an_operator_wants_it(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    order(operator, player_id=7, log=True, for_ms=60_000)
    order(operator, key="other", for_ms=60_000)
    server.say(control.Report(calls=(traced(), traced(player_id="7"), traced("other", 8))))
    assert [(call.key, call.player_id) for call in desk.wire.calls] == [("k", 7)]


def test_watches_are_bounded(desk: Desk) -> None:
    operator = desk.operator()
    for number in range(16):
        assert order(operator, player_id=number + 1, for_ms=60_000).code is None
    assert order(operator, player_id=99, for_ms=60_000).code is Code.OVERLOADED
    assert order(operator, player_id=16, for_ms=0).code is None
    assert order(operator, player_id=99, for_ms=60_000).code is None


# -- failed calls


def test_failed_calls_are_listed_without_a_watch(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server(("k",))
    assert rows(operator, control.Subject.FAILURES) == []
    server.say(control.Report((figures(TIMEOUT=1),), failures=(failed(),), failures_lost=3))
    server.say(control.Report(failures=(failed(player_id="7", side=Role.PLAYER, took_s=0.0),)))
    assert rows(operator, control.Subject.FAILURES) == [
        [1, 1.8e9 - 0.5, "server", 7, "k", "TIMEOUT", 0.001],
        [2, 1.8e9 - 0.5, "player", "7", "k", "TIMEOUT", 0.0],
    ]
    assert [row[0] for row in rows(operator, control.Subject.FAILURES, 1)] == [2]
    assert desk.counters.failed_calls_lost == 3
    server.leave()
    assert len(rows(operator, control.Subject.FAILURES)) == 2


def test_a_callback_that_always_fails_leaves_room_for_the_others(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server(("k", "rare"))
    server.say(control.Report((figures(TIMEOUT=1), figures("rare", TIMEOUT=1)), failures=(failed("rare"),)))
    for number in range(1, 31):
        server.say(control.Report(failures=(failed(player_id=number),)))
        server.say(control.Report(failures=(failed(f"wrong {number}"),)))  # counted with all others
    found = rows(operator, control.Subject.FAILURES)
    assert [row[3] for row in found if row[4] == "k"] == list(range(11, 31))
    assert [row[4] for row in found if row[4] != "k"] == ["rare", *(f"wrong {n}" for n in range(11, 31))]
    kept = {row[0]: row[12] for row in rows(operator, control.Subject.CALLBACKS)}
    assert kept == {"k": 20, "rare": 1}


def test_failed_calls_are_bounded_and_come_in_pages(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    keys = [f"k{number}" for number in range(MAX_CALLBACKS)]
    server.say(control.Report(tuple(figures(key, TIMEOUT=3) for key in keys)))
    for player_id in (1, 2, 3):
        server.say(control.Report(failures=tuple(failed(key, player_id) for key in keys)))
    pages = [rows(operator, control.Subject.FAILURES, after) for after in (0, 1000, 1500)]
    assert [[row[0] for row in page] for page in pages] == [
        *(list(range(501, 1001)), list(range(1001, 1501)), []),
    ]
    operator.say(control.Query(1, control.Subject.FAILURES))
    [answer] = [frame for frame in operator.told() if isinstance(frame, control.Answer)]
    assert answer.next == 1000
    # One more of a callback that has none drops the oldest one of another callback, and the last one of it.
    server.say(control.Report(failures=(failed("new"),)))
    assert rows(operator, control.Subject.FAILURES)[0][0] == 502
    for number in range(999):
        server.say(control.Report(failures=(failed(keys[number % MAX_CALLBACKS]),)))
    assert rows(operator, control.Subject.FAILURES)[0][4] == "new"
    server.say(control.Report(failures=(failed(keys[0]),)))
    found = rows(operator, control.Subject.FAILURES)
    assert (found[0][4], len(found)) == (keys[0], 500)


def test_a_page_of_failed_calls_fits_into_a_frame(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    longest = FailedCall(0.0, Role.SERVER, "\U0001d11e" * 16, "\U0001d11e" * 64, "\U0001d11e" * 64, 1.5)
    for number in range(500):
        key = f"{number:04}" + longest.key[1:]
        report = control.Report((figures(key, TIMEOUT=1),), failures=(longest._replace(key=key),))
        server.say(report)
    operator.take()
    operator.say(control.Query(1, control.Subject.FAILURES))
    [(_, frame)] = operator.take()
    assert len(rows(operator, control.Subject.FAILURES)) == 500 and len(frame) < MAX_FRAME_BYTES / 2


def test_only_operators_that_may_give_orders_see_failed_calls(desk: Desk) -> None:
    operator, server = desk.operator(), desk.server()
    server.say(control.Report(failures=(failed(),)))
    operator.session.rights = replace(operator.session.rights, may_order=False)
    operator.take()
    operator.say(control.Query(1, control.Subject.FAILURES))
    [answer] = [frame for frame in operator.told() if isinstance(frame, control.Answer)]
    assert (answer.rows, answer.code) == (None, Code.FORBIDDEN)


def test_who_called_whom() -> None:
    assert way(Role.SERVER, 7) == way("server", 7) == "player 7 -> server"
    assert way(Role.PLAYER, "7") == way("player", "7") == "server -> player '7'"
