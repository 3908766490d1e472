"""What happens seldom in a realm: races, identities, bounds."""

from __future__ import annotations

from typing import Any

import pytest
from support.realms import LEASE_S, RealmDesks
from support.switchboards import Peer, data, encoded_id, relay

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.frames import FrameType, Role
from ringback_broker.admission.access_list import AccessList
from ringback_broker.cluster.messages import Ask, Down, Gone, Here, Listed, Seated, Taken, Up, encode
from ringback_broker.cluster.pairs import HEAD, Pair
from ringback_broker.cluster.seat import LOOK_S
from ringback_broker.peers.connection import Sent, Side
from ringback_broker.peers.identity import Identity
from ringback_broker.peers.session import Duty
from ringback_broker.switchboard import joins
from ringback_broker.switchboard.joins import SERVER_WITHIN_S
from ringback_broker.switchboard.presence import DIFFERS_S, GATHER_S, UNSAID_S, identity_hash

KEYS = {name: name * 40 for name in "sab"}
ACCESS = f"""
[[key]]
name = "shop"
role = "server"
public = "{KEYS["s"]}"

[[key]]
name = "anna"
role = "player"
public = "{KEYS["a"]}"
ids = [7]

[[key]]
name = "bert"
role = "player"
public = "{KEYS["b"]}"
ids = [7]
"""


def connect(realm: RealmDesks, name: str, said: control.Hello, key: str = "") -> Peer:
    side = Side.PLAYERS if said.role is Role.PLAYER else Side.BACKEND
    peer = realm[name].connect(side, public_key=key)
    peer.say(said)
    return peer


def call(player: Peer) -> None:
    player.send(data(0, b"call"))


def kinds(peer: Peer) -> list[str]:
    return [type(frame).__name__ for frame in peer.told()]


def server(realm: RealmDesks, name: str, **fields: Any) -> Peer:
    return connect(realm, name, control.Hello(Role.SERVER, ticket=b"", server_links=True, **fields))


# -- identities


def test_the_same_player_takes_its_place_at_another_node() -> None:
    realm = RealmDesks("a", "b", access=AccessList.parse(ACCESS))
    hello = control.Hello(Role.PLAYER, 7)
    first = connect(realm, "a", hello, KEYS["a"])
    assert kinds(first) == ["Welcome"]
    other = connect(realm, "b", hello, KEYS["b"])
    assert other.rejected().code is RejectCode.ID_TAKEN
    second = connect(realm, "b", hello, KEYS["a"])
    assert kinds(second) == ["Welcome"] and first.rejected().code is RejectCode.REPLACED
    realm.check()


def test_identities_are_hashed_by_what_proves_them() -> None:
    one, two = Identity("x", "key"), Identity("x", "key", by_token=True)
    assert identity_hash(None) == b"" and identity_hash(one) != identity_hash(two)
    assert identity_hash(two) == identity_hash(Identity("x", "other", by_token=True))


# -- waiting HELLOs


def test_not_all_hellos_can_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "MAX_WAITING", 1)
    realm = RealmDesks("a")
    desk = realm["a"]
    desk.after = lambda: None
    connect(realm, "a", control.Hello(Role.PLAYER, 7))
    second = connect(realm, "a", control.Hello(Role.PLAYER, 8))
    assert second.rejected().code is RejectCode.DRAINING
    assert len(desk.switchboard._arrivals.joins or ()) == 1


def test_ids_that_others_have_are_passed_over() -> None:
    realm = RealmDesks("a", "b")
    for number in (1, 2):
        realm["b"].player(number)
    assert realm["a"].player().player_id == 3
    for number in range(4, 30):
        realm["b"].player(number)
    player = connect(realm, "a", control.Hello(Role.PLAYER))
    assert player.rejected().code is RejectCode.DRAINING


def test_nobody_says_which_ids_are_free() -> None:
    realm = RealmDesks("a")
    desk = realm["a"]
    realm.records.lose = True
    assert connect(realm, "a", control.Hello(Role.PLAYER)).rejected().code is RejectCode.DRAINING
    realm.records.lose = False
    desk.after = lambda: None
    player = connect(realm, "a", control.Hello(Role.PLAYER))
    player.leave()
    realm.settle()
    assert not [key for key in realm.records.there if key.startswith("p.")]


