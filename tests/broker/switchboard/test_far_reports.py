"""Reports of players of other nodes: they reach the node of the player."""

from __future__ import annotations

import pytest
from support.realms import LEASE_S, RealmDesks
from support.switchboards import Peer, data, encoded_id

from ringback.protocol import control
from ringback.protocol.control import Report, Subject, encode, named
from ringback.protocol.player_ids import PlayerID
from ringback.protocol.reports import PlayerFigures, PlayerInFlight
from ringback_broker.cluster.messages import START, FarReport, decode


def counts(realm: RealmDesks, name: str, player_id: PlayerID = 7) -> tuple[int, int, int]:
    """Return the calls, errors and calls in flight of a player, as its node tells them."""
    operator = realm[name].operator()
    operator.take()
    operator.say(control.Query(1, Subject.PLAYERS, player_id=player_id))
    [answer] = [frame for frame in operator.told() if isinstance(frame, control.Answer)]
    operator.leave()
    assert answer.rows is not None and len(answer.rows) == 1
    row = named(Subject.PLAYERS, answer.rows[0])
    return row["calls"], row["errors"], row["in_flight"]


def report(*rows: tuple[PlayerID, int, int, int]) -> Report:
    """Return a report of players: each with calls, errors and calls in flight."""
    return Report(
        players=tuple(PlayerFigures(who, calls, errors) for who, calls, errors, _ in rows if calls),
        in_flight=tuple(PlayerInFlight(who, in_flight) for who, _, _, in_flight in rows),
    )


@pytest.fixture
def realm() -> RealmDesks:
    return RealmDesks("a", "b", "c")


def calling(realm: RealmDesks, name: str, player_id: PlayerID = 7) -> Peer:
    """Return an operator of a node that has called a player."""
    operator = realm[name].operator()
    assert operator.session is not None
    operator.send(encoded_id(player_id), data(operator.session.link))
    return operator


def test_each_player_is_counted_at_its_node(realm: RealmDesks) -> None:
    server = realm["a"].server()
    realm["a"].player(7)
    realm["b"].player("7")
    realm["c"].player(8)
    server.say(report((7, 3, 1, 2), ("7", 5, 0, 4), (8, 0, 0, 6), (9, 1, 1, 1)))
    assert counts(realm, "a") == (3, 1, 2)
    assert counts(realm, "b", "7") == (5, 0, 4)
    assert counts(realm, "c", 8) == (0, 0, 6)
    server.say(report(("7", 2, 2, 0)))
    assert counts(realm, "b", "7") == (7, 2, 0)
    realm.check()


def test_operators_and_the_server_add_up(realm: RealmDesks) -> None:
    player = realm["b"].player(7)
    server, near, far = realm["a"].server(), realm["b"].operator(), calling(realm, "c")
    for endpoint, in_flight in ((server, 1), (near, 2), (far, 4)):
        endpoint.say(report((7, 1, 0, in_flight)))
    assert counts(realm, "b") == (3, 0, 7)
    far.leave()
    assert counts(realm, "b") == (3, 0, 3)
    near.leave()
    assert counts(realm, "b") == (3, 0, 1)
    server.leave()
    assert counts(realm, "b") == (3, 0, 0)
    player.leave()
    realm.check()


def test_two_operators_of_one_node_are_two(realm: RealmDesks) -> None:
    realm["b"].player(7)
    one, other = calling(realm, "a"), calling(realm, "a")
    one.say(report((7, 0, 0, 2)))
    other.say(report((7, 0, 0, 3)))
    assert counts(realm, "b") == (0, 0, 5)
    one.leave()
    assert counts(realm, "b") == (0, 0, 3)


def test_nothing_is_kept_of_a_player_that_joined_again(realm: RealmDesks) -> None:
    server, player = realm["a"].server(), realm["b"].player(7)
    server.say(report((7, 3, 1, 2)))
    player.leave()
    realm["b"].player(7)
    assert counts(realm, "b") == (0, 0, 0)


def test_a_report_follows_a_player_to_its_node(realm: RealmDesks) -> None:
    server, player = realm["a"].server(), realm["b"].player(7)
    player.leave()
    realm["c"].player(7)
    server.say(report((7, 1, 0, 1)))
    assert counts(realm, "c") == (1, 0, 1)


def test_what_a_dead_node_has_said_is_in_flight_no_more(realm: RealmDesks) -> None:
    server = realm["a"].server()
    realm["b"].player(7)
    server.say(report((7, 3, 1, 2)))
    realm.kill("a")
    realm.pass_time(2 * LEASE_S)
    assert counts(realm, "b") == (3, 1, 0)
    realm.check()


def test_an_endpoint_may_leave_after_the_node_that_it_reported_to(realm: RealmDesks) -> None:
    server = realm["a"].server()
    realm["b"].player(7)
    realm["c"].player(8)
    server.say(report((7, 0, 0, 2), (8, 0, 0, 2)))
    realm.kill("b")
    realm.pass_time(2 * LEASE_S)
    realm.check()
    server.leave()
    assert counts(realm, "c", 8) == (0, 0, 0)
    realm.check()


def reports_on_their_way(realm: RealmDesks, name: str) -> list[tuple[str, FarReport]]:
    """End the step of a node, and return which reports it sends to which nodes."""
    found = [
        (node, decode(part))
        for node, _, parts in realm[name].hold()
        for part in parts[1:]
        if part[:1] == START
    ]
    return [(node, said) for node, said in found if isinstance(said, FarReport)]


def test_only_the_nodes_that_a_report_concerns_are_told(realm: RealmDesks) -> None:
    server = realm["a"].server()
    realm["a"].player(7)
    realm["b"].player(8)
    realm.holds = True
    server.say(report((7, 1, 0, 1), (9, 1, 0, 1)))
    assert reports_on_their_way(realm, "a") == []
    server.say(report((7, 1, 0, 1), (8, 1, 0, 1)))
    assert server.session is not None
    number, passed = server.session.number, report((8, 1, 0, 1))
    assert reports_on_their_way(realm, "a") == [("b", FarReport(number, encode(passed)))]
    server.leave()
    assert reports_on_their_way(realm, "a") == [("b", FarReport(number, b""))]


@pytest.mark.parametrize("frame", [b"x", encode(control.Bye()), encode(control.Ping(b"x"))])
def test_a_node_that_reports_nonsense_begins_anew(realm: RealmDesks, frame: bytes) -> None:
    before = realm["b"].switchboard.roster.nodes["a"]
    realm["a"].say("b", FarReport(1, frame))
    realm.settle()
    realm.pass_time(1.0)
    assert before.ended and realm["b"].counters.violations == 1
    assert realm["b"].switchboard.roster.nodes["a"] is not before
