"""The duty of a server: it acts, stands by or retires. A server that retires leaves once it has finished."""

from __future__ import annotations

from ringback.core.calls_out import CallsOut
from ringback.core.endpoint_state import EndpointState
from ringback.core.link_keeper import LinkKeeper
from ringback.core.outbox import Outbox
from ringback.core.pending_call import PendingCall
from ringback.core.questions import Questions
from ringback.core.reporter import Reporter
from ringback.core.shell import EndpointEvent, Shell
from ringback.errors import NoServer
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import FrameType, Role, SessionState, header

_TOO_OLD = (
    "the broker is too old to let servers take turns, so this server cannot hand over: update the broker"
)


class Duty:
    """What one server does now. Of a player or an operator it never changes.

    Attributes:
        acting: whether the calls of players come to this server.
        knows_turns: whether the broker knows how one server hands over to another one.
    """

    def __init__(
        self,
        role: Role,
        state: EndpointState,
        shell: Shell,
        outbox: Outbox,
        calls_out: CallsOut,
        questions: Questions,
        reporter: Reporter,
        link: LinkKeeper,
    ) -> None:
        self.acting = False
        self.knows_turns = False
        self._is_server = role is Role.SERVER
        self._state = state
        self._shell = shell
        self._outbox = outbox
        self._calls_out = calls_out
        self._questions = questions
        self._reporter = reporter
        self._link = link
        self._handing_over: list[PendingCall] = []
        self._asked = b""
        self._askings = 0
        self._confirmed = False

    # -- it changes

    def welcomed(self, welcome: control.Welcome) -> None:
        """Take the duty that a WELCOME gives."""
        if not self._is_server:
            return
        self.knows_turns = bool(welcome.own_link)
        if welcome.own_link:
            self._state.own_header = header(FrameType.DATA, welcome.own_link)
            self._state.headers[FrameType.DATA] = self._state.own_header
        self._link.retiring = self._link.link_state.state is SessionState.RETIRING
        if welcome.standby:
            self._link.link_state.stand_by()
        self._asked, self._confirmed = b"", False
        self._set_acting(self._link.link_state.state is SessionState.READY)

    def lost(self) -> None:
        """Take note that the link is lost."""
        self._handing_over.clear()  # they end with everything else that was pending
        self._set_acting(False)

    def _set_acting(self, acting: bool) -> None:
        if acting is not self.acting:
            self.acting = acting
            self._shell.event(EndpointEvent.ACTING, acting)

    # -- handing over

    def hand_over(self, call: PendingCall) -> None:
        """Have the next server act. The call ends once this one has finished what it has begun, and left."""
        state = self._link.link_state.state
        # A call that the broker refused, or whose time is over, waits no more.
        self._handing_over = [one for one in self._handing_over if self._questions.waits(one)]
        if state is SessionState.RETIRING:
            self._questions.expect(call)
        elif state is not SessionState.READY:
            self._calls_out.fail_unsent(call, self._link.not_ready())
            return
        elif not self.knows_turns:
            self._calls_out.fail_unsent(call, NoServer(_TOO_OLD))
            return
        else:
            self._questions.ask(call, control.Order(call.id, control.What.HAND_OVER))
        self._handing_over.append(call)
        self._shell.want_flush()

    def answered(self, answer: control.Answer) -> bool:
        """Return whether an ANSWER says that the next server acts. The call goes on until this one left."""
        return answer.code is None and any(call.id == answer.id for call in self._handing_over)

    def ponged(self, body: bytes) -> bool:
        """Return whether a PONG is the one that this server waits for before it leaves."""
        if not self._asked or body != self._asked:
            return False
        self._confirmed = True
        self._shell.want_flush()
        return True

    def leave_if_done(self, now: float) -> bool:
        """Leave the broker if all that was begun has ended. Return False if the link takes no more now.

        A reply that was sent may still come back, because its caller's queue is full. The broker sends the
        PONG after it.
        """
        if not self._has_finished():
            self._asked, self._confirmed = b"", False
            return True
        if not self._asked:
            self._askings += 1
            self._asked = b"left %d" % self._askings
            self._reporter.report(now)
            self._outbox.add_control(encode(control.Ping(self._asked)))
            return self._outbox.flush()
        if self._confirmed:
            if not self._shell.send(b"", encode(control.Bye(finished=True))):
                return False
            calls, self._handing_over = self._handing_over, []
            for call in calls:
                self._questions.finish(call)
            self._link.leave(now, "this server has handed over")
        return True

    def _has_finished(self) -> bool:
        """Return whether nothing is in flight; questions to the broker do not count."""
        return all(peer.idle for peer in self._state.peers.values() if peer.route)