def test_a_hello_that_waits_is_refused_when_the_realm_is_lost() -> None:
    realm = RealmDesks("a")
    realm["a"].after = lambda: None
    named = connect(realm, "a", control.Hello(Role.PLAYER, 7))
    unnamed = connect(realm, "a", control.Hello(Role.PLAYER))
    again = connect(realm, "a", control.Hello(Role.PLAYER, 7))
    realm["a"].realm.ownership.lose("a test", realm.now)
    for peer in (named, unnamed, again):
        assert peer.rejected().code is RejectCode.DRAINING
    realm.settle()
    realm.pass_time(3.0)
    assert not realm["a"].switchboard.roster.players


def test_it_is_full_by_the_time_the_records_answer() -> None:
    realm = RealmDesks("a", max_players=1)
    realm["a"].after = lambda: None
    first = connect(realm, "a", control.Hello(Role.PLAYER, 7))
    second = connect(realm, "a", control.Hello(Role.PLAYER, 8))
    realm.settle()
    assert kinds(first) == ["Welcome"] and second.rejected().code is RejectCode.FULL
    assert [key for key in realm.records.there if key.startswith("p.")] == ["p.Bw"]
    realm.check()


def test_one_whose_connection_is_gone_at_its_welcome_owns_nothing() -> None:
    realm = RealmDesks("a")
    realm["a"].after = lambda: None
    player = connect(realm, "a", control.Hello(Role.PLAYER, 7))
    realm["a"].wire.gone.add(player.routing_id)
    realm.settle()
    assert not [key for key in realm.records.there if key.startswith("p.")]
    realm.check()


def test_a_descriptor_that_serves_another_connection_gives_the_hello_up() -> None:
    realm = RealmDesks("a")
    desk = realm["a"]
    desk.after = lambda: None
    player = connect(realm, "a", control.Hello(Role.PLAYER, 7))
    desk.connect(descriptor=player.connection.descriptor)
    realm.settle()
    assert player.told() == [] and not desk.switchboard.roster.players


# -- servers that wait


def test_a_server_that_cannot_stand_by_waits_until_all_have_told() -> None:
    realm = RealmDesks("a", "b")
    realm["b"].player(7)
    realm.holds = True
    peer = server(realm, "a")
    assert peer.told() == []
    realm.pass_time(GATHER_S)
    told = peer.told()
    assert isinstance(told[-1], control.Welcome) and len(told) == 1  # one node was too late
    realm.holds = False
    realm.settle()
    assert peer.told() == [control.Joined((7,))]


def test_a_server_waits_only_for_a_while() -> None:
    realm = RealmDesks("a")
    realm.records.lose = True
    peer = server(realm, "a")
    realm.pass_time(SERVER_WITHIN_S)
    assert peer.rejected().code is RejectCode.DRAINING
    again = server(realm, "a")
    realm["a"].realm.ownership.lose("a test", realm.now)
    assert again.rejected().code is RejectCode.DRAINING


def test_a_server_that_is_refused_once_it_may_act_is_passed_over() -> None:
    realm = RealmDesks("a", access=AccessList.parse(ACCESS))
    desk = realm["a"]
    desk.after = lambda: None
    peer = connect(realm, "a", control.Hello(Role.SERVER), KEYS["s"])
    desk.switchboard.use(AccessList.parse("# nobody"))
    realm.settle()
    assert peer.rejected().code is RejectCode.UNAUTHORIZED
    realm.pass_time(0.5)
    assert "seat" not in realm.records.there


def test_one_that_stands_by_and_is_gone_does_not_want_the_seat() -> None:
    realm = RealmDesks("a", "b")
    server(realm, "a")
    peer = server(realm, "b", standby=True)
    assert peer.session is not None
    realm["b"].switchboard.state.endings.gone[peer.session] = False
    realm["b"].realm.settle(realm.now)
    assert realm["b"].realm.seat.wish is None


def test_a_node_that_drains_wants_no_seat() -> None:
    realm = RealmDesks("a", "b")
    first = server(realm, "a")
    second = server(realm, "b", standby=True)
    realm["b"].switchboard.drain(5.0)
    first.leave()
    realm.pass_time(0.5)
    assert second.session is not None and second.session.duty is Duty.STANDBY
    assert "seat" not in realm.records.there


