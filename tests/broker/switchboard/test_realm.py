"""Several brokers as one switchboard: joins, calls, presence, and what happens when a node is gone."""

from __future__ import annotations

from typing import Any

import pytest
from support.realms import LEASE_S, RealmDesks
from support.switchboards import Peer, data, encoded_id, relay

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.control import decode, encode
from ringback.protocol.frames import HEADER, FrameType, Role, header
from ringback_broker.cluster.ownership import PATIENCE_S
from ringback_broker.cluster.records import Absent
from ringback_broker.operations.snapshot import Lags
from ringback_broker.peers.connection import Sent, Side
from ringback_broker.peers.session import Duty
from ringback_broker.switchboard.presence import GATHER_S


def hello(realm: RealmDesks, name: str, said: control.Hello) -> tuple[Peer, list[control.ControlFrame]]:
    """Have a peer say HELLO, and return what it was told."""
    peer = realm[name].connect(Side.PLAYERS if said.role is Role.PLAYER else Side.BACKEND)
    peer.say(said)
    told = peer.told()
    for frame in told:
        if isinstance(frame, control.Welcome):
            peer.link, peer.player_id = frame.link, frame.player_id
    return peer, told


def serve(realm: RealmDesks, name: str, **fields: Any) -> Peer:
    peer, told = hello(realm, name, control.Hello(Role.SERVER, ticket=b"", server_links=True, **fields))
    assert any(isinstance(frame, control.Welcome) for frame in told), told
    return peer


def ticket_of(peer: Peer) -> bytes:
    assert peer.session is not None
    return peer.session.ticket


def kinds(peer: Peer) -> list[str]:
    return [type(frame).__name__ for frame in peer.told()]


# -- joining the realm


def test_nodes_find_each_other_and_have_links_of_their_own() -> None:
    realm = RealmDesks("a", "b", "c")
    for node in realm.alive():
        assert sorted(node.switchboard.roster.nodes) == sorted({"a", "b", "c"} - {node.name})
    operators = [realm[name].operator() for name in "abc"]
    assert len({operator.link for operator in operators}) == 3
    realm.check()


def test_peers_are_sent_elsewhere_until_the_node_has_joined() -> None:
    realm = RealmDesks()
    realm.records.lose = True
    realm.start("a")
    realm.pass_time(1.0)
    _, [refused] = hello(realm, "a", control.Hello(Role.PLAYER, 7))
    assert isinstance(refused, control.Reject) and refused.code is RejectCode.DRAINING
    assert not realm["a"].switchboard.snapshot(0.0, Lags()).in_realm
    realm.records.lose = False
    realm.pass_time(3.0)
    assert realm["a"].switchboard.snapshot(0.0, Lags()).in_realm
    _, [welcome] = hello(realm, "a", control.Hello(Role.PLAYER, 7))
    assert isinstance(welcome, control.Welcome)


# -- players


def test_an_id_is_one_player_s_in_the_whole_realm() -> None:
    realm = RealmDesks("a", "b")
    realm["a"].player(7)
    _, [refused] = hello(realm, "b", control.Hello(Role.PLAYER, 7))
    assert isinstance(refused, control.Reject) and refused.code is RejectCode.ID_TAKEN
    assert "at another node" in refused.reason


def test_an_id_is_free_again_once_its_player_has_left() -> None:
    realm = RealmDesks("a", "b")
    player = realm["a"].player(7)
    player.leave()
    assert not [key for key in realm.records.there if key.startswith("p.")]
    realm["b"].player(7)
    realm.check()


def test_whoever_shows_the_ticket_takes_its_place_at_another_node() -> None:
    realm = RealmDesks("a", "b", "c")
    server = serve(realm, "c")
    old, [first] = hello(realm, "a", control.Hello(Role.PLAYER, 7, ticket=b""))
    assert isinstance(first, control.Welcome)
    server.take()
    _, [second] = hello(realm, "b", control.Hello(Role.PLAYER, 7, ticket=first.ticket))
    assert isinstance(second, control.Welcome) and second.ticket != first.ticket
    assert kinds(server) == ["Left", "Joined"]
    assert old.rejected().code is RejectCode.REPLACED
    assert len([key for key in realm.records.there if key.startswith("p.")]) == 1
    realm.check()


def test_it_takes_its_place_at_the_node_with_the_seat() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "b")
    old, [first] = hello(realm, "a", control.Hello(Role.PLAYER, 7, ticket=b""))
    assert isinstance(first, control.Welcome)
    server.take()
    hello(realm, "b", control.Hello(Role.PLAYER, 7, ticket=first.ticket))
    assert kinds(server) == ["Left", "Joined"]
    assert old.rejected().code is RejectCode.REPLACED


