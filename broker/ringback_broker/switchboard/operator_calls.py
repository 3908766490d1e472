"""Calls of operators to players of other nodes.

The node of the operator looks the player up, and sends its frames to the node of the player. That one tells
it when the player has left (`Gone`), behind the last reply. So operators hear of it in time (LEFT).

A frame that comes back because the player is not there any more was not delivered. It is looked up once more
if no operator was told that the player has left: then its call has not ended yet.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ringback.errors import Code, ProtocolError
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import Role
from ringback.protocol.limits import IDS_A_FRAME
from ringback.protocol.player_ids import decode_player_id
from ringback_broker.cluster.callees import Callee, Callees
from ringback_broker.cluster.elsewhere import Elsewhere
from ringback_broker.cluster.held_names import HeldNames
from ringback_broker.cluster.lookup import Lookup, Missing
from ringback_broker.cluster.owners import Owner
from ringback_broker.peers.connection import Frame
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.sending import Sending
from ringback_broker.switchboard.state import State

MAX_FRAMES = 20_000
MAX_BYTES = 2**26
"""How much may wait at a node until a player is found. One operator may have half of it."""

_ABSENT = (Code.UNKNOWN_PLAYER, Code.DRAINING)
"""Why a frame comes back that may be looked up once more."""


@dataclass(slots=True)
class Load:
    """What waits of one operator, or of all."""

    frames: int = 0
    size: int = 0


@dataclass(slots=True, eq=False)
class Waiting:
    """The frames for a player that is looked for.

    Attributes:
        after: the number that the player had as a callee, if frames came back; or 0.
        former: the node from which they came back. Later ones may have been delivered there.
        returned: those that came back, each with its operator. They go first, and never a third time.
        frames: those that have not left yet.
    """

    after: int
    former: Session | None = None
    returned: deque[tuple[Session, bytes]] = field(default_factory=deque)
    frames: deque[tuple[Session, bytes]] = field(default_factory=deque)


class OperatorCalls:
    """Calls of operators to players of other nodes, on both sides.

    Args:
        elsewhere: the players of other nodes that this one knows anyway.
        names: the names that this node owns.
    """

    def __init__(
        self,
        state: State,
        sending: Sending,
        elsewhere: Elsewhere,
        lookup: Lookup,
        names: HeldNames,
    ) -> None:
        self._roster = state.roster
        self._sending = sending
        self._elsewhere = elsewhere
        self._lookup = lookup
        self._names = names
        self._callees = Callees()
        self._waiting: dict[bytes, Waiting] = {}
        self._all = Load()
        self._loads: dict[Session, Load] = {}
        # The nodes whose operators have called players of this one, with the encoded IDs of those.
        self._callers: dict[Session, set[bytes]] = {}

    def __len__(self) -> int:
        return self._all.frames

    # -- frames of operators here

    def take(self, operator: Session, encoded_id: bytes, frame: Frame, now: float) -> None:
        """Take a frame of an operator to a player that is not here."""
        waiting, callee = self._waiting.get(encoded_id), self._callees.by_id.get(encoded_id)
        away = self._elsewhere.by_id.get(encoded_id)
        if waiting is not None:
            if not self._keep(waiting.frames, operator, frame):
                self._sending.bounce(operator, encoded_id, frame, Code.OVERLOADED)
        elif callee is not None:
            self._send(callee, operator, frame, callee.number, now)
        elif away is not None and away.node.tells_of_callees:
            callee = self._callees.add(away.node, encoded_id)
            self._send(callee, operator, frame, callee.number, now)
            self._tell_left(self._callees.remove_oldest())
        elif away is not None:
            self._sending.pass_down(operator, encoded_id, frame, away.node, now)
        elif not _is_player_id(encoded_id):
            self._sending.bounce(operator, encoded_id, frame, Code.UNKNOWN_PLAYER)
        else:
            waiting = Waiting(0)
            if self._keep(waiting.frames, operator, frame):
                self._look_up(encoded_id, waiting, now)
            else:
                self._sending.bounce(operator, encoded_id, frame, Code.OVERLOADED)

    def take_back(
        self, operator: Session, encoded_id: bytes, frame: bytes, number: int, code: Code, now: float
    ) -> bool:
        """Take a frame that another node has sent back. Return whether it is looked up once more.

        Args:
            number: of the callee, when the frame was sent; 0 if it was sent for the second time.
        """
        if not number or code not in _ABSENT:
            return False
        callee = self._callees.by_id.get(encoded_id)
        if callee is not None and callee.number == number:
            # Nothing of what was sent to this callee was delivered: its node would have told first that the
            # player has left, and then it would be none any more.
            waiting = Waiting(number, callee.node)
            if not self._keep(waiting.returned, operator, frame):
                return False
            self._callees.remove(encoded_id)
            self._look_up(encoded_id, waiting, now)
            return True
        if callee is not None and callee.after == number:
            self._send(callee, operator, frame, 0, now)
            return True
        found = self._waiting.get(encoded_id)
        if found is None or found.after != number:
            return False
        return self._keep(found.returned, operator, frame)

    def _keep(self, frames: deque[tuple[Session, bytes]], operator: Session, frame: Frame) -> bool:
        """Keep a frame if there is room. Return whether there was."""
        size, every, own = len(frame), self._all, self._loads.get(operator) or Load()
        full = every.frames >= MAX_FRAMES or every.size + size > MAX_BYTES
        if full or own.frames >= MAX_FRAMES // 2 or own.size + size > MAX_BYTES // 2:
            return False
        for load in (every, own):
            load.frames += 1
            load.size += size
        self._loads[operator] = own
        frames.append((operator, bytes(frame)))
        return True

    def _look_up(self, encoded_id: bytes, waiting: Waiting, now: float) -> None:
        self._waiting[encoded_id] = waiting
        self._lookup.find(encoded_id, lambda found, then: self._found(encoded_id, waiting, found, then), now)

    def _found(self, encoded_id: bytes, waiting: Waiting, found: Owner | Missing, now: float) -> None:
        if self._waiting.get(encoded_id) is not waiting:  # the player has joined here meanwhile
            return
        frames = self._no_longer_wait(encoded_id)
        node = self._roster.linked_node(found.node, found.boot) if isinstance(found, Owner) else None
        if frames and node is not None and node.tells_of_callees:
            callee = self._callees.add(node, encoded_id, waiting.after)
            callee.former = waiting.former
            for operator, frame, number in frames:
                self._send(callee, operator, frame, number and callee.number, now)
            self._tell_left(self._callees.remove_oldest())
            return
        # If the record names this node, the player is about to leave.
        unreached = isinstance(found, Owner) and node is None and not self._names.is_own(found)
        code = Code.OVERLOADED if unreached or found is Missing.LATER else Code.UNKNOWN_PLAYER
        for operator, frame, _ in frames:
            self._sending.bounce(operator, encoded_id, frame, code)
        if waiting.former is not None:  # of the calls that did not come back, nobody knows more
            self._tell_left([encoded_id])

    def _no_longer_wait(self, encoded_id: bytes) -> list[tuple[Session, bytes, bool]]:
        """Return the frames that wait for a player, in order, and whether each may come back once more."""
        waiting = self._waiting.pop(encoded_id)
        frames = [(operator, frame, False) for operator, frame in waiting.returned]
        frames += [(operator, frame, True) for operator, frame in waiting.frames]
        for operator, frame, _ in frames:
            own = self._loads[operator]
            for load in (self._all, own):
                load.frames -= 1
                load.size -= len(frame)
            if not own.frames:
                del self._loads[operator]
        return [kept for kept in frames if not kept[0].ended]

    def _send(self, callee: Callee, operator: Session, frame: Frame, number: int, now: float) -> None:
        self._callees.called(callee)
        self._sending.pass_down(operator, callee.encoded_id, frame, callee.node, now, number)

    def is_called(self, encoded_id: bytes, node: Session) -> bool:
        """Return whether operators of this node have called a player at a node, and may wait for replies."""
        callee, waiting = self._callees.by_id.get(encoded_id), self._waiting.get(encoded_id)
        if waiting is not None and waiting.former is node:
            return True
        return callee is not None and node in (callee.node, callee.former)

    def node_of(self, encoded_id: bytes) -> Session | None:
        """Return the node of a player that operators of this one have called."""
        callee = self._callees.by_id.get(encoded_id)
        return None if callee is None else callee.node

    # -- what operators here are told

    def arrived(self, session: Session, now: float) -> None:
        """Take note that a player has joined here. What waits for it goes to it."""
        encoded_id = session.encoded_id
        if self._callees.remove(encoded_id):
            self._tell_left([encoded_id])
        if encoded_id in self._waiting:
            if self._waiting[encoded_id].former is not None:
                self._tell_left([encoded_id])
            for operator, frame, _ in self._no_longer_wait(encoded_id):
                self._sending.pass_to_player(session, operator, encoded_id, frame, now)

    def moved(self, encoded_id: bytes, node: Session) -> None:
        """Take note that a player is at a node. It is at no other one any more."""
        callee = self._callees.by_id.get(encoded_id)
        if callee is not None and callee.node is not node:
            self._callees.remove(encoded_id)
            self._tell_left([encoded_id])

    def gone(self, node: Session, encoded_id: bytes) -> None:
        """Take note that a player has left a node."""
        if self.is_called(encoded_id, node):
            self._callees.remove(encoded_id)
            self._tell_left([encoded_id])

    def forget(self, encoded_ids: list[bytes]) -> None:
        """Take note that all operators are told that players have left."""
        for encoded_id in encoded_ids:
            self._callees.remove(encoded_id)

    def node_went(self, node: Session) -> None:
        """Take note that a node is linked no more: what was on its way there and back is lost."""
        self._callers.pop(node, None)
        former = [i for i, callee in self._callees.by_id.items() if callee.former is node]
        former += [i for i, waiting in self._waiting.items() if waiting.former is node]
        self._tell_left([*self._callees.remove_node(node), *former])

    def operator_left(self) -> None:
        """Take note that an operator of this node has left."""
        if not self._roster.operators():
            self._callees.clear()

    def _tell_left(self, encoded_ids: list[bytes]) -> None:
        for i in range(0, len(encoded_ids), IDS_A_FRAME):
            left = encode(control.Left(tuple(map(decode_player_id, encoded_ids[i : i + IDS_A_FRAME]))))
            for other in self._roster.trusted():
                if other.role is Role.OPERATOR:
                    self._sending.notify(other, left)

    # -- players here

    def called(self, node: Session, encoded_id: bytes) -> None:
        """Take note that an operator of another node calls a player of this one."""
        self._callers.setdefault(node, set()).add(encoded_id)

    def left(self, encoded_id: bytes) -> list[Session]:
        """Take note that a player of this node has left. Return the nodes whose operators have called it."""
        callers = [node for node, called in self._callers.items() if encoded_id in called]
        for node in callers:
            self._callers[node].discard(encoded_id)
        return callers

    def clear(self) -> None:
        """Forget all: this boot of the node is no member any more. Its operators have been refused."""
        self._callees.clear()
        self._callers.clear()


def _is_player_id(encoded_id: bytes) -> bool:
    try:
        decode_player_id(encoded_id)
    except ProtocolError:
        return False
    return True