def test_a_server_whose_connection_is_gone_at_its_welcome() -> None:
    realm = RealmDesks("a")
    desk = realm["a"]
    peer = desk.connect(Side.BACKEND)
    desk.wire.gone.add(peer.routing_id)
    peer.say(control.Hello(Role.SERVER, standby=True, server_links=True))
    assert peer.session is None and realm["a"].realm.seat.wish is None
    realm.check()


def test_a_hello_that_was_given_up_while_it_waited_for_its_turn() -> None:
    realm = RealmDesks("a")
    desk = realm["a"]
    desk.after = lambda: None
    connect(realm, "a", control.Hello(Role.PLAYER, 7))
    second = connect(realm, "a", control.Hello(Role.PLAYER, 7))
    second.leave()
    held = [realm.records.asked.popleft()]
    realm.pass_time(2.5)
    assert second.told() == []
    realm.records.asked.extend(held)
    realm.settle()
    realm.check()


# -- what nodes say at the wrong time


def test_what_was_said_for_another_term_does_not_count() -> None:
    realm = RealmDesks("a", "b")
    peer = server(realm, "a")
    realm["b"].player(7)
    peer.take()
    realm["b"].say("a", Here(99, [(b"\x08", 1)]))
    realm["b"].say("a", Listed(99))
    realm["b"].say("a", Gone(b"\x09"))
    realm["a"].say("b", Seated(0))
    realm["a"].say("b", Up(99, 1))
    realm["a"].say("b", Down(12345, False, False))
    realm["a"].say("b", Taken(b"\x07", 0))
    realm.settle()
    assert peer.told() == [] and realm["b"].switchboard.roster.is_served
    realm.check()


def test_the_latest_record_of_a_player_counts() -> None:
    realm = RealmDesks("a", "b", "c")
    peer = server(realm, "a")
    player, local = realm["b"].player(7), realm["a"].player(8)
    peer.take()
    term = realm["a"].realm.presence.term
    realm["c"].say("a", Here(term, [(encoded_id(7), 1)]))  # an old record: the node is told so
    realm["c"].say("a", Here(term, [(encoded_id(8), 1)]))
    realm.settle()
    assert peer.told() == [] and player.told() == [] and local.told() == []
    realm["b"].say("a", Here(term, [(encoded_id(7), 2**40)]))  # it was written anew
    realm.settle()
    assert peer.told() == []


def test_a_node_that_ended_meanwhile_is_not_listed() -> None:
    realm = RealmDesks("a", "b")
    server(realm, "a")
    node = realm["a"].switchboard.roster.nodes["b"]
    presence = realm["a"].realm.presence
    realm["a"].switchboard.state.endings.mark(node, "a test")
    presence.listed(node, presence.term)
    presence.here(node, presence.term, encoded_id(7), 1)
    realm["a"].switchboard._sessions.end_marked()
    realm.settle()
    realm.check()


def test_servers_that_have_left_in_order_are_forgotten() -> None:
    realm = RealmDesks("a", "b")
    peers = [server(realm, "a", standby=True)]
    for _ in range(3):
        peers.append(server(realm, "a", standby=True))
        peers[-2].say(control.Order(1, control.What.HAND_OVER))
        peers[-2].say(control.Bye(finished=True))
    [known] = realm["b"].realm.presence.far_servers._servers.values()
    assert len(known) == 1 and realm["b"].switchboard.roster.is_served
    peers[-1].leave()
    assert realm["b"].realm.presence.far_servers._servers == {}


def test_calls_to_a_server_that_left_in_order_are_missed_if_they_are_lost_on_their_way() -> None:
    """Its node would have sent them back."""
    realm = RealmDesks("a", "b", "c")
    first, _ = server(realm, "a", standby=True), server(realm, "b", standby=True)
    player = realm["c"].player(7)
    realm["a"].after = realm["c"].after = lambda: None
    call(player)
    first.say(control.Order(1, control.What.HAND_OVER))
    first.say(control.Bye(finished=True))
    realm._deliver(realm["a"])  # and nothing that c sends arrives any more
    assert not realm["c"].realm.presence.far_servers._servers
    player.take()
    realm["c"].realm.other_nodes.pairs.renew("a", "a test", realm.now)
    realm["c"].switchboard.tick(realm.now)
    assert kinds(player)[0] == "ServerDown"


