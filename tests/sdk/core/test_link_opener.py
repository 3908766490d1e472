"""The link opener: brokers, their addresses and tokens, and what follows when one fails."""

from __future__ import annotations

from support.corefakes import Desk

from ringback.core.link_opener import RESOLVED_WITHIN_S
from ringback.core.link_state import FIRST_DELAY_S, LONGEST_DELAY_S
from ringback.errors import BrokerUnreachable, IDTaken, RejectCode, Unauthorized
from ringback.protocol import control
from ringback.protocol.frames import Role


def reject(code: RejectCode) -> control.Reject:
    return control.Reject(code, "because")


# -- tokens


def test_each_link_has_a_token_of_its_own() -> None:
    player = Desk(Role.PLAYER, needs_token=True)
    player.core.start(player.clock.now, 5.0)
    assert player.shell.asked_for == 1 and not player.shell.link_open
    player.core.take_token(1, "one", None, player.clock.now)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.token == "one"
    assert "token" not in repr(hello)
    player.welcome()
    player.told(reject(RejectCode.TOKEN_EXPIRED))
    player.shell.take_sent()
    player.wait(FIRST_DELAY_S)
    number = player.shell.asked_for
    assert number > 1
    player.core.take_token(1, "old", None, player.clock.now)  # this token came too late
    assert not player.shell.link_open
    player.core.take_token(number, "two", None, player.clock.now)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.token == "two"
    player.core.take_token(number, "two", None, player.clock.now)  # a second token for the same request
    assert player.shell.opened == 2


def test_a_token_that_is_missing_is_asked_for_again() -> None:
    player = Desk(Role.PLAYER, needs_token=True)
    player.core.start(player.clock.now, 1.0)
    player.core.take_token(1, "", OSError("no route"), player.clock.now)
    assert player.shell.starts == []
    player.wait(FIRST_DELAY_S)
    assert player.shell.asked_for > 1
    player.wait(1.0)
    [error] = player.shell.starts
    assert isinstance(error, BrokerUnreachable) and "no token: OSError: no route" in str(error)
    player.core.take_token(player.shell.asked_for, "late", None, player.clock.now)
    assert player.shell.opened == 0


def test_a_token_that_does_not_come_is_the_reason() -> None:
    player = Desk(Role.PLAYER, needs_token=True)
    player.core.start(player.clock.now, 1.0)
    player.wait(1.1)
    [error] = player.shell.starts
    assert isinstance(error, BrokerUnreachable)
    assert "the function for tokens has not returned" in str(error)
    player.core.start(player.clock.now, 1.0)
    player.core.take_token(player.shell.asked_for, "one", None, player.clock.now)
    player.wait(1.1)
    assert "function for tokens" not in str(player.shell.starts[-1])


def test_a_token_that_has_expired_fails_a_start_at_once() -> None:
    player = Desk(Role.PLAYER, needs_token=True)
    player.core.start(player.clock.now, 5.0)
    player.core.take_token(1, "old", None, player.clock.now)
    player.told(reject(RejectCode.TOKEN_EXPIRED))
    [error] = player.shell.starts
    assert isinstance(error, Unauthorized) and error.code is RejectCode.TOKEN_EXPIRED


# -- names and addresses


def by_name(*addresses: str, needs_token: bool = False) -> Desk:
    """Return a started player whose broker has these addresses, or with none: whose lookup runs."""
    player = Desk(Role.PLAYER, needs_token=needs_token, player_id=7)
    player.shell.addresses = addresses or None
    player.core.start(player.clock.now, 5.0)
    return player


def test_the_next_address_is_tried_at_once() -> None:
    player = by_name("a", "b", "c")
    player.core.link_lost(player.clock.now, "refused")
    player.wait(0.0)
    player.core.link_lost(player.clock.now, "refused")
    player.wait(0.0)
    assert player.shell.dialled == ["a", "b", "c"] and player.shell.lookup == 1
    player.welcome()
    assert player.shell.starts == [None]


