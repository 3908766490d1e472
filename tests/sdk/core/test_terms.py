"""The terms of a registration, `allow` and `limit`, when calls come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.corefakes import DATA_0, Desk

from ringback.core.endpoint_state import IDLE_S
from ringback.core.permissions import OPERATORS
from ringback.errors import Code
from ringback.protocol import control
from ringback.protocol.envelopes import ERROR, Encoder, join
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import PlayerID, encode_player_id

write = Encoder(Limits())
PLAYER = FrameType.DATA, 0
OPERATOR = FrameType.RELAY, 9
FORBIDDEN = Code.FORBIDDEN, 0
RATE_LIMITED = Code.RATE_LIMITED, 0


class Called(Desk):
    """An endpoint that is called. Each call gets the next ID."""

    def __init__(self, role: Role = Role.SERVER, **settings: Any) -> None:
        super().__init__(role, keys=(), **settings)
        self.connect(lease_ms=10**7)  # so that the broker need not say anything
        self.data: Any = None

    def register(self, key: str, *, replace: bool = False, **terms: Any) -> Any:
        registration = super().register(key, replace=replace, **terms)
        self.flush()
        self.shell.take_sent()  # the KEYS frame of the new key
        return registration

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        self.shell.take_sent()

    def unregister(self, registration: Any) -> None:
        registration.unregister()
        self.flush()
        self.shell.take_sent()

    def outcome(
        self,
        source: PlayerID | None,
        key: str = "k",
        by: tuple[FrameType, int] = PLAYER,
        *,
        budget_ms: int | None = None,
        call_id: int | None = None,
        answer: bool = True,
    ) -> Any:
        """Let a call come. Return "ran", or the code and `executed` of the error, or None for no reply."""
        call_id = next(self.ids) if call_id is None else call_id
        address = b"" if source is None else encode_player_id(source)
        self.gets(header(*by) + join([write.call(call_id, key, None, budget_ms)]), address)
        handled = self.handle()
        if handled:
            assert handled[0].key == key and handled[0].source == source
            if answer:
                handled[0]()
                self.flush()
                self.bodies()
            return "ran"
        self.flush()
        [[envelope]] = self.bodies() or [[None]]
        if envelope is None:
            return None
        assert envelope[0] == ERROR and envelope[1] == call_id
        self.data = envelope[5]
        return envelope[2], envelope[4]

    def outcomes(self, count: int, *arguments: Any, **settings: Any) -> list[Any]:
        return [self.outcome(*arguments, **settings) for _ in range(count)]

    def locally(self, source: PlayerID) -> Any:
        """Trigger in the name of a source, as `trigger_callback` does. Return "ran", or the code."""
        call = self.call(source, kind=None, flush=True)
        for execution in self.handle():
            execution()
        self.flush()
        return "ran" if call._error is None else call._error.code

    @property
    def remembered(self) -> list[Any]:
        """The sources of the peers in the table, with the keys of their buckets."""
        return [(peer.source, list(peer.buckets)) for peer in self.peers.values()]


@pytest.fixture
def server() -> Called:
    return Called()


# -- allow


def test_terms_in_words() -> None:
    server = Desk(Role.SERVER, keys=())
    server.register("open")
    server.register("for some", allow=[7, "anna"], limit="5/s")
    server.register("for one", allow={7})
    server.register("for operators", allow=OPERATORS)
    server.register("for whom it wants", allow=lambda source: True)
    assert server.core.registry.terms() == {
        "for some": "for 2 named callers, at most 5/s from one caller",
        "for one": "for 1 named caller",
        "for operators": "for operators only",
        "for whom it wants": "for callers that a function allows",
    }
    player = Desk(Role.PLAYER, keys=())
    player.register("k", limit="1/h")
    player.core.start(player.clock.now, 5.0)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.terms is None


def test_ids_may_call(server: Called) -> None:
    server.register("k", allow={7, "ann"})
    assert [server.outcome(source) for source in (7, "ann")] == ["ran", "ran"]
    assert [server.outcome(source) for source in (8, "7", "bob")] == [FORBIDDEN] * 3
    assert server.counters.refused == 3 and server.counters.executions == 2
    assert server.shell.failures == []


def test_an_operator_is_asked_about_the_source_that_it_names(server: Called) -> None:
    asked: list[Any] = []
    server.register("ids", allow=[7])
    server.register("function", allow=lambda source: asked.append(source) or source == 7)
    for key in ("ids", "function"):
        assert [server.outcome(source, key, OPERATOR) for source in (7, 8)] == ["ran", FORBIDDEN]
    assert asked == [7, 8]


def test_only_operators_may_call(server: Called) -> None:
    server.register("k", allow=OPERATORS)
    assert [server.outcome(7), server.outcome(7, by=OPERATOR), server.outcome(8, by=OPERATOR)] == [
        FORBIDDEN,
        "ran",
        "ran",
    ]


@pytest.mark.parametrize("allow", [OPERATORS, [8], (), lambda source: False])
def test_the_server_itself_is_not_asked(server: Called, allow: Any) -> None:
    server.register("k", allow=allow)
    assert server.outcome(7) == FORBIDDEN
    assert server.locally(7) == "ran"


def test_a_forbidden_call_spoils_no_other_call_of_its_frame(server: Called) -> None:
    server.register("no", allow=())
    server.register("yes")
    calls = [write.call(number, key, None, None) for number, key in enumerate(("yes", "no", "yes", "no"))]
    server.gets(DATA_0 + join(calls), encode_player_id(7))
    assert [execution.id for execution in server.handle()] == [0, 2]
    server.flush()
    [errors] = server.bodies()
    assert [(error[1], error[2], error[3]) for error in errors] == [
        (1, Code.FORBIDDEN, "the caller may not call 'no'"),
        (3, Code.FORBIDDEN, "the caller may not call 'no'"),
    ]


class Stopped(BaseException):
    """asyncio.CancelledError is not an Exception."""


def raises(error: BaseException) -> Callable[[Any], bool]:
    def allow(source: Any) -> bool:
        raise error

    return allow


@pytest.mark.parametrize("error", [KeyError("x"), Stopped(), KeyboardInterrupt(), SystemExit()])
def test_a_function_that_raises(server: Called, error: BaseException) -> None:
    server.register("k", allow=raises(error))
    assert server.outcomes(2, 7) == [FORBIDDEN] * 2
    assert server.shell.failures == [error, error]
    server.check_at_rest()


@pytest.mark.parametrize("answer", [1, None, "yes"])
def test_a_function_that_returns_no_bool(server: Called, answer: Any) -> None:
    server.register("k", allow=lambda source: answer)
    assert server.outcome(7) == FORBIDDEN
    [failure] = server.shell.failures
    assert isinstance(failure, TypeError) and "True or False" in str(failure)


def test_a_function_is_asked_for_each_call(server: Called) -> None:
    friends = {7}
    server.register("k", allow=friends.__contains__)
    assert server.outcome(8) == FORBIDDEN
    friends.add(8)
    assert server.outcome(8) == "ran"


# -- limit


def test_calls_over_the_limit(server: Called) -> None:
    server.register("k", limit="3/min")
    assert server.outcomes(5, 7) == ["ran"] * 3 + [RATE_LIMITED] * 2
    assert server.data == {"retry_after": pytest.approx(20.0)}
    assert type(server.data["retry_after"]) is float
    server.wait(server.data["retry_after"] - 0.01)
    assert server.outcome(7) == RATE_LIMITED
    server.wait(server.data["retry_after"])
    assert server.outcomes(2, 7) == ["ran", RATE_LIMITED]
    server.wait(60.0)
    assert server.outcomes(4, 7) == ["ran"] * 3 + [RATE_LIMITED]


def test_the_message_says_what_is_limited(server: Called) -> None:
    server.register("k", limit="1/min")
    server.gets(
        DATA_0 + join([write.call(number, "k", None, None) for number in (1, 2)]), encode_player_id(7)
    )
    server.flush()
    [[error]] = server.bodies()
    assert error[3] == "'k' takes 1/min from one caller"


def test_each_caller_and_callback_has_a_limit_of_its_own(server: Called) -> None:
    for key in ("a", "b"):
        server.register(key, limit="1/h")
    callers = [(7, PLAYER), (8, PLAYER), (7, OPERATOR), (8, OPERATOR), (7, (FrameType.RELAY, 10))]
    for key in ("a", "b"):
        assert [server.outcome(source, key, by) for source, by in callers] == ["ran"] * 5
        assert [server.outcome(source, key, by) for source, by in callers] == [RATE_LIMITED] * 5


def test_the_server_itself_is_not_limited(server: Called) -> None:
    server.register("k", limit="1/h")
    assert [server.locally(7) for _ in range(3)] == ["ran"] * 3
    assert server.outcomes(2, 7) == ["ran", RATE_LIMITED]


def test_a_players_callers_are_the_server_and_each_operator() -> None:
    player = Called(Role.PLAYER)
    player.register("k", limit="1/h")
    for by in (PLAYER, (FrameType.DATA, 9), (FrameType.DATA, 10)):
        assert player.outcomes(2, None, by=by) == ["ran", RATE_LIMITED]
    player.told(control.ServerDown())
    assert player.outcomes(2, None) == ["ran", RATE_LIMITED]


# -- the order of the checks


def test_an_unknown_key_comes_first(server: Called) -> None:
    handle = server.register("k", allow=[7], limit="1/h")
    assert server.outcomes(2, 7) == ["ran", RATE_LIMITED]
    server.unregister(handle)
    assert [server.outcome(7), server.outcome(8)] == [(Code.UNKNOWN_CALLBACK, 0)] * 2


def test_forbidden_comes_before_refusals_that_pass() -> None:
    server = Called(limits=Limits(max_in_flight=1))
    server.register("held")
    server.register("k", allow=[8], limit="1/h")
    assert server.outcome(7, "held", answer=False) == "ran"
    assert server.outcome(7, "held") == (Code.OVERLOADED, 0)
    assert server.outcomes(3, 7, budget_ms=0) == [FORBIDDEN] * 3
    assert server.remembered == [(7, [])]


def test_the_endpoints_own_limit_comes_first() -> None:
    """It counts every call, whatever becomes of the call."""
    server = Called(limits=Limits(max_calls_per_s=2))
    server.register("k", allow=[8])
    assert [server.outcome(7), server.outcome(7, "nothing")] == [FORBIDDEN, (Code.UNKNOWN_CALLBACK, 0)]
    assert [server.outcome(7), server.outcome(7, "nothing")] == [RATE_LIMITED] * 2


def test_a_call_that_is_not_run_takes_nothing_of_the_limit() -> None:
    server = Called(limits=Limits(max_in_flight=1))
    server.register("held")
    server.register("k", limit="1/h")
    assert server.outcome(7, budget_ms=0) == (Code.TIMEOUT, 0)
    assert server.outcome(7, "held", answer=False, call_id=5000) == "ran"
    assert server.outcome(7) == (Code.OVERLOADED, 0)
    server.calls_in._limits = Limits()
    assert server.outcome(7, call_id=5000) is None  # the ID of a call that is being handled
    assert server.outcomes(2, 7) == ["ran", RATE_LIMITED]


def test_a_call_over_the_limit_takes_no_room_in_flight() -> None:
    server = Called(limits=Limits(max_in_flight=2))
    server.register("k", limit="1/h")
    assert server.outcome(7, answer=False) == "ran"
    assert server.outcomes(5, 7) == [RATE_LIMITED] * 5
    assert server.calls_in.running == 1


# -- what is remembered, and for how long


def test_a_limit_is_remembered_until_its_bucket_is_full(server: Called) -> None:
    server.register("k", limit="1/min")
    server.register("free")
    assert [server.outcome(7), server.outcome(8, "free")] == ["ran", "ran"]
    server.wait(2 * IDLE_S)
    assert server.remembered == [(7, ["k"])]
    server.wait(60.0 - 2 * IDLE_S - 1.0)
    assert server.outcome(7) == RATE_LIMITED
    server.wait(1.0 + IDLE_S)
    assert server.remembered == [] and server.due_at() == float("inf")


def test_a_limit_goes_with_the_player(server: Called) -> None:
    server.register("k", limit="1/h")
    server.told(control.Joined((7, 8)))
    assert [server.outcome(7), server.outcome(8)] == ["ran", "ran"]
    server.told(control.Left((7,)))
    assert server.remembered == [(8, ["k"])]
    server.told(control.Joined((7,)))
    assert [server.outcome(7), server.outcome(8)] == ["ran", RATE_LIMITED]


def test_limits_go_with_the_link(server: Called) -> None:
    server.register("k", limit="1/h")
    server.outcome(7)
    server.outcome(7, by=OPERATOR)
    server.core.link_lost(server.clock.now, "cut")
    assert server.remembered == []


@pytest.mark.parametrize("limit", ["1/h", "2/h", None])
def test_another_registration_counts_anew(server: Called, limit: str | None) -> None:
    server.register("k", limit="1/h", allow=[7])
    assert server.outcomes(2, 7) == ["ran", RATE_LIMITED]
    server.register("k", limit=limit, replace=True)
    count = 3 if limit is None else int(limit[0])
    assert server.outcomes(count, 7) == ["ran"] * count
    assert server.outcome(8) == "ran"
    if limit is not None:
        assert server.outcome(7) == RATE_LIMITED
    server.register("k", allow=(), replace=True)
    assert server.outcome(7) == FORBIDDEN


def test_a_bucket_does_not_outlive_its_registration(server: Called) -> None:
    """Also if the caller is busy, and if keys come and go."""
    server.register("held")
    assert server.outcome(7, "held", answer=False) == "ran"
    for number in range(50):
        handle = server.register(f"k{number}", limit="1/h")
        assert server.outcome(7, f"k{number}") == "ran"
        server.unregister(handle)
    server.register("k", limit="1/h")
    server.register("replaced", limit="1/h")
    assert [server.outcome(7), server.outcome(7, "replaced")] == ["ran", "ran"]
    server.register("replaced", limit="1/h", replace=True)
    server.wait(IDLE_S)
    assert server.remembered == [(7, ["k"])]


def test_operators_sources_are_not_remembered_without_end(
    server: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody says when an operator has left. Buckets of players stay, and those of busy peers."""
    monkeypatch.setattr("ringback.core.deadlines.MAX_IDLE_PEERS", 3)
    server.register("k", limit="1/h")
    server.register("held")
    assert server.outcome(2, "held", OPERATOR, answer=False) == "ran"
    for number in range(1, 10):
        assert server.outcome(number) == "ran"
        assert server.outcome(number, by=OPERATOR) == "ran"
    server.wait(IDLE_S)
    kept = [peer.source for peer in server.peers.values() if peer.of_operator]
    assert kept == [2, 7, 8, 9] and len(server.remembered) == 13
    assert server.outcome(9, by=OPERATOR) == server.outcome(1) == RATE_LIMITED
    assert server.calls_in.running == 1


def test_operators_at_a_player_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback.core.deadlines.MAX_IDLE_PEERS", 3)
    player = Called(Role.PLAYER)
    player.register("k", limit="1/h")
    assert [player.outcome(None, by=(FrameType.DATA, link)) for link in range(9)] == ["ran"] * 9
    player.wait(IDLE_S)
    kept = [peer.header for peer in player.peers.values()]
    assert kept == [header(FrameType.DATA, link) for link in (0, 6, 7, 8)]


def test_sources_named_here_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback.core.deadlines.MAX_IDLE_PEERS", 3)
    server = Called(limits=Limits(max_calls_per_s=0.001))
    server.register("k")
    assert [server.locally(number) for number in range(1, 10)] == ["ran"] * 9
    server.wait(IDLE_S)
    assert [source for source, _ in server.remembered] == [7, 8, 9]
    assert server.locally(9) is Code.RATE_LIMITED