def test_a_server_that_left_in_order_is_not_missed_later() -> None:
    realm = RealmDesks("a", "b", "c")
    first, _ = server(realm, "a", standby=True), server(realm, "b", standby=True)
    player = realm["c"].player(7)
    call(player)
    first.say(control.Order(1, control.What.HAND_OVER))
    first.say(control.Bye(finished=True))
    realm.pass_time(0.5)
    player.take()
    realm["c"].realm.other_nodes.pairs.renew("a", "a test", realm.now)
    realm.pass_time(1.5)
    assert kinds(player) == []


def test_a_node_that_knows_of_a_later_term_does_not_go_back_to_its_own() -> None:
    """The record says so later. Otherwise it would forget who has the seat, and nobody would say it again."""
    realm = RealmDesks("a", "b")
    first = server(realm, "a", standby=True)
    presence = realm["a"].realm.presence
    term = presence.term
    other = realm["a"].switchboard.roster.nodes["b"]
    presence.seated(other, term + 1)
    presence.take_seat(realm.now)
    assert presence.term == 0 and presence._seated is other
    assert first.session is None or not realm["a"].switchboard.roster.may_act


def test_a_server_that_retires_hears_of_players_who_leave() -> None:
    realm = RealmDesks("a", "b", "c")
    first = server(realm, "a", standby=True)
    second = server(realm, "b", standby=True)
    player = realm["c"].player(7)
    first.say(control.Order(1, control.What.HAND_OVER))
    first.take(), second.take()
    player.leave()
    assert first.told() == [control.Left((7,))] and second.told() == [control.Left((7,))]


def test_players_of_an_earlier_term_are_forgotten_if_their_node_lists_them_no_more() -> None:
    realm = RealmDesks("a", "b")
    first = server(realm, "a", standby=True)
    second = server(realm, "b", standby=True)
    gone, stays = realm["b"].player(7), realm["b"].player(8)
    first.say(control.Order(1, control.What.HAND_OVER))
    gone.leave()
    third = server(realm, "a", standby=True)
    second.leave()
    realm.pass_time(0.5)
    assert third.session is not None and third.session.duty is Duty.ACTING
    joined = [f for f in third.told() if isinstance(f, control.Joined)]
    assert [f.player_ids for f in joined] == [(8,)] and stays.session is not None
    first.send(encoded_id(8), data(0, b"late reply"))
    assert (b"", data(0, b"late reply")) in stays.take()
    realm.check()


def test_a_seat_that_was_taken_by_a_later_term_is_left_at_once() -> None:
    realm = RealmDesks("a", "b")
    peer = server(realm, "a")
    realm["a"].realm.presence.seated(
        realm["a"].switchboard.roster.nodes["b"], realm["a"].realm.presence.term + 1
    )
    assert peer.told()[-1].code is RejectCode.DRAINING  # type: ignore[union-attr]


def test_a_server_that_stands_by_does_not_take_a_seat_that_another_node_has() -> None:
    """The record of the seat cannot be read for a while, and still says to this node that it has the seat."""
    realm = RealmDesks("a", "b")
    acting = server(realm, "a")
    standby = connect(realm, "a", control.Hello(Role.SERVER, ticket=b"", standby=True, server_links=True))
    a = realm["a"].realm
    realm["a"].cut = True
    a.presence.seated(realm["a"].switchboard.roster.nodes["b"], a.presence.term + 1)
    assert acting.told()[-1].code is RejectCode.DRAINING  # type: ignore[union-attr]
    assert a.seat.is_mine and not a.presence.term
    realm.pass_time(GATHER_S + 1.0)
    assert standby.session is not None and standby.session.duty is Duty.STANDBY
    assert not realm["a"].switchboard.roster.may_act


def test_a_node_gets_its_index_although_what_it_asks_for_takes_long() -> None:
    realm = RealmDesks()
    node = realm.start("a").realm
    free, refused = node.claims.turns.when_free, []

    def refuse_twice(key: str, begin: Any, refuse: Any, now: float) -> None:
        if len(refused) < 2:
            refused.append(key)
            refuse(now)
        else:
            free(key, begin, refuse, now)

    node.claims.turns.when_free = refuse_twice
    realm.pass_time(0.5)
    assert len(refused) == 2 and not node.is_ready
    realm.pass_time(0.5)
    assert node.is_ready
    realm.check()