def test_a_round_that_failed_is_followed_by_a_wait_and_a_lookup() -> None:
    player = by_name("a", "b")
    for _ in range(2):
        player.core.link_lost(player.clock.now, "refused")
        player.wait(0.0)
    assert player.shell.dialled == ["a", "b"] and player.shell.lookup == 1
    player.shell.addresses = ("c",)
    player.wait(FIRST_DELAY_S)
    assert player.shell.dialled == ["a", "b", "c"] and player.shell.lookup == 2


def test_an_address_that_cannot_be_opened_is_followed_by_the_next() -> None:
    player = Desk(Role.PLAYER)
    player.shell.addresses = ("a", "b")
    player.shell.refuses_to_open = OSError("no route")
    player.core.start(player.clock.now, 5.0)
    player.shell.refuses_to_open = None
    player.wait(0.0)
    assert player.shell.dialled == ["a", "b"]


def test_a_black_hole_gets_its_share_of_the_time() -> None:
    player = by_name("a", "b")
    player.wait(2.49)
    assert player.shell.dialled == ["a"]
    player.wait(0.02)
    assert player.shell.dialled == ["a", "b"]
    player.wait(2.6)
    [error] = player.shell.starts
    assert isinstance(error, BrokerUnreachable)
    assert "a: the broker is silent; b: no answer" in str(error)


def test_an_address_that_sends_hello_back_is_followed_by_the_next() -> None:
    player = by_name("a", "b")
    player.core.link_answered()
    player.told(control.Hello(Role.PLAYER))
    player.wait(0.0)
    assert player.shell.dialled == ["a", "b"]
    player.welcome()
    player.told(control.Hello(Role.PLAYER))  # the broker's own mistake does not end the link
    assert player.core.connected and player.counters.invalid == 2


def test_an_address_that_answers_the_handshake_gets_the_whole_time() -> None:
    player = by_name("a", "b")
    player.core.link_answered()
    player.wait(4.9)
    assert player.shell.dialled == ["a"]
    player.welcome()
    player.core.link_answered()
    assert player.shell.starts == [None]


def test_a_new_round_begins_where_the_broker_was_last() -> None:
    player = by_name("a", "b")
    player.core.link_lost(player.clock.now, "refused")
    player.wait(0.0)
    assert player.core.link_address is None
    player.welcome()
    assert player.core.link_address == "b"
    player.core.link_lost(player.clock.now, "cut")
    [warning] = player.shell.warnings
    assert warning.startswith("the link to tcp://broker was lost (cut); next attempt in ")
    assert player.core.link_address is None
    assert player.shell.dialled == ["a", "b"]
    player.wait(FIRST_DELAY_S)
    assert player.shell.dialled == ["a", "b", "b"] and player.shell.lookup == 2


def test_a_session_that_the_broker_ends_is_followed_by_one_at_the_same_address() -> None:
    player = by_name("a", "b")
    player.core.link_lost(player.clock.now, "refused")
    player.wait(0.0)
    player.welcome()
    player.told(reject(RejectCode.LEASE_EXPIRED))
    player.wait(FIRST_DELAY_S)
    assert player.shell.dialled == ["a", "b", "b"]


def test_a_failed_round_is_logged_once() -> None:
    player = by_name("a", "b")
    player.welcome()
    for _ in range(6):
        player.core.link_lost(player.clock.now, "refused")
        player.wait(1.0)
    assert [text.rpartition("; next")[0] for text in player.shell.warnings] == [
        "the link to tcp://broker was lost (refused)",
        "no link to tcp://broker (a: refused; b: refused)",
    ]


def test_a_refusal_ends_the_round() -> None:
    player = by_name("a", "b")
    player.told(reject(RejectCode.ID_TAKEN))
    [error] = player.shell.starts
    assert isinstance(error, IDTaken) and player.shell.dialled == ["a"]


def test_a_refusal_that_passes_is_tried_again_at_the_same_address() -> None:
    player = by_name("a", "b")
    player.core.link_lost(player.clock.now, "refused")
    player.wait(0.0)
    player.told(reject(RejectCode.RATE_LIMITED))
    player.wait(FIRST_DELAY_S)
    assert player.shell.dialled == ["a", "b", "b"]


