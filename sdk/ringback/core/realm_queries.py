"""Queries over a whole realm: one question to each node, and one outcome of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ringback.core.pending_call import PendingCall
from ringback.core.questions import Questions
from ringback.errors import CallbackError, Code
from ringback.protocol.control import COLUMNS, Query, Subject
from ringback.protocol.player_ids import PlayerID

Ask = Callable[[PendingCall, Query], None]

_MISSING = frozenset(
    {Code.UNKNOWN_NODE, Code.TIMEOUT, Code.CONNECTION_LOST, Code.OVERLOADED, Code.INVALID_PAYLOAD}
)
"""The errors of a node that does not answer. Any other one is an answer, and ends the whole query."""

_NAME = COLUMNS[Subject.NODES].index("node")


class _Part(PendingCall):
    """A question of a query over the realm."""

    __slots__ = ("_then",)

    def __init__(self, call_id: int, whole: PendingCall, then: Callable[[_Part], None]) -> None:
        super().__init__(call_id, whole.key, whole.deadline, None, None, whole.began)
        self._then = then

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        super().settle(results, error)
        self._then(self)

    @property
    def error(self) -> CallbackError | None:
        return self._error

    @property
    def results(self) -> tuple[Any, ...]:
        return self._results


class RealmQuery:
    """A query over the whole realm. `whole` is the call that it ends.

    Args:
        after: where to go on at each node; None: ask all nodes from the beginning.
        player_id: of "players", the one whose row is wanted; None: all.
        ids: gives the numbers of questions.
        ask: asks the broker.
        questions: the table in which `whole` waits.
    """

    def __init__(
        self,
        whole: PendingCall,
        subject: Subject,
        after: Mapping[str, int] | None,
        player_id: PlayerID | None,
        ids: Iterator[int],
        ask: Ask,
        questions: Questions,
    ) -> None:
        self._whole = whole
        self._subject = subject
        self._after = after
        self._player_id = player_id
        self._ids = ids
        self._ask = ask
        self._questions = questions
        self._names: list[str] = []
        self._left = 0
        self._rows: dict[str, list[list[Any]]] = {}
        self._next: dict[str, int] = {}
        self._missing: dict[str, str] = {}

    def begin(self, own: str) -> None:
        """Ask.

        Args:
            own: the name of the broker in its realm; empty: it is alone, or too old to know.
        """
        if self._after is not None:
            self._ask_nodes(self._after)
        elif own:
            self._list_nodes(0)
        else:
            self._ask_nodes({"": 0})

    def _list_nodes(self, after: int) -> None:
        def listed(part: _Part) -> None:
            if part.error is not None:
                self._questions.finish(self._whole, error=part.error)
                return
            rows, following = part.results
            self._names += [row[_NAME] for row in rows]
            if following is None:
                self._ask_nodes(dict.fromkeys(self._names, 0))
            else:
                self._list_nodes(following)

        part = _Part(next(self._ids), self._whole, listed)
        self._ask(part, Query(part.id, Subject.NODES, after))

    def _ask_nodes(self, after: Mapping[str, int]) -> None:
        self._names = list(after)
        self._left = len(after)
        for name, number in after.items():
            part = _Part(next(self._ids), self._whole, self._taker(name))
            self._ask(part, Query(part.id, self._subject, number, name or None, self._player_id))
        if not after:
            self._end()

    def _taker(self, name: str) -> Callable[[_Part], None]:
        def take(part: _Part) -> None:
            self._left -= 1
            error = part.error
            if error is None:
                self._rows[name], following = part.results
                if following is not None:
                    self._next[name] = following
            elif name and error.code in _MISSING:
                self._missing[name] = error.message
            else:
                self._questions.finish(self._whole, error=error)
                return
            if not self._left:
                self._end()

        return take

    def _end(self) -> None:
        rows = [[name or None, *row] for name in self._names for row in self._rows.get(name, ())]
        self._questions.finish(self._whole, (rows, self._next or None, self._missing))