def test_an_old_record_of_the_seat_does_not_count_once_another_node_has_said_that_it_took_it() -> None:
    """A node that was stopped reads late that it has the seat: another one has it by now."""
    realm = RealmDesks("a", "b")
    first = server(realm, "a")
    assert first.session is not None
    a, holder = realm["a"].realm, realm["a"].realm.seat.holder
    second = connect(realm, "b", control.Hello(Role.SERVER, ticket=first.session.ticket, server_links=True))
    player = realm["a"].player(7)
    assert a.presence._seated is not None and realm["a"].switchboard.roster.is_served
    a.seat.holder = holder
    a.presence.take_seat(realm.now)
    assert not a.presence.term and a.presence._seated is not None
    a.seat.hint(realm.now)
    realm.settle()
    player.take(), second.take()
    player.send(data(0, b"x"))
    assert second.take() == [(encoded_id(7), data(0, b"x"))]
    realm.check()


def test_a_node_that_does_not_know_the_server_is_told_again() -> None:
    """The terms of another bucket begin anew. What was said of the one before counts for a while at most."""
    realm = RealmDesks("a", "b", "c")
    server(realm, "a")
    player = realm["b"].player(7)
    b = realm["b"].realm.presence
    b.node_went(realm["b"].switchboard.roster.nodes["a"])
    b._seated_term = 10**9
    realm["b"].realm.other_nodes.pairs.renew("a", "a test", realm.now)
    realm.settle()
    realm.pass_time(UNSAID_S)
    assert b._seated is None and not realm["b"].switchboard.roster.is_served
    realm.pass_time(0.5)
    assert b._seated is not None and realm["b"].switchboard.roster.is_served
    assert "ServerUp" in kinds(player)
    realm.check()


def test_a_node_that_is_told_otherwise_goes_by_the_record_in_the_end() -> None:
    """A node that is linked says that it has the seat: the record may be older, so that counts for longer."""
    realm = RealmDesks("a", "b", "c")
    server(realm, "a")
    b = realm["b"].realm.presence
    b._seated, b._seated_term = realm["b"].switchboard.roster.nodes["c"], 10**9
    realm.pass_time(DIFFERS_S - 1.0)
    assert b._seated is realm["b"].switchboard.roster.nodes["c"]
    realm.pass_time(LOOK_S + 3.0)
    assert b._seated is realm["b"].switchboard.roster.nodes["a"]
    assert realm["b"].switchboard.roster.is_served
    realm.check()


def test_a_node_that_was_told_of_another_bucket_takes_the_seat_in_the_end() -> None:
    realm = RealmDesks("a", "b")
    realm["a"].realm.presence._seated_term = 10**9
    waiting = connect(realm, "a", control.Hello(Role.SERVER, ticket=b"", standby=True, server_links=True))
    assert realm["a"].realm.seat.is_mine and not realm["a"].switchboard.roster.may_act
    realm.pass_time(UNSAID_S + GATHER_S + 1.0)
    assert waiting.session is not None and waiting.session.duty is Duty.ACTING
    realm.check()


def test_the_seat_moves_while_a_third_node_looks_on() -> None:
    realm = RealmDesks("a", "b", "c")
    first = server(realm, "a")
    player = realm["c"].player(7)
    assert first.session is not None
    second = connect(realm, "b", control.Hello(Role.SERVER, ticket=first.session.ticket, server_links=True))
    player.take(), second.take()
    player.send(data(0, b"x"))
    assert second.take() == [(encoded_id(7), data(0, b"x"))]
    realm.check()


def test_a_record_that_nobody_uses_is_given_up() -> None:
    realm = RealmDesks("a", "b")
    player = realm["a"].player(7)
    record = realm.records.there["p.Bw"]
    player.leave()
    realm.records.write("p.Bw", record.value)
    realm["b"].player(7)
    realm.check()


def test_a_name_that_is_lost_while_nobody_uses_it() -> None:
    realm = RealmDesks("a", "b")
    realm["a"].realm._name_taken("p.Bw", realm.now)
    realm.check()


def test_a_bounce_for_a_session_that_has_ended_is_dropped() -> None:
    realm = RealmDesks("a")
    desk = realm["a"]
    player = desk.player(7)
    session = player.session
    assert session is not None
    player.leave()
    desk.switchboard.sending.pass_bounce(session, b"", b"x", Code.OVERLOADED)
    assert desk.counters.bounced_overloaded == 0


# -- nodes