def test_it_takes_its_place_away_from_the_node_with_the_seat() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    old, [first] = hello(realm, "a", control.Hello(Role.PLAYER, 7, ticket=b""))
    assert isinstance(first, control.Welcome)
    server.take()
    hello(realm, "b", control.Hello(Role.PLAYER, 7, ticket=first.ticket))
    assert kinds(server) == ["Left", "Joined"]
    assert old.rejected().code is RejectCode.REPLACED


def test_players_without_an_id_get_different_ones() -> None:
    realm = RealmDesks("a", "b")
    ids = [realm[name].player().player_id for name in "abab"]
    assert len(set(ids)) == 4
    realm["b"].player(1003)
    assert realm["b"].player().player_id == 1004


def test_one_that_is_gone_before_the_records_answer_owns_nothing() -> None:
    realm = RealmDesks("a", "b")
    desk = realm["a"]
    desk.after = lambda: None
    player = desk.connect()
    player.say(control.Hello(Role.PLAYER, 7))
    assert player.told() == []
    player.leave()
    desk.after = realm.settle
    realm.settle()
    assert not [key for key in realm.records.there if key.startswith("p.")]
    assert desk.counters.joins_delayed == 1 and desk.counters.handshakes_failed == 0
    realm["b"].player(7)


def test_one_that_says_more_before_the_answer_is_refused() -> None:
    realm = RealmDesks("a")
    desk = realm["a"]
    desk.after = lambda: None
    player = desk.connect()
    player.say(control.Hello(Role.PLAYER, 7))
    player.say(control.Ping())
    assert player.rejected().code is RejectCode.NO_SESSION
    realm.settle()
    assert player.told() == [] and not [key for key in realm.records.there if key.startswith("p.")]


def test_two_at_one_node_who_want_one_id_take_turns() -> None:
    realm = RealmDesks("a")
    desk = realm["a"]
    desk.after = lambda: None
    first, second = desk.connect(), desk.connect()
    for player in (first, second):
        player.say(control.Hello(Role.PLAYER, 7))
    realm.settle()
    assert kinds(first) == ["Welcome"] and second.rejected().code is RejectCode.ID_TAKEN


def test_a_hello_waits_only_for_a_while() -> None:
    realm = RealmDesks("a")
    desk = realm["a"]
    desk.after = lambda: None
    asked, realm.records.asked = realm.records.asked, realm.records.asked
    player, other = desk.connect(), desk.connect()
    for peer in (player, other):
        peer.say(control.Hello(Role.PLAYER, 7))
    held = [realm.records.asked.popleft() for _ in range(len(asked))]
    realm.pass_time(2.25)
    assert player.rejected().code is RejectCode.DRAINING
    assert other.rejected().code is RejectCode.DRAINING
    realm.records.asked.extend(held)  # it took place after all
    desk.after = realm.settle
    realm.settle()
    realm.pass_time(1.0)
    assert not [key for key in realm.records.there if key.startswith("p.")]
    realm.check()


# -- calls


def test_calls_cross_nodes_both_ways() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    player = realm["b"].player(7)
    server.take()
    player.send(data(0, b"up"))
    assert server.take() == [(encoded_id(7), data(0, b"up"))]
    server.send(encoded_id(7), data(0, b"down"))
    assert player.take() == [(b"", data(0, b"down"))]
    assert realm["b"].counters.frames_up == realm["a"].counters.frames_up == 1
    assert realm["b"].counters.frames_down == realm["a"].counters.frames_down == 1


def test_replies_to_calls_of_a_server_find_their_way() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    player = realm["b"].player(7)
    server.take()
    assert server.session is not None
    own = server.session.own_link
    server.send(encoded_id(7), data(own, b"call"))
    assert player.take() == [(b"", data(own, b"call"))]
    player.send(data(own, b"reply"))
    assert server.take() == [(encoded_id(7), data(own, b"reply"))]


def test_frames_share_messages_between_nodes() -> None:
    realm = RealmDesks("a", "b")
    server, _ = hello(realm, "a", control.Hello(Role.SERVER, bundles=True))
    players = [realm["b"].player(number) for number in range(1, 4)]
    server.take()
    desk = realm["b"]
    desk.after = lambda: None
    for player in players:
        player.send(data(0, b"x"))
    desk.switchboard.send_bundles(desk.now)
    assert len(desk.frames.sent) == 1
    realm.settle()
    [(_, frame)] = server.take()
    assert frame[1] == FrameType.BUNDLE


def send_to_three_at_another_node(realm: RealmDesks) -> tuple[Peer, list[Peer]]:
    """Have the server at node a send a frame to each of three players at node b, in one step."""
    server = serve(realm, "a")
    players = [realm["b"].player(number) for number in range(1, 4)]
    server.take()
    realm["a"].after = lambda: None
    for number in range(1, 4):
        server.send(encoded_id(number), data(0, b"%d" % number))
    return server, players