def test_a_broker_that_stops_sends_to_the_next_address() -> None:
    player = by_name("a", "b")
    player.told(reject(RejectCode.DRAINING))
    player.wait(0.0)
    assert player.shell.dialled == ["a", "b"]
    player.welcome()
    assert player.shell.starts == [None]


def test_the_addresses_of_a_round_share_a_token() -> None:
    player = by_name("a", "b", needs_token=True)
    player.core.take_token(player.shell.asked_for, "one", None, player.clock.now)
    player.shell.take_sent()
    player.core.link_lost(player.clock.now, "refused")
    player.wait(0.0)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.token == "one"
    assert player.shell.asked_for == 1 and player.shell.dialled == ["a", "b"]


def test_without_a_token_no_address_is_tried() -> None:
    player = by_name("a", "b", needs_token=True)
    player.core.take_token(player.shell.asked_for, "", OSError("no route"), player.clock.now)
    player.wait(0.0)
    assert player.shell.dialled == [] and player.shell.lookup == 1
    player.wait(FIRST_DELAY_S)
    assert player.shell.lookup > 1


def test_a_name_that_appears_during_the_start() -> None:
    player = by_name()
    player.core.take_addresses(1, (), "no such name", player.clock.now)
    player.shell.addresses = ("a",)
    player.wait(FIRST_DELAY_S)
    player.welcome()
    assert player.shell.starts == [None]


def test_the_error_says_why_a_name_has_no_address() -> None:
    player = by_name()
    while not player.shell.starts:
        player.core.take_addresses(player.shell.lookup, (), "no such name", player.clock.now)
        player.wait(0.1)
    [error] = player.shell.starts
    assert isinstance(error, BrokerUnreachable)
    assert str(error).endswith("the broker at tcp://broker cannot be found: no such name")


def test_the_error_says_that_the_lookup_still_runs() -> None:
    player = by_name()
    player.wait(5.0)
    [error] = player.shell.starts
    assert isinstance(error, BrokerUnreachable) and "its name is not resolved yet" in str(error)
    player.core.take_addresses(player.shell.lookup, ("a",), "", player.clock.now)
    assert player.shell.dialled == [] and player.core.due_at() is None


def test_an_answer_to_an_earlier_question_is_dropped() -> None:
    player = by_name()
    player.core.close()
    player.core.start(player.clock.now, 30.0)
    player.core.take_addresses(1, ("old",), "", player.clock.now)
    assert player.shell.dialled == []
    player.wait(RESOLVED_WITHIN_S + 2 * FIRST_DELAY_S)  # the lookup takes too long and is asked for again
    player.core.take_addresses(2, ("old",), "", player.clock.now)
    assert player.shell.dialled == []
    player.core.take_addresses(3, ("a",), "", player.clock.now)
    player.core.take_addresses(3, ("b",), "", player.clock.now)
    assert player.shell.dialled == ["a"]


def test_a_slow_lookup_of_a_lost_link_is_logged_once() -> None:
    player = by_name("a")
    player.welcome()
    player.shell.addresses = None
    player.core.link_lost(player.clock.now, "cut")
    player.wait(3 * (RESOLVED_WITHIN_S + LONGEST_DELAY_S))
    assert len(player.shell.warnings) == 2 and "not resolved yet" in player.shell.warnings[1]
    player.core.take_addresses(player.shell.lookup, ("a",), "", player.clock.now)
    player.welcome()
    assert player.core.connected


def test_a_token_for_an_earlier_start_opens_nothing() -> None:
    player = by_name("a", needs_token=True)
    number = player.shell.asked_for
    player.core.close()
    player.shell.addresses = None
    player.core.start(player.clock.now, 5.0)
    for late in (number, player.shell.lookup):
        player.core.take_token(late, "old", None, player.clock.now)
    assert player.shell.dialled == []