def test_a_realm_that_is_lost_before_the_index_is_there() -> None:
    realm = RealmDesks()
    desk = realm.start("a")
    desk.switchboard.tick(realm.now)
    for _ in range(2):
        realm.records.step(realm.now)
    assert not desk.realm.is_ready
    desk.realm.ownership.lose("a test", realm.now)
    realm.pass_time(4.0)
    assert desk.realm.is_ready


def test_an_index_that_nobody_could_tell_of_is_claimed_again() -> None:
    realm = RealmDesks("b")
    desk = realm.start("a")
    desk.switchboard.tick(realm.now)
    for _ in range(2):
        realm.records.step(realm.now)
    realm.records.lose = True
    for _ in range(len(realm.records.asked)):
        realm.records.step(realm.now)
    realm.records.lose = False
    for node in realm.alive():
        realm._tell(node)
    for _ in range(3):
        for node in realm.alive():
            realm._deliver(node)
    assert "b" in desk.switchboard.roster.nodes and not desk.realm.is_ready
    realm.pass_time(1.0)
    assert desk.realm.is_ready and desk.realm.indexes.own in realm["b"].realm.indexes._nodes


def test_an_index_that_another_node_has_is_passed_over() -> None:
    realm = RealmDesks("x", "y")
    x, y = realm["x"].realm, realm["y"].realm
    y.claims.names.give_up(y.indexes.key)
    y.indexes.claim(x.indexes.own - 1, realm.now)
    realm.settle()
    assert y.indexes.own == x.indexes.own + 1
    assert realm["x"].switchboard.roster.nodes and x.indexes._nodes[y.indexes.own].node == "y"


def test_a_node_that_loses_its_index_begins_anew() -> None:
    realm = RealmDesks("a")
    player = realm["a"].player(7)
    key = realm["a"].realm.indexes.key
    realm.records.write(key, b"\x93\xa1z\xc4\x01z\xc4\x00")
    realm["a"].realm.claims.names.doubt(key)
    realm.pass_time(0.5)
    assert player.told()[-1].code is RejectCode.DRAINING  # type: ignore[union-attr]
    realm.pass_time(4.0)
    realm["a"].player(7)


def test_what_comes_before_a_node_has_joined_does_not_count() -> None:
    realm = RealmDesks("a", "b")
    realm["a"].realm.ownership.lose("a test", realm.now)
    realm["a"].realm.other_nodes.from_node("b", b"boot", (HEAD.pack(1, 1, 1), b"", b"x"), realm.now)
    realm["a"].realm.changed("seat", realm.records.there["node.b"], realm.now)
    realm["a"].realm.changed("node.c", realm.records.there["node.b"], realm.now)
    assert not realm["a"].switchboard.roster.nodes
    realm.pass_time(3.0)
    assert "b" in realm["a"].switchboard.roster.nodes


def test_a_node_that_links_later_learns_who_stands_by() -> None:
    realm = RealmDesks("a", "b")
    first = server(realm, "a", standby=True)
    server(realm, "b", standby=True)
    realm["a"].realm.other_nodes.interrupted(realm.now)
    realm.settle()
    first.take()
    first.say(control.Order(1, control.What.HAND_OVER))
    assert first.session is not None and first.session.duty is Duty.RETIRING


def test_a_node_that_reads_nothing_begins_anew() -> None:
    realm = RealmDesks("a", "b", backend_window=2000, backend_queue=1000, slow=1.0)
    server(realm, "a")
    player = realm["b"].player(7)
    node = realm["b"].switchboard.roster.nodes["a"]
    for _ in range(10):
        player.send(data(0, b"x" * 500))
        realm["b"].frames.sent.clear()
    realm.holds = True
    for _ in range(10):
        player.send(data(0, b"x" * 500))
    realm.pass_time(2.0)
    assert node.ended
    assert realm["b"].counters.sessions_too_slow == 0 or node.ended


def test_a_question_of_a_node_that_is_gone_is_not_answered() -> None:
    realm = RealmDesks("a", "b")
    realm["a"].player(7)
    held = realm["a"].realm.claims.names.by_key["p.Bw"]
    realm["a"].after = lambda: None
    again = connect(realm, "a", control.Hello(Role.PLAYER, 8))
    realm["b"].after = lambda: None
    frames, nodes = realm["a"].realm.other_nodes._node_frames, realm["a"].switchboard.roster.nodes
    frames.take(nodes["b"], b"", encode(Ask("p.CA", held.revision, b"")), realm.now)
    realm["a"].realm.other_nodes.interrupted(realm.now)
    realm.settle()
    assert kinds(again) == ["Welcome"]
    frames.take(nodes["b"], b"", encode(Ask("index.1", 1, b"")), realm.now)
    realm.settle()
    realm.check()


