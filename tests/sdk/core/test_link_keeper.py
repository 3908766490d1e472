"""The link keeper: how a link is welcomed, refused and lost, the lease, and draining."""

from __future__ import annotations

import re

import pytest
from support.corefakes import DATA_0, Desk, envelopes_of, rows_of

from ringback.core.link_state import FIRST_DELAY_S, LONGEST_DELAY_S, WELCOME_WITHIN_S
from ringback.core.shell import EndpointEvent
from ringback.errors import (
    BrokerUnreachable,
    Code,
    ConnectionLost,
    IDTaken,
    Refused,
    RejectCode,
    ServerTaken,
    Unauthorized,
)
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.envelopes import RESULT, Encoder, join
from ringback.protocol.frames import HEADER, FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())


def connected(role: Role, *, link: int = 0, lease_ms: int = 30_000) -> Desk:
    desk = Desk(role)
    desk.connect(link=link, lease_ms=lease_ms)
    desk.shell.events.clear()
    return desk


def reject(code: RejectCode) -> control.Reject:
    return control.Reject(code, "because")


# -- start


def test_hello_says_who_it_is() -> None:
    player = Desk(Role.PLAYER, player_id="ann", keys=("a", "b"))
    player.core.start(player.clock.now, 5.0)
    assert player.shell.told() == [
        control.Hello(Role.PLAYER, "ann", ("a", "b"), "test/1", 1000, ticket=b"", server_links=True)
    ]
    assert not player.core.connected and player.shell.starts == []
    player.welcome()
    assert player.core.connected and player.shell.starts == [None]
    assert player.shell.events == [(EndpointEvent.CONNECTED, "tcp://broker")]
    assert player.core.player_id == "ann"


def test_a_server_knows_the_connected_players_when_it_is_welcomed() -> None:
    server = Desk(Role.SERVER)
    server.core.start(server.clock.now, 5.0)
    server.told(control.Joined((3, "x")))
    server.told(control.Joined((4,)))
    assert server.shell.starts == []
    server.welcome()
    assert list(server.core.players) == [3, "x", 4]
    server.told(control.Left((3,)))
    server.told(control.Left((3,)))
    assert list(server.core.players) == ["x", 4]
    assert server.shell.events[-1] == (EndpointEvent.PLAYER_LEFT, 3)
    assert server.shell.events.count((EndpointEvent.PLAYER_LEFT, 3)) == 1


def test_no_broker_in_time() -> None:
    player = Desk(Role.PLAYER)
    player.core.start(player.clock.now, 2.0)
    player.core.link_lost(player.clock.now, "refused")
    player.wait(1.9)
    assert player.shell.starts == [] and player.shell.opened > 1
    player.core.link_lost(player.clock.now, "refused")
    player.wait(0.2)
    [error] = player.shell.starts
    assert isinstance(error, BrokerUnreachable) and "refused" in str(error)
    opened = player.shell.opened
    player.wait(10.0)
    assert player.shell.opened == opened and not player.shell.link_open
    assert player.shell.warnings == []
    assert player.core.due_at() is None


def test_an_address_that_cannot_be_opened() -> None:
    player = Desk(Role.PLAYER)
    player.shell.refuses_to_open = OSError("no such device")
    player.core.start(player.clock.now, 1.0)
    player.wait(1.0)
    [error] = player.shell.starts
    assert isinstance(error, BrokerUnreachable) and "no such device" in str(error)


def test_joined_but_never_welcomed_leaves_nobody_behind() -> None:
    server = Desk(Role.SERVER)
    server.core.start(server.clock.now, 1.0)
    server.told(control.Joined((3,)))
    server.wait(1.0)
    assert isinstance(server.shell.starts[0], BrokerUnreachable)
    assert not server.core.players


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (RejectCode.UNSUPPORTED_VERSION, Refused),
        (RejectCode.PROTOCOL_ERROR, Refused),
        (RejectCode.ID_TAKEN, IDTaken),
        (RejectCode.FULL, Refused),
    ],
)
def test_a_refused_start(code: RejectCode, error: type[Refused]) -> None:
    player = Desk(Role.PLAYER, player_id=5)
    player.core.start(player.clock.now, 5.0)
    player.told(reject(code))
    [raised] = player.shell.starts
    assert type(raised) is error
    assert isinstance(raised, Refused) and raised.code is code and "because" in str(raised)
    assert not player.shell.link_open
    player.wait(20.0)
    assert player.shell.opened == 1