def test_frames_to_players_share_messages_between_nodes_too() -> None:
    realm = RealmDesks("a", "b")
    _, players = send_to_three_at_another_node(realm)
    held = realm["a"].hold()
    assert len(held) == 1
    realm["a"].frames.sent.extend(held)
    realm.settle()
    assert [player.take() for player in players] == [[(b"", data(0, b"%d" % n))] for n in range(1, 4)]
    for name in "ab":
        counters = realm[name].counters
        assert (counters.frames_down, counters.bytes_down, counters.frames_up) == (3, 3 * 9, 0)


def test_a_node_of_before_takes_frames_to_players_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback_broker.switchboard.other_nodes.VERSION", 1)
    realm = RealmDesks("a", "b")
    _, players = send_to_three_at_another_node(realm)
    assert len(realm["a"].frames.sent) == 3
    realm.settle()
    assert [len(player.take()) for player in players] == [1, 1, 1]


@pytest.mark.parametrize(("ends", "code"), [(Sent.GONE, Code.UNKNOWN_PLAYER), (Sent.FULL, Code.OVERLOADED)])
def test_what_does_not_reach_another_node_bounces_to_its_sender(ends: Sent, code: Code) -> None:
    realm = RealmDesks("a", "b")
    server, players = send_to_three_at_another_node(realm)
    realm["a"].frames.outcome = ends
    realm["a"].switchboard.send_bundles(realm.now)
    came = [(id_part, Code(HEADER.unpack_from(frame)[2]), frame[8:]) for id_part, frame in server.take()]
    assert came == [(encoded_id(n), code, data(0, b"%d" % n)) for n in range(1, 4)]
    assert [player.take() for player in players] == [[], [], []]
    assert realm["a"].counters.frames_down == 0


def test_nothing_overtakes_a_bundle_to_another_node() -> None:
    realm = RealmDesks("a", "b")
    server, [player, *_] = send_to_three_at_another_node(realm)
    large = data(0, b"x" * 100_000)
    server.send(encoded_id(1), large)
    server.send(encoded_id(1), data(0, b"last"))
    realm.settle()
    assert [frame for _, frame in player.take()] == [data(0, b"1"), large, data(0, b"last")]


def test_large_frames_cross_alone() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    player = realm["b"].player(7)
    server.take()
    large = data(0, b"x" * 100_000)
    player.send(large)
    assert server.take() == [(encoded_id(7), large)]


def test_a_frame_may_be_larger_than_a_message_between_nodes() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    player = realm["b"].player(7)
    realm["b"].frames.max_bytes = realm["a"].frames.max_bytes = 20_000
    server.take()
    for size in (19_000, 20_000, 100_000):
        frame = data(0, bytes(size))
        player.send(frame)
        assert server.take() == [(encoded_id(7), frame)]
        server.send(encoded_id(7), frame)
        assert player.take() == [(b"", frame)]


def test_nobody_there_bounces() -> None:
    realm = RealmDesks("a", "b")
    player = realm["b"].player(7)
    player.send(data())
    assert player.bounced()[1] is Code.NO_SERVER
    server = serve(realm, "a")
    server.take()
    server.send(encoded_id("nobody"), data())
    assert server.bounced()[1] is Code.UNKNOWN_PLAYER
    player.take()
    player.send(data(2**31 | 5 << 20 | 1))
    assert player.bounced()[1] is Code.NO_SERVER


def test_a_player_that_has_just_left_bounces_from_its_node() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    player = realm["b"].player(7)
    server.take()
    realm.holds = True
    player.leave()
    server.send(encoded_id(7), data(0, b"late"))
    realm.holds = False
    realm.settle()
    taken = server.take()
    assert [frame[1] for _, frame in taken] == [FrameType.LEFT, FrameType.BOUNCE]
    assert taken[1][0] == encoded_id(7) and taken[1][1][8:] == data(0, b"late")


def test_a_server_that_is_full_bounces_to_the_player_s_node() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    player = realm["b"].player(7)
    realm["a"].wire.full.add(server.routing_id)
    player.send(data(0, b"x"))
    assert player.bounced() == (b"", Code.OVERLOADED, data(0, b"x"))


def test_a_full_player_bounces_to_the_server_s_node() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    player = realm["b"].player(7)
    server.take()
    realm["b"].wire.full.add(player.routing_id)
    server.send(encoded_id(7), data(0, b"x"))
    assert server.bounced() == (encoded_id(7), Code.OVERLOADED, data(0, b"x"))


def test_a_window_between_nodes_is_bounded_and_opens_again() -> None:
    realm = RealmDesks("a", "b", backend_window=2000, backend_queue=1000)
    server = serve(realm, "a")
    player = realm["b"].player(7)
    server.take()
    realm.holds = True
    for _ in range(5):
        player.send(data(0, b"x" * 500))
    assert player.bounced()[1] is Code.OVERLOADED
    realm.holds = False
    realm.settle()
    for _, frame in server.take():
        if frame[1] == FrameType.PING:
            server.say(control.Pong(decode(frame).body))  # type: ignore[union-attr]
    player.take()
    player.send(data(0, b"again"))
    assert server.take()[-1] == (encoded_id(7), data(0, b"again"))


