"""Asking other nodes: what operators ask and order one node by the name of another one.

A question ends with the answer of that node, or with an error that names it: after `ANSWER_S`, or when its
link is lost. What comes later is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import count

from ringback.errors import Code, ProtocolError
from ringback.protocol.control import Answer, Order, Query, decode, encode
from ringback.protocol.frames import HEADER_BYTES, FrameType, Role, header
from ringback.protocol.limits import MAX_REASON_CHARS
from ringback.protocol.names import did_you_mean
from ringback_broker.cluster.messages import Answered, Question
from ringback_broker.cluster.messages import encode as encode_message
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.peers.identity import Identity
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Rights, Session
from ringback_broker.switchboard.sending import Sending

ANSWER_S = 2.0
"""How long a node may take to answer."""

MAX_ASKED = 16
"""How many questions of one operator may wait for one node."""

_ANSWER = header(FrameType.ANSWER)

Answering = Callable[[Session, Query | Order, float], Answer]


@dataclass(slots=True)
class Asked:
    """A question that waits for its answer.

    Attributes:
        has_moved: is called in place of an answer that the node does not have the player.
    """

    operator: Session
    id: int
    node: Session
    until: float
    has_moved: Callable[[float], None] | None = None


class Asking:
    """Passes questions of operators on to other nodes, and answers those of theirs.

    Args:
        name: of this node.
        answer: answers a question about this node, if its asker has the right to it.
        reply: sends an ANSWER to an operator.
        alive: returns the names of the other nodes that live.
    """

    def __init__(
        self,
        name: str,
        roster: Roster,
        sending: Sending,
        answer: Answering,
        reply: Callable[[Session, bytes, float], None],
        alive: Callable[[], Collection[str]],
    ) -> None:
        self._name = name
        self._roster = roster
        self._sending = sending
        self._answer = answer
        self._reply = reply
        self._alive = alive
        self._numbers = count(1)
        self._asked: dict[int, Asked] = {}  # those that were asked first come first
        self._counts: Counter[tuple[Session, Session]] = Counter()

    def __len__(self) -> int:
        return len(self._asked)

    # -- this node asks

    def ask(
        self,
        operator: Session,
        question: Query | Order,
        now: float,
        has_moved: Callable[[float], None] | None = None,
    ) -> Answer | None:
        """Ask the node that a question names. Return the answer if there is one now.

        The operator must have the right to what it asks.

        Args:
            has_moved: is called, if given, in place of an answer that the node does not have the player.
        """
        name = question.node
        assert name is not None
        if name == self._name:
            return self._answer(operator, question, now)
        node = self._roster.nodes.get(name)
        if node is None:
            return _failure(question.id, Code.UNKNOWN_NODE, self._why_unknown(name))
        if self._counts[operator, node] >= MAX_ASKED:
            why = f"{MAX_ASKED} questions wait for the node {name!r} already"
            return _failure(question.id, Code.OVERLOADED, why)
        if node.backlog or node.exhausted:
            return _failure(question.id, Code.OVERLOADED, f"the link to the node {name!r} is full")
        number = next(self._numbers)
        self._asked[number] = Asked(operator, question.id, node, now + ANSWER_S, has_moved)
        self._counts[operator, node] += 1
        rights = operator.rights
        identity = "" if rights.identity is None else rights.identity.name
        said = Question(
            number, operator.link, rights.may_order, identity, operator.connection.ip, encode(question)
        )
        self._send(node, encode_message(said), now)
        return None

    def _why_unknown(self, name: str) -> str:
        alive = self._alive()
        if name in alive:
            return f"there is no link to the node {name!r} now"
        near = did_you_mean(name, alive)
        return f"the realm has no node {name!r}" + (f": {near}" if near else "")

    def answered(self, node: Session, said: Answered, now: float) -> None:
        """Take the answer of a node. One that comes too late is dropped.

        Raises:
            ProtocolError: it is no answer.
        """
        if said.frame and said.frame[:HEADER_BYTES] != _ANSWER:
            raise ProtocolError("an answer is not an ANSWER")
        asked = self._asked.get(said.number)
        if asked is None or asked.node is not node:
            return
        self._forget(said.number)
        if asked.has_moved is not None and _says_unknown_player(said.frame):
            asked.has_moved(now)
        elif said.frame:
            self._tell(asked, said.frame, now)
        else:
            why = f"the node {node.node!r} does not know this question: its ringback is older"
            self._fail(asked, Code.INVALID_PAYLOAD, why, now)

    def tick(self, now: float) -> None:
        """End the questions whose time is over."""
        for number, asked in list(self._asked.items()):
            if now < asked.until:
                break
            self._forget(number)
            why = f"the node {asked.node.node!r} did not answer within {ANSWER_S:g} s"
            self._fail(asked, Code.TIMEOUT, why, now)

    def node_ended(self, node: Session, now: float) -> None:
        """End the questions that wait for a node to which the link is lost."""
        for number, asked in list(self._asked.items()):
            if asked.node is node:
                self._forget(number)
                why = f"the link to the node {node.node!r} was lost before it answered"
                self._fail(asked, Code.CONNECTION_LOST, why, now)

    def _forget(self, number: int) -> None:
        asked = self._asked.pop(number)
        pair = asked.operator, asked.node
        self._counts[pair] -= 1
        if not self._counts[pair]:
            del self._counts[pair]

    def _fail(self, asked: Asked, code: Code, why: str, now: float) -> None:
        self._tell(asked, encode(_failure(asked.id, code, why)), now)

    def _tell(self, asked: Asked, frame: bytes, now: float) -> None:
        if not asked.operator.ended:
            self._reply(asked.operator, frame, now)

    # -- another node asks

    def take(self, node: Session, asked: Question, now: float) -> None:
        """Answer what an operator of another node asks, with the rights that its node has verified."""
        try:
            said = decode(asked.frame)
        except ProtocolError:  # of a newer node
            said = None
        if not isinstance(said, Query | Order):
            self._send(node, encode_message(Answered(asked.number, b"")), now)
            return
        answer = self._answer(_stand_in(node, asked, now), said, now)
        if answer.rows and (node.backlog or node.exhausted):
            why = f"the link from the node {self._name!r} is full"
            answer = _failure(said.id, Code.OVERLOADED, why)
        self._send(node, encode_message(Answered(asked.number, encode(answer))), now)

    def _send(self, node: Session, frame: bytes, now: float) -> None:
        self._sending.notify(node, frame)
        self._sending.spend(node, frame, now)


def _stand_in(node: Session, asked: Question, now: float) -> Session:
    """Return a session that stands for the operator of another node. It is in no table."""
    connection = Connection(-1, asked.ip)
    session = Session(Side.BACKEND, Role.OPERATOR, b"", connection, 0, now, now, node=node.node)
    session.link = asked.link
    identity = Identity(asked.identity, "") if asked.identity else None
    session.rights = Rights(identity, may_order=asked.may_order)
    return session


def _failure(question_id: int, code: Code, why: str) -> Answer:
    return Answer(question_id, None, code=code, reason=why[:MAX_REASON_CHARS])


def _says_unknown_player(frame: bytes) -> bool:
    try:
        answer = decode(frame)
    except ProtocolError:  # of a newer node, or empty
        return False
    return isinstance(answer, Answer) and answer.code is Code.UNKNOWN_PLAYER
