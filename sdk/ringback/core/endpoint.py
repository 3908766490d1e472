"""An endpoint: its link to the broker, who is connected, and the calls over the link.

The core has no socket, clock, thread or loop: time is an argument, and effects are calls on a `Shell`.
Everything here runs on one thread, the I/O thread of the shell.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ringback.core.bounced_replies import BouncedReplies
from ringback.core.calls_in import CallsIn
from ringback.core.calls_out import CallsOut
from ringback.core.deadlines import Deadlines
from ringback.core.description import Description
from ringback.core.dispatch import Dispatcher
from ringback.core.duty import Duty
from ringback.core.endpoint_load import Load
from ringback.core.endpoint_state import EndpointState
from ringback.core.execution import Execution
from ringback.core.link_keeper import LinkKeeper
from ringback.core.outbox import Outbox
from ringback.core.peers import Peer
from ringback.core.pending_call import PendingCall
from ringback.core.presence import Presence
from ringback.core.questions import Questions
from ringback.core.realm_queries import RealmQueries
from ringback.core.receipts import Receipts
from ringback.core.receiver import Receiver
from ringback.core.registry import Registry
from ringback.core.reporter import Reporter
from ringback.core.retries import Retries
from ringback.core.routes import Routes
from ringback.core.shell import Shell
from ringback.core.steps import Steps
from ringback.core.waiting_room import WaitingRoom
from ringback.errors import Code, ConnectionLost, RejectCode
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.envelopes import OWN, Encoder
from ringback.protocol.frames import Role, SessionState
from ringback.protocol.limits import PLAYER_HEARTBEAT_S, Limits
from ringback.protocol.player_ids import PlayerID

HANDLER_ARGUMENTS: dict[Role, tuple[str, ...]] = {
    Role.SERVER: ("source", "payload"),
    Role.PLAYER: ("payload",),
    Role.OPERATOR: ("payload",),
}


class Endpoint:
    """The core of a server, a player or an operator.

    Attributes:
        registry: the callbacks.
        counters: what this endpoint has counted so far.
        players: on a server, the IDs of the connected players, in the order in which they joined.
        receive: handle a message of the broker; see `Receiver.receive`.
        due_at: return when `tick` has something to do next; see `Steps.due_at`.
        tick: do what is due; see `Steps.tick`.
        flush: send what waits; see `Steps.flush`.
        flush_early: send what waits before a step ends; see `Steps.flush_early`.
        call: send a call on its route; see `Routes.call`.
        reply: send the reply of a handler; see `CallsIn.reply`.
        report: send what a handler reports of its progress; see `CallsIn.report`.
        handler_returned: take note that a handler of a serial callback is over; see `SerialCalls.returned`.
        forget_handlers: forget those that run; see `SerialCalls.clear`.
        cancel: end a call because its caller says so; see `CallsOut.cancel`.
        fail_unsent: end a call that was not sent, with an error; see `CallsOut.fail_unsent`.
        call_when_room: send a call as soon as the limits have room; see `WaitingRoom.add`.
        wait_for_room: end a call once there is room for calls; see `WaitingRoom.watch`.
        call_with_retry: send a call, and try it again if need be; see `Retries.add`.
        query: ask the broker for a page of rows; see `Questions.query`.
        query_realm: ask all nodes for a page of rows; see `RealmQueries.query`.
        order: have the broker do something; see `Questions.ask`.
        ping: send a PING; see `Questions.ping`.
        hand_over: have the next server act; see `Duty.hand_over`.
        take_addresses: take what `shell.find_broker` asked for; see `LinkOpener.take_addresses`.
        take_token: take what `shell.fetch_token` asked for; see `LinkOpener.take_token`.
    """

    def __init__(
        self,
        role: Role,
        shell: Shell,
        *,
        brokers: tuple[str, ...],
        player_id: PlayerID | None = None,
        limits: Limits | None = None,
        software: str = "",
        heartbeat_ms: int = int(1000 * PLAYER_HEARTBEAT_S),
        needs_token: bool = False,
        standby: bool = False,
        keys_changed: Callable[[], None] = lambda: None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.registry = Registry(HANDLER_ARGUMENTS[role], keys_changed)
        self._shell = shell
        state = self._state = EndpointState(
            limits or Limits(), named_sources=role is Role.SERVER, contain=shell.contain
        )
        outbox = self._outbox = Outbox(shell, self._deliver_local)
        encoder = Encoder(OWN)  # refusals and cancels leave, however small the limits are
        calls_out = self._calls_out = CallsOut(state, outbox, shell, encoder)
        calls_in = self._calls_in = CallsIn(state, outbox, shell, encoder, self.registry.handlers)
        once, serial = calls_in.once, calls_in.serial
        self._once, self._serial = once, serial
        deadlines = self._deadlines = Deadlines(state, calls_out, calls_in)
        bounced = self._bounced = BouncedReplies(state, outbox, encoder)
        dispatcher = self._dispatcher = Dispatcher(
            state, outbox, encoder, calls_out, calls_in, deadlines, bounced
        )
        presence = self._presence = Presence(role, state, shell, dispatcher.drop_peer)
        reporter = self._reporter = Reporter(state, outbox)
        self._description = Description(
            role,
            self.registry,
            software,
            player_id=player_id,
            heartbeat_ms=heartbeat_ms,
            standby=standby,
        )
        link = self._link = LinkKeeper(
            role,
            shell,
            outbox,
            brokers=brokers,
            description=self._description,
            needs_token=needs_token,
            random=random,
            drop_peers=self._drop_peers,
        )
        self._link_state = link.link_state
        routes = self._routes = Routes(state, calls_out, link)
        room = self._room = WaitingRoom(state, outbox, calls_out, shell, routes, one_peer=role is Role.PLAYER)
        receipts = Receipts(state, outbox, encoder, routes)
        retries = self._retries = Retries(state, calls_out, room, shell, receipts, routes, random)
        calls_out.cancel_elsewhere = self._cancel_elsewhere
        calls_out.leaves_queue = calls_in.leaves_queue
        deadlines.others += [room, retries, receipts, once]
        questions = Questions(state, outbox, calls_out, link)
        duty = self._duty = Duty(role, state, shell, outbox, calls_out, questions, reporter, link)
        self._receiver = Receiver(
            role, state, outbox, dispatcher, link, duty, presence, questions, reporter, once.memory
        )
        steps = Steps(
            state, shell, outbox, link, duty, reporter, deadlines, bounced, room, retries, once, serial
        )
        self.counters = state.counters
        self.players = presence.players
        # Bound once, not forwarded and not looked up: each of these is used for every call.
        self.receive = self._receiver.receive
        self.due_at, self.tick, self.flush = steps.due_at, steps.tick, steps.flush
        self.flush_early = steps.flush_early
        self.call = routes.call
        self.reply = calls_in.reply
        self.report = calls_in.report
        # Bound too: what one part does, a shell has of that part.
        self.handler_returned, self.forget_handlers = serial.returned, serial.clear
        self.cancel = calls_out.cancel
        self.fail_unsent = calls_out.fail_unsent
        self.call_when_room, self.wait_for_room = room.add, room.watch
        self.call_with_retry = retries.add
        self.query, self.order, self.ping = questions.query, questions.ask, questions.ping
        self.query_realm = RealmQueries(calls_out, questions, link).query
        self.hand_over = duty.hand_over
        self.take_addresses, self.take_token = link.opener.take_addresses, link.opener.take_token

    @property
    def player_id(self) -> PlayerID | None:
        """The ID of a player: the one that it named, or the one that the broker gave it."""
        return self._description.player_id

    @property
    def acting(self) -> bool:
        """Whether this is a server to which the calls of players come."""
        return self._duty.acting

    @property
    def connected(self) -> bool:
        """Whether the broker has welcomed this endpoint, and the link stands."""
        return self._link_state.up

    @property
    def ended(self) -> str:
        """Why this endpoint does not connect again until it is started again; empty: it does."""
        return self._link.ended

    @property
    def pending(self) -> int:
        """How many calls of this endpoint wait for a reply."""
        return self._calls_out.pending

    @property
    def broker(self) -> str:
        """The address of the program's that the present link goes to, or that is or was tried last."""
        return self._link.broker

    @property
    def link_address(self) -> str | None:
        """The numeric address at which the broker welcomed this endpoint; None while there is no link."""
        return self._link.address

    @property
    def node(self) -> str | None:
        """The name of the broker in its realm; None: it is in none, or there is no link to it."""
        return (self._link.node or None) if self._link_state.up else None

    def shares_broker(self, other: Endpoint) -> bool:
        """Return whether two endpoints have links to one broker. False if the broker is too old to tell."""
        mine, others = self._link, other._link
        up = mine.link_state.up and others.link_state.up
        return up and mine.broker_id is not None and mine.broker_id == others.broker_id

    def knows_player(self, other: Endpoint) -> bool:
        """Return whether this server knows another endpoint as a player, or will with its next step."""
        return other.player_id in self.players or other._link.since > self._state.now

    def waits_behind(self, call: PendingCall, current: Execution) -> bool:
        """Return whether a call of this endpoint to itself waits until the turn of another call is over.

        Any thread may call this.
        """
        peer = self._state.peers.get(call.route or b"")
        execution = peer.executions.get(call.id) if peer is not None and peer.local else None
        return execution is not None and self._serial.waits_behind(execution, current)

    def has_to_reply(self, call: PendingCall) -> bool:
        """Return whether the outcome of a call to this endpoint has yet to come from here.

        False if that is not known: the reply may be on its way, or values of the progress.
        """
        if call.began > self._state.now:  # this endpoint has read nothing since
            return True
        found = [peer.executions.get(call.id) for peer in self._state.peers.values()]
        return any(
            execution is not None and execution.key == call.key and not execution.may_have_progress
            for execution in found
        )

    def load(self) -> Load:
        """Return what this endpoint holds now. For tests and diagnosis; any thread may call it."""
        peers = list(self._state.peers.values())
        return Load(
            pending=self._calls_out.pending,
            running=self._calls_in.running,
            calls=sum(len(peer.calls) for peer in peers),
            executions=sum(len(peer.executions) for peer in peers) + self._once.waiting,
            peers=len(peers),
            queued=sum(len(peer.outgoing) for peer in peers),
            queued_bytes=self._outbox.queued_bytes,
            returned=sum(len(peer.returned) for peer in peers),
            waiting=self._room.calls + self._retries.waiting,
            remembered=len(self._once.memory.calls),
        )

    # -- the link

    def end_with_broker(self) -> None:
        """Leave for good, and without a warning, when the broker stops: it runs in this process."""
        self._link.ends_with_broker = True

    def start(self, now: float, timeout_s: float) -> None:
        """Open the link; `shell.started` tells how it went."""
        self._once.memory.begin(now)
        self._link.start(now, timeout_s)
        self.tick(now)

    def close(self) -> None:
        """Cancel the calls of this endpoint, say BYE, and end everything that is in flight."""
        if self._link_state.up:
            retiring = self._link_state.state is SessionState.RETIRING
            try:
                self._calls_out.cancel_all("the endpoint was closed")
                self._reporter.report(self._state.now)
                self._outbox.flush()
                if not retiring:  # it has not finished: without BYE, the broker tells those who wait
                    self._shell.send(b"", encode(control.Bye()))
            except BaseException as error:  # the calls in flight must end all the same
                self._state.contain("saying BYE", error)
        self._link.close()

    def link_lost(self, now: float, why: str) -> None:
        """Take note that the connection is closed or could not be made. Another link is opened later."""
        self._state.now = now
        self._link.lost(now, why)

    def link_refused(self, now: float, why: str) -> None:
        """Take note that the connection was refused for its keys, before there was a session."""
        self._link.rejected(control.Reject(RejectCode.UNAUTHORIZED, why), now)

    def link_answered(self) -> None:
        """Take note that the other end of the link has answered the handshake."""
        self._link_state.answered()

    def _drop_peers(self, why: str, everything: bool) -> None:
        self._reporter.stop()
        self._outbox.forget_control()
        for peer in list(self._state.peers.values()):
            if everything or not peer.local:
                self._dispatcher.drop_peer(peer, Code.CONNECTION_LOST, why)
        self._presence.clear()
        self._duty.lost()
        error = ConnectionLost(why, executed="no")
        if everything:
            self._room.close(error)
            self._retries.end_calls(error)
            self._once.close()
            self._serial.go_on()  # no step follows
        else:
            self._room.end_calls(lambda kind: None if kind is None else error)
            self._retries.end_calls(error)

    # -- calls

    def _cancel_elsewhere(self, call: PendingCall) -> None:
        if not self._retries.cancel(call):
            self._room.cancel(call)

    def _deliver_local(self, peer: Peer, body: bytes) -> None:
        self._dispatcher.take(peer, body, self._state.now)

    def keys_changed(self) -> None:
        """Take note that a callback was registered or taken back."""
        self._description.keys_changed = True
        self._shell.want_flush()