def test_a_broker_that_drains_may_be_replaced_during_the_start() -> None:
    player = Desk(Role.PLAYER)
    player.core.start(player.clock.now, 5.0)
    player.told(reject(RejectCode.DRAINING))
    assert player.shell.starts == []
    player.wait(FIRST_DELAY_S)
    assert player.shell.opened == 2
    player.welcome()
    assert player.shell.starts == [None]


def test_a_broker_that_drains_all_through_the_start_has_refused_it() -> None:
    player = Desk(Role.PLAYER)
    player.core.start(player.clock.now, 1.0)
    while not player.shell.starts:
        if player.shell.link_open:
            player.told(reject(RejectCode.DRAINING))
        player.wait(0.1)
    [error] = player.shell.starts
    assert isinstance(error, Refused) and error.code is RejectCode.DRAINING


def test_a_server_waits_for_the_one_that_it_replaces() -> None:
    server = Desk(Role.SERVER)
    server.core.start(server.clock.now, 5.0)
    server.told(reject(RejectCode.SERVER_TAKEN))
    server.wait(FIRST_DELAY_S)
    assert server.shell.starts == [] and server.shell.opened == 2
    server.welcome()
    assert server.shell.starts == [None]


def test_a_server_whose_place_is_taken_all_through_the_start() -> None:
    server = Desk(Role.SERVER)
    server.core.start(server.clock.now, 1.0)
    while not server.shell.starts:
        if server.shell.link_open:
            server.told(reject(RejectCode.SERVER_TAKEN))
        server.wait(0.1)
    [error] = server.shell.starts
    assert isinstance(error, ServerTaken)


@pytest.mark.parametrize("role", Role)
def test_an_endpoint_shows_the_ticket_of_its_latest_session(role: Role) -> None:
    desk = Desk(role)
    desk.core.start(desk.clock.now, 5.0)
    shown = []
    for number in range(3):
        [hello] = desk.shell.told()
        assert isinstance(hello, control.Hello)
        shown.append(hello.ticket)
        ticket = None if role is Role.OPERATOR else bytes([number]) * 16
        player_id = 7 if role is Role.PLAYER else None
        welcome = control.Welcome(0, player_id, True, 30_000, "test", ticket=ticket)
        desk.told(welcome)
        assert b"\1\1" not in repr(welcome).encode() and "\\x01" not in repr((hello, welcome))
        desk.core.link_lost(desk.clock.now, "test")
        desk.wait(LONGEST_DELAY_S)
    assert shown == ([None] * 3 if role is Role.OPERATOR else [b"", bytes(16), b"\1" * 16])


def test_a_broker_that_gives_no_tickets() -> None:
    player = connected(Role.PLAYER)
    player.core.link_lost(player.clock.now, "test")
    player.wait(FIRST_DELAY_S)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.ticket == b""


def test_a_player_sends_fewer_heartbeats_in_a_crowd() -> None:
    player = Desk(Role.PLAYER)
    player.core.start(player.clock.now, 5.0)
    asked = control.Reject(RejectCode.HEARTBEAT_TOO_SHORT, "because", heartbeat_ms=5000)
    player.told(asked)
    assert player.shell.starts == []
    player.shell.take_sent()
    for _ in range(2):  # also when the link was lost
        player.wait(2 * FIRST_DELAY_S)
        [hello] = player.shell.told()
        assert isinstance(hello, control.Hello) and hello.heartbeat_ms == 5000
        assert player.shell.heartbeat_ms == 5000
        player.told(control.Welcome(0, 1, True, 30_000, "test"))
        player.core.link_lost(player.clock.now, "test")
    assert player.shell.starts == [None]


@pytest.mark.parametrize("asked_ms", [None, 0, 1000, 60_001])
def test_an_interval_of_heartbeats_that_is_out_of_range(asked_ms: int | None) -> None:
    player = Desk(Role.PLAYER)
    player.core.start(player.clock.now, 5.0)
    player.told(control.Reject(RejectCode.HEARTBEAT_TOO_SHORT, "because", heartbeat_ms=asked_ms))
    [error] = player.shell.starts
    assert isinstance(error, Refused) and error.code is RejectCode.HEARTBEAT_TOO_SHORT


