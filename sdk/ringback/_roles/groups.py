"""What the `CallGroup` of both faces has in common: the calls of one trigger on many players."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from ringback._roles.calls import CallBase
from ringback.errors import CallbackError, Cancelled, ConnectionLost, UsageError, fresh
from ringback.protocol.player_ids import PlayerID

C_co = TypeVar("C_co", bound=CallBase[Any], covariant=True)


class GroupBase(ABC, Generic[C_co]):
    """The calls to many players, in the order in which they end.

    Attributes:
        calls: the call of each player, by player ID. Empty until the list of players is known.
        deadline: when its calls end at the latest, on the monotonic clock; None for no limit.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.calls: dict[PlayerID, C_co] = {}
        self._ended: list[tuple[PlayerID, C_co]] = []
        self._begun = False
        self._cancelled = False
        self._looked_at = False
        self._error: CallbackError | None = None
        self._waiters: list[Callable[[], object]] = []

    def begin(self, trigger: Callable[[PlayerID], C_co], player_ids: Iterable[PlayerID]) -> None:
        """Trigger the calls. Not for users."""
        if self._cancelled:
            self.fail(Cancelled("the group was cancelled before its calls were triggered", executed="no"))
            return
        try:
            for player_id in dict.fromkeys(player_ids):
                self.calls[player_id] = trigger(player_id)
        except UsageError as error:  # the endpoint was closed meanwhile
            for call in self.calls.values():
                call.cancel()
            self.calls.clear()
            self.fail(ConnectionLost(str(error), executed="maybe"))
            return
        self._begun = True
        if self._looked_at:
            self._look()
        for player_id, call in self.calls.items():
            call.add_waiter(partial(self._end, (player_id, call)))
        self._changed()

    def fail(self, error: CallbackError) -> None:
        """End the group: the list of connected players could not be read. Not for users."""
        self._error = error
        self._begun = True
        self._changed()

    def cancel(self) -> bool:
        """Cancel the calls that have not ended, and those that are not triggered yet.

        Returns:
            Whether there was something to cancel. False: all calls have ended already.
        """
        if self._complete:
            return False
        self._cancelled = True
        for call in list(self.calls.values()):
            call.cancel()
        return True

    def cancelled(self) -> bool:
        """Return whether the group was cancelled before its calls were triggered."""
        return isinstance(self._error, Cancelled)

    def _end(self, ended: tuple[PlayerID, C_co]) -> None:
        self._ended.append(ended)
        self._changed()

    def done(self) -> bool:
        """Return whether all calls have ended."""
        return self._complete

    def __repr__(self) -> str:
        if self._error is not None:
            return f"<{type(self).__name__} failed: {self._error}>"
        if not self._begun:
            return f"<{type(self).__name__} waits for the list of players>"
        return f"<{type(self).__name__}: {len(self._ended)} of {len(self.calls)} calls have ended>"

    @property
    def _complete(self) -> bool:
        return self._begun and len(self._ended) == len(self.calls)

    def _result(self) -> dict[PlayerID, C_co]:
        if self._error is not None:
            raise fresh(self._error)
        self._look()
        return self.calls

    def _look(self) -> None:
        """Note that the program waited for all calls, also if something ended its wait."""
        self._looked_at = True
        for call in self.calls.values():
            call.seen()

    def _ended_at(self, position: int) -> tuple[PlayerID, C_co]:
        player_id, call = self._ended[position]
        call.seen()
        return player_id, call

    def _wake(self) -> None:
        # Two threads may be in here: one that adds a function, and one that ends the last call.
        while self._complete and self._waiters:
            try:
                wake = self._waiters.pop(0)
            except IndexError:
                return
            wake()

    @abstractmethod
    def _changed(self) -> None:
        """Wake the program that waits for the group. The thread that ended a call runs this."""