def test_a_window_bounds_what_goes_down_too() -> None:
    realm = RealmDesks("a", "b", backend_window=2000, backend_queue=1000)
    server = serve(realm, "a")
    player = realm["b"].player(7)
    server.take()
    realm.holds = True
    for number in range(5):
        server.send(encoded_id(7), data(0, b"%d" % number * 500))
    (_, bounced), (_, ping) = server.take()  # its own window is as small
    assert (Code(HEADER.unpack_from(bounced)[2]), bounced[8:]) == (Code.OVERLOADED, data(0, b"4" * 500))
    assert ping[1] == FrameType.PING
    realm.holds = False
    realm.settle()
    for _, frame in player.take():
        if frame[1] == FrameType.PING:
            player.say(control.Pong(decode(frame).body))  # type: ignore[union-attr]
    server.send(encoded_id(7), data(0, b"again"))
    assert player.take() == [(b"", data(0, b"again"))]


@pytest.mark.parametrize(("ends", "code"), [(Sent.GONE, Code.UNKNOWN_PLAYER), (Sent.FULL, Code.OVERLOADED)])
def test_a_large_frame_that_does_not_reach_another_node_bounces(ends: Sent, code: Code) -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    realm["b"].player(7)
    server.take()
    realm["a"].frames.outcome = ends
    large = data(0, b"x" * 100_000)
    server.send(encoded_id(7), large)
    assert server.bounced() == (encoded_id(7), code, large)


def test_operators_reach_the_server_of_another_node() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    operator = realm["b"].operator()
    server.take()
    operator.send(encoded_id(7), relay(operator.link, b"call"))
    assert server.take() == [(encoded_id(7), relay(operator.link, b"call"))]
    server.send(encoded_id(7), relay(operator.link, b"reply"))
    assert operator.take() == [(encoded_id(7), relay(operator.link, b"reply"))]
    realm["a"].wire.full.add(server.routing_id)
    operator.send(encoded_id(7), relay(operator.link, b"call"))
    assert operator.bounced()[1] is Code.OVERLOADED
    realm["a"].wire.full.clear()
    operator.leave()
    server.take()
    server.send(encoded_id(7), relay(operator.link, b"reply"))
    assert server.bounced()[1] is Code.NO_SERVER


def test_players_reply_to_operators_of_their_node() -> None:
    realm = RealmDesks("a", "b")
    operator, player = realm["a"].operator(), realm["a"].player(7)
    operator.send(encoded_id(7), data(operator.link, b"call"))
    assert player.take() == [(b"", data(operator.link, b"call"))]
    player.send(data(operator.link, b"reply"))
    assert operator.take() == [(encoded_id(7), data(operator.link, b"reply"))]
    operator.send(encoded_id(8), data(operator.link, b"call"))
    assert operator.bounced()[1] is Code.UNKNOWN_PLAYER


# -- the server, and who is there


def test_the_server_learns_who_is_at_all_nodes() -> None:
    realm = RealmDesks("a", "b", "c")
    realm["b"].player(7)
    realm["c"].player("x")
    peer, told = hello(realm, "a", control.Hello(Role.SERVER))
    joined = {player for frame in told if isinstance(frame, control.Joined) for player in frame.player_ids}
    assert joined == {7, "x"} and isinstance(told[-1], control.Welcome)
    late = realm["c"].player("late")
    assert peer.told() == [control.Joined(("late",))]
    late.leave()
    assert peer.told() == [control.Left(("late",))]


def test_players_everywhere_learn_of_the_server() -> None:
    realm = RealmDesks("a", "b")
    player = realm["b"].player(7)
    server = serve(realm, "a")
    assert kinds(player) == ["ServerUp"]
    _, [welcome] = hello(realm, "b", control.Hello(Role.PLAYER, 8))
    assert isinstance(welcome, control.Welcome) and welcome.server
    server.leave()
    assert kinds(player) == ["ServerDown"]
    player.send(data())
    assert player.bounced()[1] is Code.NO_SERVER
    assert "seat" not in realm.records.there
    realm.check()


def test_one_server_acts_in_the_realm() -> None:
    realm = RealmDesks("a", "b")
    serve(realm, "a")
    _, [refused] = hello(realm, "b", control.Hello(Role.SERVER))
    assert isinstance(refused, control.Reject) and refused.code is RejectCode.SERVER_TAKEN
    _, [refused] = hello(realm, "a", control.Hello(Role.SERVER))
    assert isinstance(refused, control.Reject) and refused.code is RejectCode.SERVER_TAKEN