def test_a_close_during_the_start() -> None:
    player = Desk(Role.PLAYER)
    player.core.start(player.clock.now, 5.0)
    player.shell.take_sent()
    player.core.close()
    [error] = player.shell.starts
    assert isinstance(error, ConnectionLost)
    assert player.shell.take_sent() == [] and not player.shell.link_open


# -- the ID


def test_an_id_that_the_broker_gave_is_asked_for_again() -> None:
    player = Desk(Role.PLAYER)
    player.core.start(player.clock.now, 5.0)
    player.told(control.Welcome(0, 12, True, 30_000, "test"))
    assert player.core.player_id == 12
    player.shell.take_sent()
    player.core.link_lost(player.clock.now, "test")
    player.wait(FIRST_DELAY_S)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.player_id == 12
    player.told(reject(RejectCode.ID_TAKEN))
    player.wait(2 * FIRST_DELAY_S)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.player_id is None
    player.told(control.Welcome(0, 13, True, 30_000, "test"))
    assert player.core.player_id == 13


def test_a_given_id_that_was_taken_does_not_fail_another_start() -> None:
    player = Desk(Role.PLAYER)
    player.connect()
    player.core.close()
    player.core.start(player.clock.now, 5.0)
    player.told(reject(RejectCode.ID_TAKEN))
    assert player.shell.starts == []
    player.shell.take_sent()
    player.wait(FIRST_DELAY_S)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.player_id is None


def test_an_id_of_its_own_is_kept() -> None:
    player = Desk(Role.PLAYER, player_id="ann")
    player.connect()
    player.core.link_lost(player.clock.now, "test")
    for _ in range(3):
        player.wait(1.0)
        [hello] = player.shell.told()
        assert isinstance(hello, control.Hello) and hello.player_id == "ann"
        player.told(reject(RejectCode.ID_TAKEN))


def test_a_start_waits_for_the_end_of_a_session_that_it_may_have_left_behind() -> None:
    player = Desk(Role.PLAYER, player_id="ann")
    player.core.start(player.clock.now, 30.0)
    player.core.link_answered()
    player.wait(WELCOME_WITHIN_S)  # the broker is late: its WELCOME goes to nobody
    player.wait(LONGEST_DELAY_S)
    player.told(reject(RejectCode.ID_TAKEN))
    player.wait(LONGEST_DELAY_S)
    player.told(reject(RejectCode.ID_TAKEN))
    assert player.shell.starts == []
    player.wait(LONGEST_DELAY_S)
    player.welcome()
    assert player.shell.starts == [None] and player.core.player_id == "ann"


def test_a_start_fails_if_the_id_stays_taken() -> None:
    player = Desk(Role.PLAYER, player_id="ann")
    player.core.start(player.clock.now, 10.0)
    player.core.link_answered()
    player.core.link_lost(player.clock.now, "cut")
    while not player.shell.starts:
        if player.shell.link_open:
            player.told(reject(RejectCode.ID_TAKEN))
        player.wait(0.1)
    assert player.shell.opened > 2
    [raised] = player.shell.starts
    assert type(raised) is IDTaken


def test_a_session_may_be_left_of_the_start_before() -> None:
    player = Desk(Role.PLAYER, player_id="ann")
    player.core.start(player.clock.now, 3.0)
    player.core.link_answered()
    player.wait(3.0)
    assert isinstance(player.shell.starts.pop(), BrokerUnreachable)
    player.core.start(player.clock.now, 10.0)
    player.told(reject(RejectCode.ID_TAKEN))
    assert player.shell.starts == []
    player.wait(LONGEST_DELAY_S)
    player.welcome()
    assert player.shell.starts == [None]
    player.core.close()
    player.core.start(player.clock.now, 10.0)
    player.told(reject(RejectCode.ID_TAKEN))  # BYE has ended that session
    assert isinstance(player.shell.starts.pop(), IDTaken)


def test_an_id_is_taken_by_another_one_if_no_session_can_be_left() -> None:
    player = Desk(Role.PLAYER, player_id="ann")
    player.core.start(player.clock.now, 10.0)
    player.core.link_lost(player.clock.now, "the connection was refused")  # no broker ever answered
    player.wait(FIRST_DELAY_S)
    player.told(reject(RejectCode.ID_TAKEN))
    [raised] = player.shell.starts
    assert type(raised) is IDTaken


# -- a lost link


