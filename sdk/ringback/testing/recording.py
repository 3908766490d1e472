"""A recorder of calls: who called what, with which payload, and how it ended."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import count
from typing import Any, overload

from ringback._roles.base import RoleBase
from ringback.core.pending_call import PendingCall
from ringback.errors import CallbackError, UsageError
from ringback.protocol.frames import FrameType
from ringback.protocol.player_ids import PlayerID, decode_player_id
from ringback.testing.waiting import PATIENCE_S, Changes

MAX_CALLS = 10_000
"""Calls that a recorder keeps: the latest ones."""


class RecordedCall:
    """One call that an endpoint of this process made.

    Attributes:
        caller: who made the call: "server", "operator", or a player, as in "player 7".
        called: whose callback it is, likewise.
        key: the key of the callback.
        payload: a copy of the payload, as it was when the call was made. With a contract, it is the plain
            value that was sent.
        source: the player that a handler of the server is given; None for a call to a player.
    """

    def __init__(
        self,
        caller: str,
        called: str,
        key: str,
        payload: object,
        source: PlayerID | None,
        pending: PendingCall,
    ) -> None:
        self.caller = caller
        self.called = called
        self.key = key
        self.payload: Any = payload
        self.source = source
        self._pending = pending

    @property
    def ended(self) -> bool:
        """Whether the call has ended."""
        return self._pending._done

    @property
    def results(self) -> tuple[Any, ...]:
        """The results, as the caller gets them. Empty if the call has none, failed, or has not ended."""
        return self._ended()._results

    @property
    def error(self) -> CallbackError | None:
        """The error, as the caller gets it; None if the call succeeded, or has not ended."""
        return self._ended()._error

    @property
    def outcome(self) -> str | None:
        """ "OK", or the name of the error's code; None while the call has not ended."""
        if not self.ended:
            return None
        return "OK" if self.error is None else self.error.code_name

    def _ended(self) -> PendingCall:
        """Return the call. If it has a contract, its result has the type by now, or became an error."""
        if self._pending._done:
            self._pending.convert()
        return self._pending

    def __repr__(self) -> str:
        outcome = " ".join([self.outcome or "pending", *map(_shown, self.results)])
        return f"<{self.caller} -> {self.called}: {self.key} {_shown(self.payload)}: {outcome}>"


class Recorder(Sequence[RecordedCall]):
    """The calls that were recorded, in the order in which they were made."""

    def __init__(self) -> None:
        self._calls: deque[tuple[int, RecordedCall]] = deque(maxlen=MAX_CALLS)
        self._lock = threading.Lock()
        self._changes = Changes()

    def add(self, number: int, call: RecordedCall) -> None:
        """Record a call at its place: other threads may have recorded later ones before. Not for users.

        Args:
            number: later calls have higher ones.
        """
        with self._lock:
            later = []
            while self._calls and self._calls[-1][0] > number:
                later.append(self._calls.pop())
            self._calls.extend([(number, call), *reversed(later)])
        call._pending.add_waiter(self._changes.notify)

    def matching(self, key: str | None = None) -> list[RecordedCall]:
        """Return the calls of a callback, None for all calls."""
        with self._lock:
            return [call for _, call in self._calls if key in (None, call.key)]

    def clear(self) -> None:
        """Forget all calls so far."""
        with self._lock:
            self._calls.clear()

    def __len__(self) -> int:
        return len(self._calls)

    @overload
    def __getitem__(self, index: int) -> RecordedCall: ...
    @overload
    def __getitem__(self, index: slice) -> list[RecordedCall]: ...
    def __getitem__(self, index: int | slice) -> RecordedCall | list[RecordedCall]:
        return self.matching()[index]

    def __repr__(self) -> str:
        return "\n  ".join(["<calls:", *map(repr, self.matching())]) + ">"

    def _ended(self, key: str | None) -> list[RecordedCall]:
        return [call for call in self.matching(key) if call.ended]

    def _check(self, count: int, key: str | None) -> tuple[Callable[[], bool], Callable[[], str]]:
        def missing() -> str:
            calls = "calls" if key is None else f"calls of {key!r}"
            return f"only {len(self._ended(key))} of {count} {calls} have ended ({self!r})"

        return lambda: len(self._ended(key)) >= count, missing


class Calls(Recorder):
    """The recorded calls, for tests that block."""

    def until(self, count: int, key: str | None = None, *, timeout: float = PATIENCE_S) -> list[RecordedCall]:
        """Wait until so many calls have ended. Return all that have.

        Args:
            count: how many calls.
            key: the callback whose calls count; None: all calls.
            timeout: how long to wait, in seconds.

        Raises:
            TimeoutError: there are fewer.
            UsageError: an event loop runs in this thread, and this would block it.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            check, missing = self._check(count, key)
            self._changes.wait(check, timeout, missing)
            return self._ended(key)
        raise UsageError("this would block the event loop: use ringback_aio_calls, and await its until()")


class AioCalls(Recorder):
    """The recorded calls, for tests that await."""

    async def until(
        self,
        count: int,
        key: str | None = None,
        *,
        timeout: float = PATIENCE_S,  # noqa: ASYNC109 - as in the blocking face
    ) -> list[RecordedCall]:
        """Wait until so many calls have ended. Return all that have.

        Args:
            count: how many calls.
            key: the callback whose calls count; None: all calls.
            timeout: how long to wait, in seconds.

        Raises:
            TimeoutError: there are fewer.
        """
        check, missing = self._check(count, key)
        await self._changes.wait_async(check, timeout, missing)
        return self._ended(key)


@contextmanager
def recording(recorder: Recorder, is_ours: Callable[[str], bool]) -> Iterator[None]:
    """Record the calls of all endpoints of this process while the context lasts.

    No endpoint asks for a recorder, so that it costs nothing where there is none.

    Args:
        is_ours: return whether the endpoints that were given an address are recorded.
    """
    trigger = RoleBase._trigger
    numbers = count()

    def recorded(
        endpoint: RoleBase[Any, Any],
        kind: FrameType | None,
        encoded_id: bytes,
        key: str,
        payload: object,
        *others: Any,
        **named: Any,
    ) -> Any:
        if not any(map(is_ours, endpoint.addresses)):
            return trigger(endpoint, kind, encoded_id, key, payload, *others, **named)
        copied = _copied(payload)
        number = next(numbers)  # a handler may make further calls before this one is recorded
        call = trigger(endpoint, kind, encoded_id, key, payload, *others, **named)
        called, source = _target_of(endpoint, kind, encoded_id)
        recorder.add(number, RecordedCall(endpoint._log_name, called, key, copied, source, call))
        return call

    RoleBase._trigger = recorded  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        RoleBase._trigger = trigger  # type: ignore[method-assign]


def _target_of(
    endpoint: RoleBase[Any, Any], kind: FrameType | None, encoded_id: bytes
) -> tuple[str, PlayerID | None]:
    """Return who is called, and the source that the handler is given."""
    if not encoded_id:  # a player calls: the broker says who it is
        return "server", endpoint._endpoint.player_id
    player_id = decode_player_id(encoded_id)
    return (f"player {player_id!r}", None) if kind is FrameType.DATA else ("server", player_id)


def _shown(value: object) -> str:
    """Return the repr of a value, also if its class has none that works."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__qualname__} whose repr fails>"


def _copied(payload: object) -> object:
    """Return a copy of a payload: the test may change it later. What cannot be copied is kept as it is."""
    try:
        return deepcopy(payload)
    except Exception:
        return payload