def test_one_that_stands_by_takes_over_when_the_other_leaves() -> None:
    realm = RealmDesks("a", "b")
    first = serve(realm, "a")
    second = serve(realm, "b", standby=True)
    player = realm["a"].player(7)
    assert second.session is not None and second.session.duty is Duty.STANDBY
    player.take()
    first.leave()
    realm.pass_time(0.5)
    assert second.session.duty is Duty.ACTING
    assert kinds(player) == ["ServerDown", "ServerUp"]
    second.take()
    player.send(data(0, b"x"))
    assert second.take() == [(encoded_id(7), data(0, b"x"))]
    realm.check()


def test_a_server_moves_with_its_ticket() -> None:
    realm = RealmDesks("a", "b")
    first = serve(realm, "a")
    peer, told = hello(realm, "b", control.Hello(Role.SERVER, ticket=ticket_of(first), server_links=True))
    assert isinstance(told[-1], control.Welcome)
    assert first.rejected().code is RejectCode.DRAINING
    assert peer.session is not None and peer.session.duty is Duty.ACTING
    realm.check()


def test_one_that_may_stand_by_moves_with_its_ticket_too() -> None:
    realm = RealmDesks("a", "b")
    first = serve(realm, "a", standby=True)
    peer, _ = hello(
        realm, "b", control.Hello(Role.SERVER, ticket=ticket_of(first), server_links=True, standby=True)
    )
    assert peer.session is not None and peer.session.duty is Duty.ACTING
    assert first.rejected().code is RejectCode.DRAINING


@pytest.mark.parametrize("standby", [False, True])
@pytest.mark.parametrize("node_lives", [False, True])
def test_a_server_that_moves_goes_before_those_that_stand_by_there(standby: bool, node_lives: bool) -> None:
    """What it knows is still there. Another server would begin anew."""
    realm = RealmDesks("a", "b", "c")
    first = serve(realm, "a", standby=standby)
    waits = serve(realm, "b", standby=True)
    ticket = ticket_of(first)
    if not node_lives:
        realm.kill("a")
    again = control.Hello(Role.SERVER, ticket=ticket, server_links=True, standby=standby)
    peer, _ = hello(realm, "b", again)
    realm.pass_time(GATHER_S + 0.5)  # the dead node does not say whom it has
    assert peer.session is not None and peer.session.duty is Duty.ACTING
    assert waits.session is not None and waits.session.duty is Duty.STANDBY
    player = realm["c"].player(7)
    peer.take()
    player.send(data(0, b"x"))
    assert (encoded_id(7), data(0, b"x")) in peer.take()
    realm.check()
    peer.leave()
    realm.pass_time(0.5)
    assert waits.session.duty is Duty.ACTING


def test_a_server_that_comes_too_late_does_not_go_before_another_one() -> None:
    """Its node has another server that acts by now, so its ticket fits no more."""
    realm = RealmDesks("a", "b")
    first = serve(realm, "a", standby=True)
    second = serve(realm, "a", standby=True)
    waits = serve(realm, "b", standby=True)
    ticket = ticket_of(first)
    first.leave()
    realm.pass_time(0.5)
    assert second.session is not None and second.session.duty is Duty.ACTING
    _, [refused] = hello(realm, "b", control.Hello(Role.SERVER, ticket=ticket, server_links=True))
    assert isinstance(refused, control.Reject) and refused.code is RejectCode.SERVER_TAKEN
    assert waits.session is not None and waits.session.duty is Duty.STANDBY
    realm.check()


def test_nobody_acts_in_place_of_a_server_that_may_have_moved() -> None:
    """Its ticket is in the record of the seat until the node has written another one there."""
    realm = RealmDesks("a", "b")
    first = serve(realm, "a", standby=True)
    second = serve(realm, "a", standby=True)
    again = control.Hello(Role.SERVER, ticket=ticket_of(first), server_links=True)
    realm["a"].cut = True
    first.leave()
    assert second.session is not None and second.session.duty is Duty.STANDBY
    moved, _ = hello(realm, "b", again)
    realm.pass_time(GATHER_S + 0.5)
    assert second.session is not None and second.session.duty is Duty.STANDBY
    assert moved.session is not None and moved.session.duty is Duty.ACTING
    realm.pass_time(LEASE_S)
    assert second.session is None and moved.session.duty is Duty.ACTING


def test_the_next_server_acts_once_the_record_names_it() -> None:
    realm = RealmDesks("a", "b")
    first = serve(realm, "a", standby=True)
    second = serve(realm, "a", standby=True)
    assert second.session is not None
    realm["a"].cut = True
    first.leave()
    realm["a"].cut = False
    realm.pass_time(1.0)
    assert second.session.duty is Duty.ACTING
    realm.check()


