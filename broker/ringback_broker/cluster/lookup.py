"""The lookup of a player in the realm: which node has it. Its record says so.

The answer may be out of date when it comes: the player may have moved. Whoever sends something to that node
has to bear that it comes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ringback_broker.cluster.owners import Owner, decode_owner, player_key
from ringback_broker.cluster.ownership import decode_node, node_key
from ringback_broker.cluster.records import Absent, Outcome, Record, Records

FIND_WITHIN_S = 2.0

AT_ONCE = 1000
"""How many searches may ask the records at one time, so that joins do not wait long."""

MAX_SEARCHES = 20_000
"""How many searches there may be, those included that wait for their turn."""


class Missing(Enum):
    """Why no node was found."""

    NOBODY = "nobody"
    """No node that lives has the player."""

    LATER = "later"
    """Nobody knows: the records did not say in time, or too many players are looked for."""


Found = Callable[[Owner | Missing, float], None]
"""Takes the node that has a player, or why there is none, and the time."""


@dataclass(slots=True, eq=False)
class Search:
    """A player that is looked for.

    Attributes:
        over: its outcome was told.
    """

    key: str
    until: float
    found: Found
    over: bool = False


class Lookup:
    """Looks players up.

    Args:
        is_linked: whether a boot of a node is linked to this one, or is this one itself. Then it lives.
    """

    def __init__(self, records: Records, is_linked: Callable[[str, bytes], bool]) -> None:
        self._records = records
        self._is_linked = is_linked
        self._asking: dict[Search, None] = {}
        self._waiting: deque[Search] = deque()

    def __len__(self) -> int:
        return len(self._asking) + len(self._waiting)

    def find(self, encoded_id: bytes, found: Found, now: float) -> None:
        """Find the node that has a player.

        `found` is called once, within `FIND_WITHIN_S` and a tick; at once if there are too many searches. The
        node may have no link to this one.
        """
        if len(self) >= MAX_SEARCHES:
            found(Missing.LATER, now)
            return
        search = Search(player_key(encoded_id), now + FIND_WITHIN_S, found)
        if len(self._asking) < AT_ONCE:
            self._begin(search)
        else:
            self._waiting.append(search)

    def _begin(self, search: Search) -> None:
        self._asking[search] = None
        self._records.read(search.key, lambda outcome, now: self._was_read(search, outcome, now))

    def _was_read(self, search: Search, outcome: Outcome, now: float) -> None:
        if search.over:
            return
        if isinstance(outcome, Absent):
            self._end(search, Missing.NOBODY, now)
        elif not isinstance(outcome, Record):
            self._end(search, Missing.LATER, now)
        else:
            owner = decode_owner(outcome.value)
            if not owner.node:
                self._end(search, Missing.NOBODY, now)
            elif self._is_linked(owner.node, owner.boot):
                self._end(search, owner, now)
            else:
                key = node_key(owner.node)
                self._records.read(key, lambda came, then: self._was_found(search, owner, came, then))

    def _was_found(self, search: Search, owner: Owner, outcome: Outcome, now: float) -> None:
        if search.over:
            return
        if not isinstance(outcome, Record | Absent):
            self._end(search, Missing.LATER, now)
        elif isinstance(outcome, Record) and decode_node(outcome.value)[0] == owner.boot:
            self._end(search, owner, now)
        else:  # the record of the player has outlived its node
            self._end(search, Missing.NOBODY, now)

    def _end(self, search: Search, found: Owner | Missing, now: float) -> None:
        search.over = True
        self._asking.pop(search, None)
        self._go_on()
        search.found(found, now)

    def _go_on(self) -> None:
        while self._waiting and len(self._asking) < AT_ONCE:
            self._begin(self._waiting.popleft())

    def tick(self, now: float) -> None:
        """End the searches whose time is over."""
        late = [search for search in (*self._asking, *self._waiting) if now >= search.until]
        if late:
            self._asking = {search: None for search in self._asking if now < search.until}
            self._waiting = deque(search for search in self._waiting if now < search.until)
            self._go_on()
            self._give_up(late, now)

    def clear(self, now: float) -> None:
        """End all searches: this node is no member any more."""
        searches = [*self._asking, *self._waiting]
        self._asking.clear()
        self._waiting.clear()
        self._give_up(searches, now)

    def _give_up(self, searches: list[Search], now: float) -> None:
        for search in searches:
            search.over = True
        for search in searches:
            search.found(Missing.LATER, now)
