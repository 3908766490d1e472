"""Orders to kick a player of another node: the node is looked up, and obeys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from ringback.errors import Code
from ringback.protocol.control import Answer, Order, What, encode
from ringback.protocol.player_ids import encode_player_id
from ringback_broker.cluster.held_names import HeldNames
from ringback_broker.cluster.lookup import Lookup, Missing
from ringback_broker.cluster.owners import Owner
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.asking import Answering, Asking

MAX_KICKS = 100
"""How many kicks of one operator may wait for a lookup."""

_LATER = "nobody can say now at which node the player is; try again"


class Kicks:
    """Orders to kick players that are not here. The operators have the right to give them.

    Args:
        names: the names that this node owns.
        asking: asks the node that has the player.
        answer: answers an order about this node.
        reply: sends an ANSWER to an operator.
    """

    def __init__(
        self,
        roster: Roster,
        lookup: Lookup,
        names: HeldNames,
        asking: Asking,
        answer: Answering,
        reply: Callable[[Session, bytes, float], None],
    ) -> None:
        self._roster = roster
        self._lookup = lookup
        self._names = names
        self._asking = asking
        self._answer = answer
        self._reply = reply
        self._counts: Counter[Session] = Counter()

    def __len__(self) -> int:
        return sum(self._counts.values())

    def takes(self, order: Order) -> bool:
        """Return whether an order is to kick a player that is not here."""
        return order.what is What.KICK and order.node is None and not self._is_here(order)

    def _is_here(self, order: Order) -> bool:
        assert order.player_id is not None  # `decode` has checked it
        return encode_player_id(order.player_id) in self._roster.players

    def obey(self, operator: Session, order: Order, now: float) -> Answer | None:
        """Have the node obey that has the player. Return the answer if there is one now."""
        if self._counts[operator] >= MAX_KICKS:
            return Answer(order.id, None, code=Code.OVERLOADED, reason=f"{MAX_KICKS} kicks wait already")
        self._look_up(operator, order, True, now)
        return None

    def _look_up(self, operator: Session, order: Order, again: bool, now: float) -> None:
        assert order.player_id is not None
        self._counts[operator] += 1
        encoded_id = encode_player_id(order.player_id)
        self._lookup.find(encoded_id, lambda found, t: self._found(operator, order, again, found, t), now)

    def _found(
        self, operator: Session, order: Order, again: bool, found: Owner | Missing, now: float
    ) -> None:
        self._counts[operator] -= 1
        if not self._counts[operator]:
            del self._counts[operator]
        if operator.ended:
            return
        answer = self._pass_on(operator, order, again, found, now)
        if answer is not None:
            self._reply(operator, encode(answer), now)

    def _pass_on(
        self, operator: Session, order: Order, again: bool, found: Owner | Missing, now: float
    ) -> Answer | None:
        """Pass an order on to the node that was found. Return the answer if there is one now.

        Args:
            again: whether to look the player up once more if the node says that it has no such player.
        """
        if found is Missing.NOBODY or self._is_here(order):  # it may have joined here meanwhile
            return self._answer(operator, order, now)
        if isinstance(found, Owner) and self._roster.linked_node(found.node, found.boot) is not None:

            def has_moved(then: float) -> None:
                if not operator.ended:
                    self._look_up(operator, order, False, then)

            return self._asking.ask(
                operator, replace(order, node=found.node), now, has_moved if again else None
            )
        if isinstance(found, Owner) and self._names.is_own(found):  # it is about to leave
            return self._answer(operator, order, now)
        return Answer(order.id, None, code=Code.OVERLOADED, reason=_LATER)