def test_a_link_is_opened_again_with_growing_waits() -> None:
    player = Desk(Role.PLAYER, random=lambda: 0.0)
    player.connect()
    player.core.link_lost(player.clock.now, "cut")
    assert player.shell.events[-1] == (EndpointEvent.DISCONNECTED, "cut")
    waits = []
    for _ in range(8):
        assert not player.core.connected and not player.shell.link_open
        due_at = player.core.due_at()
        assert due_at is not None
        waits.append(round(due_at - player.clock.now, 4))
        player.clock.now = due_at
        player.core.tick(due_at)
        assert player.shell.link_open
        player.core.link_lost(player.clock.now, "cut")
    assert waits == [0.025, 0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5]
    assert waits[-1] == LONGEST_DELAY_S / 2
    assert len(player.shell.warnings) == 1
    assert [event for event, _ in player.shell.events].count(EndpointEvent.DISCONNECTED) == 1


def test_a_problem_is_logged_once_and_another_one_again() -> None:
    player = connected(Role.PLAYER)
    for why in ("a", "a", "b", "b"):
        player.core.link_lost(player.clock.now, why)
        player.wait(1.0)
    assert [re.sub(r"in [\d.]+ s", "soon", text) for text in player.shell.warnings] == [
        "the link to tcp://broker was lost (a); next attempt soon",
        "no link to tcp://broker (b); next attempt soon",
    ]
    player.welcome()
    assert player.shell.warnings[2:] == ["the link to tcp://broker is back"]
    player.core.link_lost(player.clock.now, "b")
    assert len(player.shell.warnings) == 4
    player.core.link_lost(player.clock.now, "b")
    assert len(player.shell.warnings) == 4


def test_a_server_forgets_its_players_when_the_link_is_lost() -> None:
    server = connected(Role.SERVER)
    server.told(control.Joined((1, 2)))
    server.core.link_lost(server.clock.now, "cut")
    assert not server.core.players
    lost = [argument for event, argument in server.shell.events if event is EndpointEvent.PLAYER_LEFT]
    assert lost == [1, 2]


def test_a_restart_that_fails_reports_no_lost_link() -> None:
    player = connected(Role.PLAYER)
    player.core.close()
    player.core.start(player.clock.now, 1.0)
    player.core.link_lost(player.clock.now, "refused")
    assert [event for event, _ in player.shell.events if event is EndpointEvent.DISCONNECTED] == []


def test_an_operators_new_link_number_counts() -> None:
    operator = connected(Role.OPERATOR, link=3)
    operator.core.link_lost(operator.clock.now, "cut")
    operator.wait(FIRST_DELAY_S)
    operator.welcome(link=8)
    operator.shell.take_sent()
    call = operator.call(7, flush=True)
    [(_, frame)] = operator.shell.take_sent()
    assert frame[:8] == header(FrameType.DATA, 8)
    operator.gets(header(FrameType.DATA, 3) + join([write.result(call.id, ())]), encode_player_id(7))
    assert not call.done


# -- refusals later


@pytest.mark.parametrize("code", sorted(set(RejectCode) - {RejectCode.REPLACED, RejectCode.KICKED}))
def test_a_reject_later_leads_to_a_new_link(code: RejectCode) -> None:
    player = connected(Role.PLAYER)
    call = player.call(flush=True)
    player.told(reject(code))
    assert call.outcome == (Code.CONNECTION_LOST, "maybe")
    assert code.name in call.error.message
    assert not player.shell.link_open and player.shell.starts == []
    player.wait(FIRST_DELAY_S)
    assert player.shell.opened == 2
    player.check_at_rest()


@pytest.mark.parametrize("body", [b"", b"\x80", b"\xc1"])
def test_a_reject_that_cannot_be_read_is_one_too(body: bytes) -> None:
    player = connected(Role.PLAYER)
    player.gets(header(FrameType.REJECT) + body)
    assert not player.core.connected and not player.shell.link_open
    player.wait(FIRST_DELAY_S)
    assert player.shell.opened == 2


def test_a_welcome_that_cannot_be_read_welcomes_nobody() -> None:
    player = Desk(Role.PLAYER)
    player.core.start(player.clock.now, 5.0)
    player.gets(header(FrameType.WELCOME) + b"\x80")
    assert not player.core.connected and not player.shell.link_open
    player.wait(FIRST_DELAY_S)
    player.welcome()
    assert player.shell.starts == [None]


# -- the lease