# -- frames


def test_frames_that_come_for_nobody_bounce_to_their_node() -> None:
    realm = RealmDesks("a", "b")
    peer = server(realm, "a")
    player, operator = realm["b"].player(7), realm["b"].operator()
    peer.take(), player.take(), operator.take()
    realm.holds = True
    player.send(data(0, b"x"))
    operator.send(encoded_id(7), relay(operator.link, b"x"))
    peer.leave()
    player.take(), operator.take()
    realm.holds = False
    realm.settle()
    assert (b"", Code.NO_SERVER) in [
        (where, Code(int.from_bytes(frame[2:4])))
        for where, frame in player.take()
        if frame[1] == FrameType.BOUNCE
    ]
    assert [frame[1] for _, frame in operator.take()].count(FrameType.BOUNCE) == 1


def test_a_bounce_for_somebody_who_is_gone_is_dropped() -> None:
    realm = RealmDesks("a", "b")
    peer = server(realm, "a")
    player = realm["b"].player(7)
    realm["a"].wire.full.add(peer.routing_id)
    realm.holds = True
    player.send(data(0, b"x"))
    player.leave()
    realm.holds = False
    realm.settle()
    realm.check()


def test_only_who_was_called_replies_to_an_operator_of_another_node() -> None:
    realm = RealmDesks("a", "b", "c")
    operator, player, other = realm["a"].operator(), realm["b"].player(7), realm["c"].player(8)
    for peer in (player, other):
        peer.send(data(operator.link, b"reply"))
        assert peer.bounced()[1] is Code.NO_SERVER
    operator.send(encoded_id(7), data(operator.link, b"call"))
    player.take()
    player.send(data(operator.link, b"reply"))
    assert operator.take() == [(encoded_id(7), data(operator.link, b"reply"))]
    # Another node cannot speak for it.
    forger = realm["a"].switchboard.roster.nodes["c"]
    realm["a"].realm.other_nodes._node_frames.take(
        forger, encoded_id(7), data(operator.link, b"forged"), realm.now
    )
    assert operator.take() == []


def test_an_operator_that_is_full_bounces_to_the_server_s_node() -> None:
    realm = RealmDesks("a", "b")
    peer = server(realm, "a")
    operator = realm["b"].operator()
    assert operator.session is not None
    peer.take()
    realm["b"].wire.full.add(operator.routing_id)
    peer.send(encoded_id(7), relay(operator.link, b"reply"))
    assert peer.bounced()[1] is Code.OVERLOADED
    realm["b"].wire.full.clear()
    operator.session.exhausted = True
    peer.send(encoded_id(7), relay(operator.link, b"reply"))
    assert peer.bounced()[1] is Code.OVERLOADED
    assert peer.session is not None
    peer.session.exhausted = True
    operator.session.exhausted = False
    operator.send(encoded_id(7), relay(operator.link, b"call"))
    assert operator.bounced()[1] is Code.OVERLOADED


def test_nothing_can_be_sent_to_a_node_without_contact() -> None:
    realm = RealmDesks("a", "b")
    peer = server(realm, "a")
    player = realm["b"].player(7)
    peer.take(), player.take()
    for name in "ab":
        realm[name].frames.outcome = Sent.GONE
    peer.send(encoded_id(7), data(0, b"x"))
    assert peer.bounced()[1] is Code.UNKNOWN_PLAYER
    player.send(data(0, b"x"))
    assert player.bounced()[1] is Code.NO_SERVER
    for name in "ab":
        realm[name].frames.outcome = Sent.FULL
    player.send(data(0, b"x"))
    assert player.bounced()[1] is Code.OVERLOADED
    peer.send(encoded_id(7), data(0, b"x"))
    assert peer.bounced()[1] is Code.OVERLOADED
    for name in "ab":
        realm[name].frames.outcome = Sent.YES
    realm.pass_time(1.0)  # the nodes have begun anew: what crossed may be lost
    assert kinds(player) == ["ServerDown", "ServerUp"]
    realm.check()


