"""Queries over a whole realm: one question to each node, and one outcome of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ringback.core.calls_out import CallsOut
from ringback.core.link_keeper import LinkKeeper
from ringback.core.pending_call import PendingCall
from ringback.core.questions import Questions
from ringback.errors import CallbackError, Code
from ringback.protocol.control import COLUMNS, Query, Subject
from ringback.protocol.player_ids import PlayerID

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


class RealmQueries:
    """The queries of one endpoint over its realm."""

    def __init__(self, calls_out: CallsOut, questions: Questions, link: LinkKeeper) -> None:
        self._calls_out = calls_out
        self._questions = questions
        self._link = link

    def query(
        self,
        call: PendingCall,
        subject: Subject,
        after: Mapping[str, int] | None,
        ids: Iterator[int],
        player_id: PlayerID | None = None,
    ) -> None:
        """Ask all nodes for a page of rows.

        The results of the call are the rows, where to go on at each node, and why nodes are missing.

        Args:
            after: where to go on at each node; None: ask all nodes from the beginning.
            ids: gives the numbers of questions.
            player_id: of "players", the one whose row is wanted; None: all.
        """
        if not self._link.link_state.up:
            self._calls_out.fail_unsent(call, self._link.not_ready())
        elif self._questions.expect(call):
            query = _RealmQuery(call, subject, player_id, ids, self._questions)
            if after is not None:
                query.ask_nodes(after)
            elif self._link.node:
                query.list_nodes(0)
            else:  # the broker is alone, or too old to know of nodes
                query.ask_nodes({"": 0})


class _RealmQuery:
    """A query over the whole realm. `whole` is the call that it ends."""

    def __init__(
        self,
        whole: PendingCall,
        subject: Subject,
        player_id: PlayerID | None,
        ids: Iterator[int],
        questions: Questions,
    ) -> None:
        self._whole = whole
        self._subject = subject
        self._player_id = player_id
        self._ids = ids
        self._questions = questions
        self._names: list[str] = []
        self._left = 0
        self._rows: dict[str, list[list[Any]]] = {}
        self._next: dict[str, int] = {}
        self._missing: dict[str, str] = {}

    def list_nodes(self, after: int) -> None:
        """Ask which nodes there are, from a page on. Then ask all of them."""

        def listed(part: _Part) -> None:
            if part.error is not None:
                self._questions.finish(self._whole, error=part.error)
                return
            rows, following = part.results
            self._names += [row[_NAME] for row in rows]
            if following is None:
                self.ask_nodes(dict.fromkeys(self._names, 0))
            else:
                self.list_nodes(following)

        part = _Part(next(self._ids), self._whole, listed)
        self._questions.ask(part, Query(part.id, Subject.NODES, after))

    def ask_nodes(self, after: Mapping[str, int]) -> None:
        """Ask nodes, each from a page on. The empty name is that of the broker itself."""
        self._names = list(after)
        self._left = len(after)
        for name, number in after.items():
            part = _Part(next(self._ids), self._whole, self._taker(name))
            self._questions.ask(part, Query(part.id, self._subject, number, name or None, self._player_id))
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