def test_a_ping_of_the_broker_is_answered_in_order() -> None:
    player = connected(Role.PLAYER)
    player.told(control.Ping(b"a"))
    player.told(control.Ping(b"b" * 64))
    player.flush()
    assert player.shell.told() == [control.Pong(b"a"), control.Pong(b"b" * 64)]


def test_pings_keep_the_lease() -> None:
    player = connected(Role.PLAYER, lease_ms=3000)
    for _ in range(5):
        player.wait(1.5)
        assert player.shell.told() == [control.Ping(b"")]
        player.told(control.Pong(b""))
    assert player.core.connected
    assert rows_of(player.counters) == {}


def test_a_silent_broker_is_given_up() -> None:
    player = connected(Role.PLAYER, lease_ms=3000)
    call = player.call(flush=True)
    player.wait(2.99)
    assert player.core.connected
    player.wait(0.01)
    assert not player.core.connected and call.outcome == (Code.CONNECTION_LOST, "maybe")
    assert player.shell.events == [(EndpointEvent.DISCONNECTED, "the broker is silent")]


def test_a_broker_that_sends_no_welcome_is_given_up() -> None:
    player = connected(Role.PLAYER)
    player.core.link_lost(player.clock.now, "cut")
    player.wait(FIRST_DELAY_S + WELCOME_WITHIN_S - 0.01)
    assert player.shell.opened == 2
    player.wait(0.2)
    assert player.shell.opened == 3


def test_a_late_broker_is_waited_for_longer_the_next_time() -> None:
    player = connected(Role.PLAYER)
    player.core.link_lost(player.clock.now, "cut")
    player.wait(FIRST_DELAY_S)
    player.core.link_answered()
    player.wait(WELCOME_WITHIN_S + 2 * FIRST_DELAY_S)
    assert player.shell.opened == 3
    player.core.link_answered()
    player.wait(2 * WELCOME_WITHIN_S - 0.01)
    assert player.shell.opened == 3
    player.welcome()
    assert player.core.connected


# -- draining


@pytest.mark.parametrize("ends", [False, True])
def test_an_endpoint_may_end_with_its_broker(ends: bool) -> None:
    """It runs in the process of the broker, which stops for good."""
    operator = Desk(Role.OPERATOR)
    if ends:
        operator.core.end_with_broker()
    operator.connect(link=1)
    operator.told(control.DrainingNotice(10_000))
    operator.flush()
    assert not operator.core.connected and operator.shell.events[-1][0] is EndpointEvent.DISCONNECTED
    assert bool(operator.shell.warnings) is not ends
    operator.wait(60.0)
    assert (operator.shell.opened == 1) is ends


def test_a_broker_drains() -> None:
    server = connected(Role.SERVER)
    server.told(control.Joined((7,)))
    call, query = server.call(7, flush=True), DATA_0 + join([write.call(5, "k", None, None)])
    server.gets(query, encode_player_id(7))
    [execution] = server.handle()
    server.shell.take_sent()
    server.told(control.DrainingNotice(10_000))
    assert server.core.connected
    assert server.call(7).outcome == (Code.DRAINING, "no")
    server.flush()
    assert server.shell.take_sent() == []
    server.gets(DATA_0 + join([write.result(call.id, (1,))]), encode_player_id(7))
    assert call.results == (1,)
    server.flush()
    assert server.shell.take_sent() == []
    execution("done")
    server.shell.room = 0
    assert not server.flush()
    assert server.core.connected
    server.shell.room = None
    server.flush()
    answer, bye = server.shell.take_sent()
    assert answer[1] == DATA_0 + join([write.result(5, ("done",))])
    assert bye == (b"", encode(control.Bye()))
    assert not server.core.connected and server.shell.closed == 1
    assert server.shell.events[-1] == (EndpointEvent.PLAYER_LEFT, 7) or not server.core.players
    server.wait(FIRST_DELAY_S)
    server.told(reject(RejectCode.DRAINING))
    server.wait(2 * FIRST_DELAY_S)
    assert server.shell.opened == 3
    server.welcome()
    assert not server.call(7, flush=True).done


def test_bounced_replies_hold_a_drain_up() -> None:
    server = connected(Role.SERVER)
    server.gets(DATA_0 + join([write.call(5, "k", None, None)]), encode_player_id(7))
    server.handle()[0]()
    server.flush()
    [(address, frame)] = server.shell.take_sent()
    server.told(control.DrainingNotice(10_000))
    server.gets(HEADER.pack(1, FrameType.BOUNCE, Code.OVERLOADED, 0) + frame, address)
    server.flush()
    assert server.core.connected and server.shell.take_sent() == []
    server.wait(0.06)
    assert [sent[1][1] for sent in server.shell.take_sent()][:2] == [FrameType.DATA, FrameType.BYE]


