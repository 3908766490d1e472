"""The states and times of a link."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringback.core.link_state import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    MAX_SILENCES,
    PROVEN_S,
    WELCOME_WITHIN_S,
    Due,
    LinkState,
)
from ringback.protocol.frames import ENDPOINT_TRANSITIONS, FrameType, Role, SessionState


def make(random: Callable[[], float] = lambda: 1.0, role: Role = Role.PLAYER) -> LinkState:
    return LinkState(role, random)


def greeting(role: Role = Role.PLAYER) -> LinkState:
    session = make(role=role)
    session.start(0.0, 5.0)
    session.opened(0.0)
    return session


def ready(role: Role = Role.PLAYER, lease_s: float = 30.0) -> LinkState:
    session = greeting(role)
    assert session.accept(FrameType.WELCOME, 0.0)
    session.welcomed(lease_s, 0.0)
    return session


def test_nothing_is_due_before_the_start() -> None:
    session = make()
    assert session.due_at() is None and session.due(1e9) is Due.NOTHING
    session.start(5.0, 5.0)
    assert session.due_at() == 5.0
    assert session.due(4.9) is Due.NOTHING
    assert session.due(5.0) is Due.OPEN


def test_a_broker_that_does_not_welcome_is_given_up() -> None:
    session = greeting()
    assert not session.up
    assert session.due_at() == WELCOME_WITHIN_S
    assert session.due(WELCOME_WITHIN_S - 0.01) is Due.NOTHING
    assert session.due(WELCOME_WITHIN_S) is Due.GIVE_UP


def give_up(session: LinkState, answered: bool) -> float:
    """Open a link that gets no WELCOME. Return how long it is waited for."""
    session.opened(0.0)
    if answered:
        session.answered()
    waited_s = session.due_at()
    assert waited_s is not None and session.due(waited_s) is Due.GIVE_UP
    session.gave_up()
    session.lost(waited_s)
    return waited_s


def test_a_broker_that_is_late_gets_more_time() -> None:
    """A crowd that comes back at once can take a broker longer than the first wait."""
    session = make()
    session.start(0.0, 5.0)
    longest_s = WELCOME_WITHIN_S * 2**MAX_SILENCES
    waits = [give_up(session, answered=True) for _ in range(MAX_SILENCES + 2)]
    assert waits[:3] == [5.0, 10.0, 20.0] and waits[-2:] == [longest_s, longest_s]
    session.start(0.0, 5.0)
    assert give_up(session, answered=True) == WELCOME_WITHIN_S


def test_a_broker_that_answers_no_handshake_gets_no_more_time() -> None:
    session = make()
    session.start(0.0, 5.0)
    assert [give_up(session, answered=False) for _ in range(4)] == [WELCOME_WITHIN_S] * 4


@pytest.mark.parametrize(("stood_s", "whole_s"), [(PROVEN_S - 0.1, 10.0), (PROVEN_S, WELCOME_WITHIN_S)])
def test_a_link_that_stood_makes_the_time_short_again(stood_s: float, whole_s: float) -> None:
    session = make()
    session.start(0.0, 5.0)
    give_up(session, answered=True)
    session.opened(0.0)
    session.accept(FrameType.WELCOME, 0.0)
    session.welcomed(30.0, 0.0)
    session.lost(stood_s)
    assert give_up(session, answered=True) == whole_s


@pytest.mark.parametrize("role", list(Role))
def test_every_frame_in_every_state(role: Role) -> None:
    for state in SessionState:
        for number in range(-1, 256):
            session = make(role=role)
            session.start(0.0, 5.0)
            session.opened(0.0)
            session.state = state
            following = ENDPOINT_TRANSITIONS[role].get((state, number))  # type: ignore[call-overload]
            assert session.accept(number, 1.0) is (following is not None)
            assert session.state == (following or state)


def test_a_link_has_to_be_welcome_before_the_start_is_given_up() -> None:
    link = make()
    assert link.welcome_by(1.0) == 1.0 + WELCOME_WITHIN_S
    link.start(1.0, 2.0)
    assert (link.start_by, link.welcome_by(2.0)) == (3.0, 3.0)
    link.start_by = None
    assert link.welcome_by(2.0) == 2.0 + WELCOME_WITHIN_S


def test_nothing_is_accepted_without_a_link() -> None:
    session = ready()
    session.lost(1.0)
    assert not any(session.accept(number, 1.0) for number in range(256))


@pytest.mark.parametrize("random", [0.0, 0.25, 1.0])
def test_delays_double_within_their_bounds(random: float) -> None:
    session = make(lambda: random)
    session.start(0.0, 5.0)
    for attempt in range(2000):
        session.opened(0.0)
        session.lost(10.0)
        full = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt, 30))
        assert session.due_at() == pytest.approx(10.0 + full * (0.5 + random / 2))


@pytest.mark.parametrize("stood_s", [0.0, PROVEN_S - 0.1, PROVEN_S])
def test_a_link_that_stood_makes_the_delay_short_again(stood_s: float) -> None:
    """A link that is closed right after each welcome must not be opened again at full speed for ever."""
    session = make()
    session.start(0.0, 5.0)
    for _ in range(10):
        session.opened(0.0)
        session.lost(0.0)
    assert session.due_at() == LONGEST_DELAY_S
    session.opened(0.0)
    session.accept(FrameType.WELCOME, 0.0)
    session.welcomed(30.0, 0.0)
    session.lost(stood_s)
    assert session.due_at() == stood_s + (FIRST_DELAY_S if stood_s == PROVEN_S else LONGEST_DELAY_S)


def test_pings_keep_the_lease() -> None:
    session = ready(lease_s=30.0)
    for turn in range(1, 5):
        at = 15.0 * turn
        assert session.due_at() == pytest.approx(at)
        assert session.due(at - 0.01) is Due.NOTHING
        assert session.due(at) is Due.PING
        session.sent(at)
        assert session.due(at) is Due.NOTHING
        session.accept(FrameType.PONG, at + 0.1)


def test_a_silent_broker_is_given_up() -> None:
    session = ready(lease_s=30.0)
    assert session.due(15.0) is Due.PING
    session.sent(15.0)
    assert session.due_at() == 30.0
    assert session.due(29.9) is Due.NOTHING
    assert session.due(30.0) is Due.GIVE_UP


def test_an_unexpected_frame_renews_no_lease() -> None:
    session = ready(lease_s=3.0)
    assert not session.accept(FrameType.JOINED, 2.0)
    assert session.due(3.0) is Due.GIVE_UP


def test_a_lease_of_nothing_does_not_spin() -> None:
    session = ready(lease_s=0.0)
    due_at = session.due_at()
    assert due_at is not None and due_at > 0.03


def test_a_closed_session_opens_nothing() -> None:
    session = ready()
    session.close()
    assert session.closed and not session.up and session.due_at() is None
    session.lost(1.0)
    assert session.due_at() is None
    session.start(2.0, 5.0)
    assert not session.closed and session.due(2.0) is Due.OPEN