@pytest.mark.parametrize("leaves", ["nobody", "first", "second"])
def test_a_server_acts_until_the_record_names_the_next_one(leaves: str) -> None:
    realm = RealmDesks("a", "b")
    first = serve(realm, "a", standby=True)
    second = serve(realm, "a", standby=True)
    player = realm["b"].player(7)
    first.take(), second.take(), player.take()
    realm["a"].cut = True
    first.say(control.Order(1, control.What.HAND_OVER))
    assert kinds(first) == ["Answer"]
    if leaves != "nobody":
        {"first": first, "second": second}[leaves].leave()
    realm["a"].cut = False
    realm.pass_time(1.0)
    acts = first if leaves == "second" else second
    if leaves == "nobody":
        assert first.session is not None and first.session.duty is Duty.RETIRING
    assert acts.session is not None and acts.session.duty is Duty.ACTING
    acts.take()
    player.send(data(0, b"x"))
    assert (encoded_id(7), data(0, b"x")) in acts.take()
    realm.check()


def test_a_server_that_comes_back_does_not_hand_over_as_it_was_told_before() -> None:
    """Its hand-over failed when it lost its link."""
    realm = RealmDesks("a", "b")
    first = serve(realm, "a", standby=True)
    second = serve(realm, "a", standby=True)
    again = control.Hello(Role.SERVER, ticket=ticket_of(first), server_links=True, standby=True)
    realm["a"].cut = True
    first.say(control.Order(1, control.What.HAND_OVER))
    back, _ = hello(realm, "a", again)
    realm["a"].cut = False
    realm.pass_time(1.0)
    assert back.session is not None and back.session.duty is Duty.ACTING
    assert second.session is not None and second.session.duty is Duty.STANDBY
    realm.check()


@pytest.mark.parametrize("where", ["a", "b"])
def test_a_server_hands_over_to_a_later_one_if_the_next_one_dies(where: str) -> None:
    realm = RealmDesks("a", "b")
    first = serve(realm, "a", standby=True)
    second = serve(realm, "a", standby=True)
    realm["a"].cut = True
    first.say(control.Order(1, control.What.HAND_OVER))
    second.leave()
    realm["a"].cut = False
    realm.pass_time(1.0)
    third = serve(realm, where, standby=True)
    realm.pass_time(GATHER_S + 0.5)
    assert first.session is not None and first.session.duty is Duty.RETIRING
    assert third.session is not None and third.session.duty is Duty.ACTING
    realm.check()


def test_a_server_hands_over_to_one_at_another_node() -> None:
    realm = RealmDesks("a", "b")
    first = serve(realm, "a", standby=True)
    second = serve(realm, "b", standby=True)
    player = realm["b"].player(7)
    for peer in (first, second, player):
        peer.take()
    assert first.session is not None and second.session is not None
    player.send(data(0, b"call"))
    assert first.take() == [(encoded_id(7), data(0, b"call"))]
    first.say(control.Order(1, control.What.HAND_OVER))
    assert first.session.duty is Duty.RETIRING and second.session.duty is Duty.ACTING
    assert kinds(first) == ["Welcome", "Answer"]
    assert kinds(player) == ["ServerUp"]
    first.send(encoded_id(7), data(0, b"reply"))
    assert player.take() == [(b"", data(0, b"reply"))]
    second.take()
    player.send(data(0, b"next"))
    assert second.take() == [(encoded_id(7), data(0, b"next"))]
    realm.check()
    first.say(control.Bye(finished=True))
    realm.pass_time(0.5)
    assert not len(realm["a"].realm.presence.elsewhere) and kinds(player) == []


def handed_over(realm: RealmDesks) -> tuple[Peer, Peer]:
    """Have a server of node a hand over to another one. Return it, and a player of node b that calls it."""
    first, _ = hello(realm, "a", control.Hello(Role.SERVER, server_links=True, standby=True, bundles=True))
    serve(realm, "a", standby=True)
    player, _ = hello(realm, "b", control.Hello(Role.PLAYER, 7, server_links=True))
    player.send(data(0, b"call"))
    first.say(control.Order(1, control.What.HAND_OVER))
    first.take(), player.take()
    assert first.session is not None and first.session.duty is Duty.RETIRING
    realm["b"].wire.full.add(player.routing_id)
    return first, player


def is_told_of_the_loss(realm: RealmDesks, player: Peer) -> bool:
    realm["b"].wire.full.clear()
    realm["b"].switchboard.flush()
    return control.ServerDown() in player.told()


def test_a_reply_that_comes_back_while_its_server_leaves_ends_the_call() -> None:
    """Its server does not know that it came back, and leaves in order."""
    realm = RealmDesks("a", "b")
    first, player = handed_over(realm)
    realm.holds = True
    first.send(encoded_id(7), data(0, b"reply"))
    first.say(control.Ping())
    realm.holds = False
    realm.settle()
    assert [frame[1] for _, frame in first.take()] == [FrameType.PONG, FrameType.BOUNCE]
    assert not is_told_of_the_loss(realm, player)
    first.say(control.Bye(finished=True))
    assert is_told_of_the_loss(realm, player)
    realm.check()


