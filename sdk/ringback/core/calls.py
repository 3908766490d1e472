"""A call from its caller's side, one from its handler's side, and whom they are exchanged with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ringback.core.registry import Handler
from ringback.errors import CallbackError, CallTimeout, HandlerError
from ringback.protocol.envelopes import MAX_CODE_CHARS
from ringback.protocol.player_ids import PlayerID

if TYPE_CHECKING:
    from ringback.core.call_recorder import Tally
    from ringback.core.peers import Peer


class PendingCall:
    """A call that this endpoint triggered. The faces add how one waits for it.

    Attributes:
        id: the number that its answer names.
        key: what was called.
        deadline: on the monotonic clock, in seconds; None for no limit.
        began: when it was made, on the same clock.
        peer: whom it was sent to.
        tally: where it is counted; None if it is not.
    """

    __slots__ = (
        "_done",
        "_error",
        "_results",
        "_waiters",
        "began",
        "callback",
        "deadline",
        "id",
        "key",
        "on_error",
        "peer",
        "tally",
    )

    def __init__(
        self,
        call_id: int,
        key: str,
        deadline: float | None,
        callback: Callable[..., Any] | None,
        on_error: Callable[[CallbackError], Any] | None,
        began: float = 0.0,
    ) -> None:
        self.id = call_id
        self.key = key
        self.began = began
        self.deadline = deadline
        self.peer: Peer | None = None
        self.tally: Tally | None = None
        self.callback = callback
        self.on_error = on_error
        self._done = False
        self._results: tuple[Any, ...] = ()
        self._error: CallbackError | None = None
        self._waiters: list[Callable[[], object]] = []  # made here: two threads may add to it at once

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        """Keeps the outcome and wakes who waits. Called once, by the core alone."""
        self._results = results
        self._error = error
        self._done = True
        if self._waiters:
            self._wake()

    def add_waiter(self, wake: Callable[[], object]) -> None:
        """Has a function called once there is an outcome; at once if there is one. From any thread."""
        self._waiters.append(wake)
        if self._done:
            self._wake()

    def _wake(self) -> None:
        # Two threads may be in here; each waiter is popped by one of them, the first to come first.
        while self._waiters:
            try:
                wake = self._waiters.pop(0)
            except IndexError:
                return
            wake()


def as_answer(error: Exception) -> CallbackError:
    """Gives what the caller is told of what a handler raised: an application's own error as it is, another,
    one with a code of the protocol's too, as HANDLER_ERROR."""
    # A subclass may have left out super().__init__().
    code = getattr(error, "code", None) if isinstance(error, CallbackError) else None
    if isinstance(code, str) and 0 < len(code) <= MAX_CODE_CHARS:
        message, data = getattr(error, "message", ""), getattr(error, "data", None)
        if isinstance(message, str):
            return CallbackError(message, code=str(code), executed="yes", data=data)
    return HandlerError("the handler failed; the log of its process says why")


class Replier(Protocol):
    """The shell, as an execution sees it."""

    def reply(self, execution: Execution, results: tuple[Any, ...], error: CallbackError | None) -> None:
        """Sends the outcome; from any thread."""

    def duplicate_reply(self, execution: Execution) -> None:
        """Takes note of an answer to what was answered already."""

    def handler_failed(self, execution: Execution, error: Exception) -> None:
        """A handler has failed with what its caller is not told: it belongs into the log."""

    def cancel(self, execution: Execution) -> None:
        """Stops a handler that can be stopped; on the I/O thread."""


class Execution:
    """A call that this endpoint handles. It is the `cb` that a handler is given.

    `cb(*results)` answers the call. It may be called later and from another thread, once: a second
    answer is ignored and logged. A call that is never answered ends at its caller by its timeout.

    Attributes:
        id: the number that the answer names.
        source: the caller's player ID on a server; None on a player.
        began: when it came, on the monotonic clock, in seconds.
        deadline: on the same clock; None for no limit.
        tally: where it is counted; None if it is not.
        size: about how many bytes its call took.
        context: what its call carried of tracing; None for nothing.
        cancelled: the caller does not want the answer any more, or is gone.
    """

    __slots__ = (
        "_replied",
        "began",
        "cancelled",
        "context",
        "deadline",
        "handler",
        "id",
        "key",
        "payload",
        "peer",
        "shell",
        "size",
        "source",
        "tally",
        "task",
    )

    def __init__(
        self,
        shell: Replier,
        peer: Peer,
        call_id: int,
        key: str,
        payload: Any,
        deadline: float | None,
        handler: Handler,
        size: int = 0,
        began: float = 0.0,
        context: dict[str, str] | None = None,
    ) -> None:
        self.shell = shell
        self.peer = peer
        self.id = call_id
        self.key = key
        self.payload = payload
        self.began = began
        self.deadline = deadline
        self.tally: Tally | None = None
        self.handler = handler
        self.source: PlayerID | None = peer.source
        self.size = size
        self.context = context
        self.cancelled = False
        self.task: Any = None
        self._replied = False

    def __call__(self, *results: Any) -> None:
        """Answers the call with any number of results."""
        if self._replied:
            self.shell.duplicate_reply(self)
            return
        self._replied = True
        self.shell.reply(self, results, None)

    def fail(self, error: Exception) -> None:
        """Answers the call with an error, as raising it in the handler does.

        A `CallbackError` with a code of its own (a str) reaches the caller as it is, with
        `executed="yes"`; any other becomes HANDLER_ERROR. What was answered already stays.
        """
        answer = as_answer(error)
        if isinstance(answer, HandlerError):
            self.shell.handler_failed(self, error)
        self.refuse(answer)

    def refuse(self, error: CallbackError) -> None:
        """Answers the call with an error of the protocol's. Not for users."""
        if not self._replied:
            self._replied = True
            self.shell.reply(self, (), error)

    def begin(self, now: float) -> bool:
        """Tells whether the handler may still run: not if nobody waits, or the budget is spent."""
        if self.cancelled:
            return False
        if self.deadline is not None and now >= self.deadline:
            self.refuse(CallTimeout("the call's time was over before its handler could start", executed="no"))
            return False
        return True

    @property
    def replied(self) -> bool:
        """Whether it was answered."""
        return self._replied

    def arguments(self) -> tuple[Any, ...]:
        """What the handler is given."""
        payload = (self.payload,) if self.source is None else (self.source, self.payload)
        return (*payload, self) if self.handler.takes_cb else payload
