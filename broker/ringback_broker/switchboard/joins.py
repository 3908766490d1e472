"""Joins in a realm: a HELLO waits until the records say whose the name is, or where a server acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ringback.errors import RejectCode
from ringback.protocol.control import Hello
from ringback.protocol.frames import Role
from ringback.protocol.player_ids import encode_player_id
from ringback_broker.admission.hello import Admitted, Refusal
from ringback_broker.cluster.claims import Claim, Verdict
from ringback_broker.cluster.name_turns import CLAIM_WITHIN_S
from ringback_broker.cluster.owners import hash_of, player_key
from ringback_broker.cluster.seat import Wish
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.presence import GATHER_S, identity_hash
from ringback_broker.switchboard.realm import Realm
from ringback_broker.switchboard.sessions import Sessions
from ringback_broker.switchboard.state import State

MAX_WAITING = 10_000
SERVER_WITHIN_S = CLAIM_WITHIN_S + GATHER_S + 0.5
"""How long the HELLO of a server waits that cannot stand by."""

OWN_IDS_TRIED = 10

_LATER = "the realm is not reached in time, or is crowded; try again, or at another node"


@dataclass(slots=True, eq=False)
class Waiting:
    """A HELLO that waits.

    Attributes:
        ticket: what the endpoint is going to get.
        over: it waits no more.
    """

    routing_id: bytes
    side: Side
    connection: Connection
    hello: Hello
    until: float
    ticket: bytes = b""
    claim: Claim | None = None
    tried: int = 0
    over: bool = False


class Joins:
    """The HELLOs that wait.

    Args:
        admit: begins a session.
        turn_away: refuses a peer.
    """

    def __init__(
        self,
        realm: Realm,
        nonce: Callable[[], bytes],
        state: State,
        sessions: Sessions,
        admit: Callable[[bytes, Connection, Admitted, float], None],
        turn_away: Callable[[Side, bytes, Connection, Refusal], None],
    ) -> None:
        self._realm = realm
        self._nonce = nonce
        self._roster = state.roster
        self._strangers = state.strangers
        self._admission = state.admission
        self._endings = state.endings
        self._sessions = sessions
        self._admit = admit
        self._turn_away = turn_away
        self._waiting: dict[tuple[Side, int], Waiting] = {}
        self._candidates: dict[Waiting, None] = {}
        self._shown: dict[Session, bytes] = {}
        self._settling = False
        realm.attend(self.settle, self.clear)

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, side: Side, routing_id: bytes, connection: Connection, hello: Hello, now: float) -> None:
        """Take a HELLO."""
        waiting = Waiting(routing_id, side, connection, hello, now + CLAIM_WITHIN_S)
        if not self._realm.is_ready or len(self._waiting) >= MAX_WAITING:
            self._refuse(waiting, RejectCode.DRAINING, _LATER)
            return
        admitted = self._decide(waiting, now)
        if admitted is None:
            return
        waiting.hello = admitted.hello
        if hello.ticket is not None and hello.role is not Role.OPERATOR:
            waiting.ticket = self._nonce()
        if hello.role is Role.OPERATOR:
            self._admit(routing_id, connection, admitted, now)
        elif hello.role is Role.SERVER:
            self._begin_server(waiting, admitted, now)
        else:
            self._waiting[side, connection.descriptor] = waiting
            self._strangers.extend(side, connection, now + 2 * CLAIM_WITHIN_S)
            self._begin_player(waiting, now)

    def forget(self, side: Side, connection: Connection) -> bool:
        """Give up a HELLO if its connection is closed, or says more. Return whether there was one."""
        waiting = self._waiting.get((side, connection.descriptor))
        if waiting is None:
            return False
        self._end(waiting, self._realm.now)
        return True

    def _end(self, waiting: Waiting, now: float) -> None:
        waiting.over = True
        self._waiting.pop((waiting.side, waiting.connection.descriptor), None)
        self._candidates.pop(waiting, None)
        if waiting.claim is not None:
            self._realm.claims.abandon(waiting.claim, now)

    def _refuse(self, waiting: Waiting, code: RejectCode, reason: str) -> None:
        self._end(waiting, self._realm.now)
        self._turn_away(waiting.side, waiting.routing_id, waiting.connection, Refusal(code, reason))

    def _decide(self, waiting: Waiting, now: float) -> Admitted | None:
        """Return what admission says now, or None if it refuses: the peer is told."""
        admitted = self._admission.decide(waiting.hello, waiting.connection, now)
        if isinstance(admitted, Admitted):
            return replace(admitted, ticket=waiting.ticket)
        self._end(waiting, now)
        self._turn_away(waiting.side, waiting.routing_id, waiting.connection, admitted)
        return None

    # -- players

    def _begin_player(self, waiting: Waiting, now: float) -> None:
        if waiting.hello.player_id is not None:
            self._take_turn(waiting, now)
        elif waiting.tried >= OWN_IDS_TRIED:
            self._refuse(waiting, RejectCode.DRAINING, _LATER)
        else:
            waiting.tried += 1
            self._realm.ids.take(lambda number, then: self._numbered(waiting, number, then), now)

    def _numbered(self, waiting: Waiting, number: int | None, now: float) -> None:
        if waiting.over:
            return
        if number is None:
            self._refuse(waiting, RejectCode.DRAINING, _LATER)
        elif encode_player_id(number) in self._roster.players:
            self._begin_player(waiting, now)
        else:
            waiting.hello = replace(waiting.hello, player_id=number)
            self._take_turn(waiting, now)

    def _take_turn(self, waiting: Waiting, now: float) -> None:
        key = _key_of(waiting)
        self._realm.claims.turns.when_free(
            key, lambda then: self._claim(waiting, then), lambda then: self._is_late(waiting), now
        )

    def _is_late(self, waiting: Waiting) -> None:
        if not waiting.over:
            self._refuse(waiting, RejectCode.DRAINING, _LATER)

    def _claim(self, waiting: Waiting, now: float) -> None:
        admitted = None if waiting.over else self._decide(waiting, now)
        if admitted is None:
            return
        waiting.claim = self._realm.claims.claim(
            _key_of(waiting),
            hash_of(waiting.ticket),
            hash_of(waiting.hello.ticket or b""),
            identity_hash(admitted.rights.identity),
            lambda verdict, then: self._claimed(waiting, verdict, then),
            now,
            only_free=bool(waiting.tried),
        )

    def _claimed(self, waiting: Waiting, verdict: Verdict, now: float) -> None:
        waiting.claim = None
        names, key = self._realm.claims.names, _key_of(waiting)
        if verdict is Verdict.GRANTED:
            held = names.by_key[key]
            admitted = self._decide(waiting, now)
            if admitted is not None:
                self._end(waiting, now)
                self._admit(waiting.routing_id, waiting.connection, admitted, now)
            session = self._roster.players.get(encode_player_id(waiting.hello.player_id or 0))
            if session is None or self._realm.presence.held.get(session) is not held:
                names.release(key, held, now)
        elif verdict is Verdict.LATER:
            self._is_late(waiting)
        elif waiting.tried:
            waiting.hello = replace(waiting.hello, player_id=None)
            self._begin_player(waiting, now)
        else:
            reason = f"another player with the ID {waiting.hello.player_id!r} is connected at another node"
            self._refuse(waiting, RejectCode.ID_TAKEN, reason)

    # -- servers

    def _begin_server(self, waiting: Waiting, admitted: Admitted, now: float) -> None:
        """Let a server in that acts or stands by. One that cannot stand by waits until it may act."""
        if self._roster.may_act or waiting.hello.standby:
            admitted = replace(admitted, ticket=waiting.ticket)
            self._admit(waiting.routing_id, waiting.connection, admitted, now)
            session = self._roster.by_routing_id[Side.BACKEND].get(waiting.routing_id)
            if session is not None:
                self._shown[session] = hash_of(waiting.hello.ticket or b"")
        else:
            waiting.until = now + SERVER_WITHIN_S
            self._waiting[waiting.side, waiting.connection.descriptor] = waiting
            self._strangers.extend(waiting.side, waiting.connection, waiting.until + CLAIM_WITHIN_S)
            self._candidates[waiting] = None
        self._realm.settle(now)

    def settle(self, now: float) -> None:
        """Have a server act if this node has the seat, and want the seat if there is one that would."""
        if self._settling or not self._realm.is_ready:
            return
        self._settling = True
        try:
            self._settle(now)
        finally:
            self._settling = False

    def _settle(self, now: float) -> None:
        seat, presence = self._realm.seat, self._realm.presence
        self._shown = {server: shown for server, shown in self._shown.items() if not server.ended}
        presence.tidy()
        self._let_one_act(now)
        self._refuse_candidates(now)
        wish = self._wish()
        if wish is None and presence.term:
            presence.leave_seat()
        seat.want(wish, now)
        if wish is not None and seat.is_mine:
            presence.take_seat(now)
            self._let_one_act(now)

    def _let_one_act(self, now: float) -> None:
        """Have the next server act, if none does or the one that does hands over, and the seat is its own.

        While the record still has the ticket of the server before, that one may move to another node, also
        if this node is cut off. Then two would act.
        """
        roster, sessions = self._roster, self._sessions
        if sessions.hands_over is not roster.server:  # that one has left
            sessions.hands_over = None
        if sessions.hands_over is not None:
            successor = sessions.next_server()
            if successor is None and self._realm.far_standbys.exist:  # the seat will be free
                sessions.retire_for(None)
            elif successor is not None and self._has_seat(successor):
                sessions.retire_for(successor)
        while roster.server is None and (heir := self._heir()) is not None and self._has_seat(heir):
            roster.may_act = self._realm.presence.has_gathered(now)
            if not roster.may_act:
                break
            if isinstance(heir, Session):
                sessions.promote(heir)
                break
            admitted = self._decide(heir, now)
            if admitted is not None:
                self._end(heir, now)
                self._admit(heir.routing_id, heir.connection, admitted, now)
        roster.may_act = roster.server is not None and self._realm.presence.term != 0

    def _has_seat(self, heir: Session | Waiting) -> bool:
        """Return whether this node has the seat, and its record has the ticket of this server."""
        holder = self._realm.seat.holder
        return self._realm.seat.is_mine and holder is not None and holder.ticket == hash_of(heir.ticket)

    def _refuse_candidates(self, now: float) -> None:
        """Refuse the servers that cannot act here, and cannot stand by."""
        seat = self._realm.seat
        acts, stands_by = self._roster.server is not None, bool(self._roster.standbys())
        for waiting in list(self._candidates):
            taken = acts or (stands_by and not self._has_moved(waiting))
            away = self._realm.lives_elsewhere(seat.holder) and not seat.fits(
                hash_of(waiting.hello.ticket or b"")
            )
            if taken or away:
                self._refuse(waiting, RejectCode.SERVER_TAKEN, "another server is connected")
            elif now >= waiting.until:
                self._refuse(waiting, RejectCode.DRAINING, _LATER)

    def _wish(self) -> Wish | None:
        """Return what this node wants of the seat."""
        server, sessions = self._roster.server, self._sessions
        if server is not None:
            successor = sessions.next_server() if sessions.hands_over is server else None
            return Wish(hash_of((successor or server).ticket))
        if self._admission.draining:
            return None
        heir = self._heir()
        return None if heir is None else Wish(hash_of(heir.ticket), self._shown_by(heir))

    def _heir(self) -> Session | Waiting | None:
        """Return the server of this node that acts next.

        It is the one that acted at another node and has moved here, or else the one that has stood by for the
        longest time, or else one that waits to act.
        """
        heirs: list[Session | Waiting] = [
            standby for standby in self._roster.standbys() if standby not in self._endings.gone
        ]
        heirs += self._candidates
        return next((heir for heir in heirs if self._has_moved(heir)), heirs[0] if heirs else None)

    def _shown_by(self, heir: Session | Waiting) -> bytes:
        """Return the hash of the ticket that a server has shown."""
        return self._shown.get(heir, b"") if isinstance(heir, Session) else hash_of(heir.hello.ticket or b"")

    def _has_moved(self, heir: Session | Waiting) -> bool:
        """Return whether the seat is that of this server, at another node or already here."""
        return self._realm.seat.fits(self._shown_by(heir)) or self._realm.seat.fits(hash_of(heir.ticket))

    def clear(self) -> None:
        """Refuse all that wait: this node has lost its realm."""
        for waiting in list(self._waiting.values()):
            self._refuse(waiting, RejectCode.DRAINING, _LATER)


def _key_of(waiting: Waiting) -> str:
    assert waiting.hello.player_id is not None
    return player_key(encode_player_id(waiting.hello.player_id))