def test_a_server_that_saw_its_reply_come_back_leaves_in_order() -> None:
    realm = RealmDesks("a", "b")
    first, player = handed_over(realm)
    first.send(encoded_id(7), data(0, b"reply"))
    first.say(control.Ping())
    assert [frame[1] for _, frame in first.take()] == [FrameType.BOUNCE, FrameType.PONG]
    first.say(control.Bye(finished=True))
    assert not is_told_of_the_loss(realm, player)


def test_what_comes_back_from_a_bundle_is_not_overtaken_by_a_pong() -> None:
    realm = RealmDesks("a", "b")
    first, _ = handed_over(realm)
    realm["a"].after = lambda: None
    first.send(encoded_id(7), data(0, b"reply"))
    realm["a"].frames.outcome = Sent.FULL  # the reply waits in a bundle, and finds no room
    first.say(control.Ping())
    assert [frame[1] for _, frame in first.take()] == [FrameType.BOUNCE, FrameType.PONG]


def test_nobody_stands_by_anywhere() -> None:
    realm = RealmDesks("a", "b")
    first = serve(realm, "a", standby=True)
    first.take()
    first.say(control.Order(1, control.What.HAND_OVER))
    [answer] = first.told()
    assert isinstance(answer, control.Answer) and answer.code is Code.NO_SERVER


@pytest.mark.parametrize("unaware", [True, False])
def test_a_server_that_retires_and_dies_is_missed_at_other_nodes(unaware: bool) -> None:
    """One that closes before it knows that it retires says BYE, unfinished."""
    realm = RealmDesks("a", "b")
    first = serve(realm, "a", standby=True)
    serve(realm, "a", standby=True)
    player, _ = hello(realm, "b", control.Hello(Role.PLAYER, 7, server_links=True))
    assert first.session is not None
    own = first.session.own_link
    first.say(control.Order(1, control.What.HAND_OVER))
    player.take()
    if unaware:
        first.say(control.Bye())
    else:
        first.leave()
    assert player.told() == [control.ServerDown(own), control.ServerUp()]


# -- nodes that are gone


def test_the_players_of_a_dead_node_leave() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    realm["b"].player(7)
    server.take()
    realm.kill("b")
    realm.pass_time(6.0)
    assert server.told() == [control.Left((7,))]


def test_an_id_of_a_dead_node_is_free_when_its_lease_is_over() -> None:
    realm = RealmDesks("a", "b")
    realm["b"].player(7)
    realm.kill("b")
    realm.pass_time(6.0)
    _, [refused] = hello(realm, "a", control.Hello(Role.PLAYER, 7))
    assert isinstance(refused, control.Reject)
    realm.pass_time(LEASE_S + PATIENCE_S)
    assert "node.b" not in realm.records.there
    realm["a"].player(7)


def test_a_standby_waits_for_the_lease_of_a_dead_node() -> None:
    realm = RealmDesks("a", "b")
    serve(realm, "a", standby=True)
    second = serve(realm, "b", standby=True)
    player = realm["b"].player(7)
    realm.kill("a")
    realm.pass_time(6.0)
    assert kinds(player) == ["ServerDown"]
    assert second.session is not None and second.session.duty is Duty.STANDBY
    realm.pass_time(LEASE_S)
    assert second.session.duty is Duty.ACTING and kinds(player) == ["ServerUp"]


def test_a_node_that_cannot_renew_ends_all_its_sessions() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    player = realm["a"].player(7)
    server.take(), player.take()
    realm["a"].cut = True
    realm.pass_time(LEASE_S)
    assert player.told()[-1].code is RejectCode.DRAINING  # type: ignore[union-attr]
    assert "lost its realm" in server.told()[-1].reason  # type: ignore[union-attr]
    assert not realm["a"].switchboard.roster.sessions()
    realm["a"].cut = False
    realm.pass_time(LEASE_S)
    assert sorted(realm["a"].switchboard.roster.nodes) == ["b"]
    realm["a"].player(7)
    serve(realm, "b")
    realm.check()


def test_a_node_that_leaves_frees_its_name_at_once() -> None:
    realm = RealmDesks("a", "b")
    realm["a"].realm.leave()
    realm.kill("a")
    realm.settle()
    assert "node.a" not in realm.records.there and not realm["b"].switchboard.roster.nodes
    realm.start("a")
    realm.pass_time(1.0)
    assert sorted(realm["b"].switchboard.roster.nodes) == ["a"]