def test_a_player_that_its_node_did_not_list_has_left() -> None:
    realm = RealmDesks("a", "b")
    peer = server(realm, "a")
    server(realm, "a", standby=True)
    realm["b"].player(7)
    peer.take()
    presence, node = realm["a"].realm.presence, realm["a"].switchboard.roster.nodes["b"]
    presence._unheard[node] = {encoded_id(7)}
    presence.listed(node, presence.term)
    assert peer.told()[0] == control.Left((7,))


def test_a_message_in_the_step_in_which_a_pair_ends_is_dropped() -> None:
    realm = RealmDesks("a")
    realm["a"].realm.other_nodes._take(Pair("gone", b"boot", 1), b"", b"x", realm.now)
    assert realm["a"].counters.violations == 0


def test_a_full_server_without_bundles_bounces_frames_of_other_nodes() -> None:
    realm = RealmDesks("a", "b")
    peer = server(realm, "a")
    player = realm["b"].player(7)
    assert peer.session is not None
    peer.session.exhausted = True
    player.take()
    player.send(data(0, b"x"))
    assert player.bounced()[1] is Code.OVERLOADED


def test_bundles_of_other_nodes_fill_those_of_the_server() -> None:
    realm = RealmDesks("a", "b")
    peer = connect(realm, "a", control.Hello(Role.SERVER, bundles=True))
    player = realm["b"].player(7)
    peer.take()
    realm["b"].after = lambda: None
    for _ in range(300):
        player.send(data(0, b"x" * 300))
    realm.settle()
    assert realm["a"].counters.frames_up == 300
    assert sum(frame[1] == FrameType.BUNDLE for _, frame in peer.take()) > 1


def test_a_node_that_ends_within_a_bundle_sends_no_more() -> None:
    realm = RealmDesks("a", "b")
    server(realm, "a")
    player = realm["b"].player(7)
    node = realm["a"].switchboard.roster.nodes["b"]
    realm["b"].after = lambda: None
    for _ in range(2):
        player.send(data(0, b"x"))
    realm["b"].switchboard.send_bundles(realm.now)
    take = realm["a"].realm.other_nodes._node_frames._take_up

    def ends(*arguments: Any) -> None:
        take(*arguments)
        realm["a"].switchboard.state.endings.mark(node, "a test")

    realm["a"].realm.other_nodes._node_frames._take_up = ends
    before = realm["a"].counters.frames_up
    realm.settle()
    assert realm["a"].counters.frames_up == before + 1


def test_a_lease_that_ends_is_found_before_the_first_frame() -> None:
    realm = RealmDesks("a")
    peer = server(realm, "a")
    realm["a"].realm.begin_step(realm.now + LEASE_S)
    assert peer.told()[-1].code is RejectCode.DRAINING  # type: ignore[union-attr]


def test_a_reply_that_comes_back_after_its_server_has_left_ends_the_call() -> None:
    realm = RealmDesks("a", "b")
    first = server(realm, "a", standby=True)
    server(realm, "a", standby=True)
    player, operator, other = realm["b"].player(7), realm["b"].operator(), realm["b"].player(8)
    first.say(control.Order(1, control.What.HAND_OVER))
    first.take(), player.take(), operator.take(), other.take()
    realm["b"].wire.full.update((player.routing_id, operator.routing_id))
    realm.holds = True
    first.send(encoded_id(7), data(0, b"reply"))
    first.send(encoded_id(7), relay(operator.link, b"reply"))
    assert first.session is not None
    first.send(encoded_id(7), data(first.session.own_link, b"call"))
    first.say(control.Bye(finished=True))
    realm.holds = False
    realm.settle()
    realm["b"].wire.full.clear()
    realm["b"].switchboard.flush()
    assert kinds(player) == ["ServerDown", "ServerUp"]
    assert kinds(operator) == ["ServerDown", "ServerUp"]
    assert kinds(other) == []


def test_nobody_waits_for_a_reply_that_came_back() -> None:
    realm = RealmDesks("a", "b")
    player = realm["b"].player(7)
    presence = realm["b"].realm.presence
    presence.far_servers.unanswered(encoded_id(8), 0)
    presence.far_servers.unanswered(encoded_id(7), 12345)
    presence.far_servers.unanswered(encoded_id(7), 0)
    assert kinds(player) == ["ServerDown"]
