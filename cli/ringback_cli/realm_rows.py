"""Rows of all nodes of a realm, or of one: who is asked, and who is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ringback_cli.connection import Connection
from ringback_cli.exits import Exit, Failure
from ringback_cli.output import hint

if TYPE_CHECKING:
    from ringback import Operator, PlayerID


@dataclass(frozen=True)
class Found:
    """Rows of a subject.

    Attributes:
        rows: each begins with the name of its node; None if the broker is alone. The rest is as the broker
            sends it.
        in_realm: whether the broker is a node of a realm.
        missing: the nodes whose rows are missing, with the reason for each.
    """

    rows: Sequence[list[Any]]
    in_realm: bool
    missing: dict[str, str] = field(default_factory=dict)

    def plain_rows(self) -> list[list[Any]]:
        """Return the rows without the names of the nodes."""
        return [row[1:] for row in self.rows]

    def check(self) -> None:
        """Fail if rows are missing. Call it once the others are printed.

        Raises:
            Failure: SOME_FAILED.
        """
        if self.missing:
            raise Failure(Exit.SOME_FAILED, _what_is_missing(self.missing))


def _what_is_missing(missing: dict[str, str]) -> str:
    whose = f"of node {min(missing)!r}" if len(missing) == 1 else f"of {len(missing)} nodes"
    reasons = "; ".join(reason for _, reason in sorted(missing.items()))
    return f"the rows {whose} are missing: {reasons}"


def find(
    operator: Operator,
    subject: str,
    connection: Connection,
    node: str | None = None,
    most: int | None = None,
    player_id: PlayerID | None = None,
    wants: Callable[[list[Any]], bool] = lambda _: True,
) -> Found:
    """Return the rows of a subject at all nodes, those of the operator's own broker first.

    Args:
        node: the one node to ask; None: all.
        most: ask for no further page when there are that many rows.
        player_id: of "players", the one whose row is wanted. An older broker sends all rows.
        wants: whether a row counts. The others are dropped.

    Raises:
        CallbackError: the broker, or the one node, did not answer.
    """
    rows: list[list[Any]] = []
    missing: dict[str, str] = {}
    if node is not None:
        following: int | None = 0
        while following is not None and (most is None or len(rows) < most):
            page, following = operator.query(
                subject, after=following, node=node, player_id=player_id, timeout=connection.left_s()
            ).result()
            rows += filter(wants, ([node, *row] for row in page))
        return Found(rows[:most], True)
    in_realm = operator.node is not None
    for page, without in _pages(operator, subject, connection, player_id):
        rows += filter(wants, page)
        missing |= without
        if most is not None and len(rows) >= most:
            break
    return Found(rows[:most], in_realm, missing)


def each_row_of_realm(operator: Operator, subject: str, connection: Connection) -> Iterator[list[Any]]:
    """Yield the rows of a subject at all nodes, without the names of the nodes.

    A caller that stops early asks for no further pages.

    Raises:
        CallbackError: the broker did not answer.
    """
    for page, _ in _pages(operator, subject, connection):
        yield from (row[1:] for row in page)


def _pages(
    operator: Operator, subject: str, connection: Connection, player_id: PlayerID | None = None
) -> Iterator[tuple[list[list[Any]], dict[str, str]]]:
    """Yield pages of rows of all nodes. With each come the nodes that are missing in it, and why."""
    after: dict[str, int] | None = None
    while after != {}:
        call = operator.query_realm(subject, after=after, player_id=player_id, timeout=connection.left_s())
        page, after, missing = call.result()
        yield page, missing
        after = after or {}


def node_names(operator: Operator, connection: Connection) -> dict[str, str]:
    """Return the nodes of the broker's realm with their boots. A broker alone is one without a name."""
    if operator.node is None:
        return {"": ""}
    return {row[1]: row[2] for row in find(operator, "nodes", connection, operator.node).rows}


def by_time(rows: Sequence[list[Any]]) -> list[list[Any]]:
    """Return rows of events or calls of several nodes in the order of their times.

    Those of a broker alone stay in the order of their numbers: its clock may have been set.
    """
    return sorted(rows, key=lambda row: row[2]) if len({row[0] for row in rows}) > 1 else list(rows)


class Follower:
    """Asks again and again for rows with numbers, of events or calls: only for new ones.

    Args:
        node: the one node to ask; None: all, also those that come later.

    Attributes:
        names: the nodes that are asked.
    """

    def __init__(self, operator: Operator, subject: str, connection: Connection, node: str | None) -> None:
        self.names: list[str] = []
        self._operator = operator
        self._subject = subject
        self._connection = connection
        self._node = node
        self._boots: dict[str, str] = {}
        self._seen: dict[str, int] = {}
        self._missing: dict[str, str] = {}
        if node is not None:  # fail if it is not there
            operator.query(subject, node=node, timeout=connection.left_s()).result()

    def new_rows(self) -> list[list[Any]]:
        """Return the rows since the last time, the oldest first. Each begins with the name of its node."""
        self._look_for_nodes()
        rows: list[list[Any]] = []
        missing: dict[str, str] = {}
        after = {name: self._seen.get(name, 0) for name in self.names}
        while after:
            left_s = self._connection.left_s()
            call = self._operator.query_realm(self._subject, after=after, timeout=left_s)
            page, following, without = call.result()
            missing |= without
            for node, number, *_ in page:
                self._seen[node or ""] = number
            rows += page
            after = following or {}
        for name in missing.keys() - self._missing.keys():
            hint(f"the rows of node {name!r} are missing: {missing[name]}")
        self._missing = missing
        return by_time(rows)

    def _look_for_nodes(self) -> None:
        boots = node_names(self._operator, self._connection)
        if self._node is not None:
            boots = {self._node: boots.get(self._node, "")}
        for name, boot in boots.items():
            if self._boots.get(name, boot) != boot:  # it was started anew, and its numbers begin anew
                self._seen.pop(name, None)
            self._boots[name] = boot
        self.names = list(boots)