def test_a_second_broker_with_the_name_of_a_node_is_refused() -> None:
    realm = RealmDesks("a")
    first = realm["a"]
    second = realm.start("a")
    for _ in range(40):
        realm.now += 0.25
        for node in (first, second):
            node.now = realm.now
            node.realm.begin_step(realm.now)
            node.switchboard.tick(realm.now)
        realm.records.settle(realm.now)
    assert second.realm.is_refused and not first.realm.is_refused
    assert not second.realm.meets_rival and not first.realm.meets_rival


def test_messages_that_are_lost_end_what_was_on_its_way() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    player = realm["b"].player(7)
    server.take(), player.take()
    realm.holds = True
    player.send(data(0, b"lost"))
    realm["b"].frames.sent.clear()
    realm.holds = False
    player.send(data(0, b"next"))
    assert [type(frame) for frame in server.told()] == [control.Left, control.Joined]
    assert kinds(player) == ["ServerDown", "ServerUp"]
    player.send(data(0, b"again"))
    assert server.take() == [(encoded_id(7), data(0, b"again"))]
    realm.check()


def test_a_node_that_nobody_is_at_any_more_ends_what_was_on_its_way() -> None:
    """The others do not have to wait for a silence."""
    realm = RealmDesks("a", "b", "c")
    server = serve(realm, "a")
    player = realm["b"].player(7)
    far = realm["c"].player(8)
    player.send(data(0, b"call"))
    realm.settle()
    server.take()
    player.take()
    realm.kill("b")
    realm.pass_time(1.0)
    realm.tell_that_nobody_is_at("b")
    assert control.Left((7,)) in server.told()
    assert "b" not in realm["a"].switchboard.roster.nodes and "b" not in realm["c"].switchboard.roster.nodes
    assert "ServerDown" not in kinds(far)
    realm.kill("a")
    realm.tell_that_nobody_is_at("a")
    assert "ServerDown" in kinds(far)
    realm.check()


def test_an_interruption_ends_what_was_on_its_way() -> None:
    realm = RealmDesks("a", "b")
    server = serve(realm, "a")
    player = realm["b"].player(7)
    server.take(), player.take()
    realm["b"].realm.other_nodes.interrupted(realm.now)
    realm.settle()
    assert [type(frame) for frame in server.told()] == [control.Left, control.Joined]
    assert kinds(player) == ["ServerDown", "ServerUp"]


def test_a_node_that_sends_what_no_node_sends_begins_anew() -> None:
    realm = RealmDesks("a", "b")
    player = realm["b"].player(7)
    serve(realm, "a")
    pairs = realm["a"].realm.other_nodes.pairs
    for id_part, frame in (
        (b"", b"\1\2"),
        (b"", b"\0\xc1"),
        (b"", encode(control.Bye())),
        (b"\xc1", b""),
        (b"", header(FrameType.BUNDLE) + b"\xc1"),
    ):
        player.take()
        pairs.send("b", id_part, frame)
        realm.settle()
        assert kinds(player) == ["ServerDown", "ServerUp"], frame
    assert realm["b"].counters.violations == 5
    pairs.send("b", b"", b"\0\x91\x63")  # a kind that only later versions know
    realm.settle()
    assert kinds(player) == [] and sorted(realm["b"].switchboard.roster.nodes) == ["a"]


def test_a_lost_bucket_ends_all_sessions_and_all_come_back() -> None:
    realm = RealmDesks("a", "b")
    player = realm["a"].player(7)
    realm.records.there.clear()
    realm.pass_time(4.0)
    assert isinstance(player.told()[-1], control.Reject)
    realm.pass_time(4.0)
    realm["b"].player(7)
    assert sorted(realm["a"].switchboard.roster.nodes) == ["b"]
    realm.check()


def test_a_record_that_is_gone_is_written_anew() -> None:
    realm = RealmDesks("a", "b")
    realm["a"].player(7)
    del realm.records.there["p.Bw"]
    realm.pass_time(0.0)
    realm["a"].realm.claims.names.doubt("p.Bw")
    realm.pass_time(0.5)
    assert "p.Bw" in realm.records.there


def test_a_record_that_another_node_has_taken_ends_the_session() -> None:
    realm = RealmDesks("a", "b")
    player = realm["a"].player(7)
    realm.records.there["p.Bw"] = realm.records.there[f"index.{realm['b'].realm.indexes.own}"]
    realm["a"].realm.claims.names.doubt("p.Bw")
    realm.pass_time(0.5)
    assert player.rejected().code is RejectCode.REPLACED


def test_contact_has_the_seat_looked_at() -> None:
    realm = RealmDesks("a")
    realm["a"].realm.contact(False, realm.now)
    assert not realm.records.asked
    realm["a"].realm.contact(True, realm.now)
    assert realm.records.step(realm.now) == ("read", "seat")
    assert isinstance(realm.records.there.get("seat", Absent()), Absent)