def test_a_call_to_oneself_does_not_hold_a_drain_up() -> None:
    server = connected(Role.SERVER)
    local = server.call(7, kind=None, flush=True)
    server.told(control.DrainingNotice(10_000))
    server.flush()
    assert server.shell.told() == [control.Bye()]
    server.handle()[0](1)
    server.flush()
    assert local.results == (1,)


def test_a_time_out_ends_a_drain() -> None:
    player = connected(Role.PLAYER)
    player.call(timeout_s=1.0, flush=True)
    player.told(control.DrainingNotice(10_000))
    player.wait(0.9)
    assert player.shell.opened == 1
    player.wait(0.11)
    assert not player.core.connected
    assert player.shell.take_sent()[-1] == (b"", encode(control.Bye()))


# -- close


def test_close_says_bye_after_what_waits() -> None:
    player = connected(Role.PLAYER)
    call, local = player.call(), player.call("me", kind=None)
    player.gets(DATA_0 + join([write.call(5, "k", None, None), write.call(6, "k", None, None)]))
    running, over = player.handle()
    over(2)
    player.core.close()
    (_, reply), (_, bye) = player.shell.take_sent()
    assert envelopes_of(reply) == [[RESULT, 6, [2]]] and bye[1] == FrameType.BYE
    assert (call.outcome, local.outcome) == ((Code.CONNECTION_LOST, "no"), (Code.CONNECTION_LOST, "maybe"))
    assert running.cancelled and player.handle() == []
    running(1)
    player.check_at_rest()
    assert player.call().outcome == (Code.CONNECTION_LOST, "no")
    assert player.call("me", kind=None).outcome == (Code.CONNECTION_LOST, "no")
    player.core.link_lost(player.clock.now, "late news")
    player.core.close()
    player.wait(10.0)
    assert player.shell.opened == player.shell.closed == 1
    assert player.core.due_at() is None


def test_close_with_a_link_that_takes_no_more() -> None:
    player = connected(Role.PLAYER)
    call = player.call()
    player.shell.room = 0
    player.core.close()
    assert call.outcome == (Code.CONNECTION_LOST, "no")
    player.check_sums()


# -- keys


def test_a_key_that_is_refused_fails_a_start_at_once() -> None:
    player = Desk(Role.PLAYER)
    player.core.start(player.clock.now, 5.0)
    player.core.link_refused(player.clock.now, "this key is not allowed")
    [error] = player.shell.starts
    assert isinstance(error, Unauthorized) and error.code is RejectCode.UNAUTHORIZED
    assert "this key is not allowed" in str(error)
    assert not player.shell.link_open


def test_a_key_that_is_refused_later_is_tried_again() -> None:
    player = connected(Role.PLAYER)
    player.core.link_lost(player.clock.now, "cut")
    player.wait(FIRST_DELAY_S)
    player.core.link_refused(player.clock.now, "this key is not allowed")
    opened = player.shell.opened
    player.wait(2.0)
    assert player.shell.opened == opened + 1


@pytest.mark.parametrize("code", [RejectCode.REPLACED, RejectCode.KICKED])
def test_an_endpoint_that_was_replaced_or_kicked_does_not_come_back(code: RejectCode) -> None:
    player = connected(Role.PLAYER)
    call = player.call(None)
    player.told(reject(code))
    assert call.error is not None and call.error.code is Code.CONNECTION_LOST
    assert [event for event, _ in player.shell.events][-1] is EndpointEvent.DISCONNECTED
    player.wait(60.0)
    assert player.shell.opened == 1 and player.core.due_at() is None
    player.core.close()
    player.core.start(player.clock.now, 5.0)
    assert player.shell.opened == 2


def test_an_id_that_is_not_allowed_any_more_is_not_asked_for() -> None:
    player = Desk(Role.PLAYER)
    player.connect()
    player.core.link_lost(player.clock.now, "cut")
    player.wait(FIRST_DELAY_S)
    player.shell.take_sent()
    player.told(reject(RejectCode.UNAUTHORIZED))
    player.wait(1.0)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.player_id is None
