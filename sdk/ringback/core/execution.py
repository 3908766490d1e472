"""A call from its handler's side: the execution of a registered callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ringback.core.registry import Handler
from ringback.errors import (
    MAX_CODE_CHARS,
    CallbackError,
    CallTimeout,
    Code,
    Executed,
    HandlerError,
    call_error,
)
from ringback.protocol.contexts import PROGRESS
from ringback.protocol.player_ids import PlayerID


def reply_error(error: Exception) -> CallbackError:
    """Return the error that a caller gets when its handler raised.

    An error with a code of the application reaches the caller as it is. Any other one becomes a
    `HandlerError`, also a `CallbackError` with a code of the protocol.
    """
    # A subclass may have left out super().__init__(), or have attributes that raise.
    try:
        code = getattr(error, "code", None) if isinstance(error, CallbackError) else None
        if isinstance(code, str) and 0 < len(code) <= MAX_CODE_CHARS:
            message, data = getattr(error, "message", ""), getattr(error, "data", None)
            if isinstance(message, str):
                # Plain ones: a `class E(str, Enum)` has another __str__, and other subclasses may raise.
                message = str.__str__(message)
                return CallbackError(message, code=str.__str__(code), executed="yes", data=data)
    except Exception:
        return HandlerError("the handler failed, and its error cannot be read; the log says more")
    return HandlerError("the handler failed; the log of its process says why")


def stopped_error(why: Code, never_ran: bool = False) -> CallbackError:
    """Return the outcome of a call whose handler was stopped.

    Args:
        why: TIMEOUT, or what ended the wait of the caller.
        never_ran: whether the call still waited for its turn.
    """
    executed: Executed = "no" if never_ran else "maybe"
    if why is Code.TIMEOUT:
        what = "it was its turn" if never_ran else "its handler replied"
        return call_error(why, f"its time was over before {what}", executed)
    return call_error(why, "the caller no longer waits", executed)


class Replier(Protocol):
    """The shell, as an execution sees it."""

    @property
    def log_name(self) -> str:
        """What the log calls this endpoint."""
        ...

    def reply(self, execution: Execution, results: tuple[object, ...], error: CallbackError | None) -> None:
        """Send the outcome. Any thread may call this."""

    def duplicate_reply(self, execution: Execution) -> None:
        """Log a second reply to the same call."""

    def progress(self, execution: Execution, value: object) -> None:
        """Send a value of the progress. Any thread may call this.

        Raises:
            InvalidPayload, TooLarge: the value cannot be sent.
        """

    def late_progress(self, execution: Execution) -> None:
        """Log progress that a handler reports after its reply."""

    def handler_failed(self, execution: Execution, error: Exception) -> None:
        """Log the error of a handler that its caller is not told."""

    def cancel(self, execution: Execution) -> None:
        """Stop the handler if that is possible. Called on the I/O thread."""


class Task(Protocol):
    """What a face runs a handler in."""

    def cancel(self) -> object:
        """Stop the handler."""


class Execution:
    """A call that this endpoint handles. A handler gets it as its `cb`.

    `cb(*results)` replies to the call. Call it once, at any time and from any thread: a second reply
    is ignored and logged. A call without a reply ends at its caller when the timeout is over.

    Attributes:
        key: the key of the callback.
        payload: the value that the call carries.
        source: the player ID that a server's handler is given; None on a player.
        deadline: when the call ends at the latest, on the monotonic clock, in seconds; None for no limit.
        cancelled: whether its caller no longer waits for the reply.
    """

    # The other attributes are for the core and the faces:
    #   id: the number that the reply names.
    #   route: the route that the call came on, and that the reply goes back on.
    #   began: when the handler began, on the monotonic clock, in seconds; 0.0 before that.
    #   handler: the registered handler.
    #   size: about how many bytes the call took.
    #   context: what the call carried in its context; None for nothing.
    #   awaited: whether it is in its table: it has no reply yet, and its caller waits. The core sets it.
    #     Always False for a call with a token, which `ringback.core.once` remembers.
    #   task: what the face runs the handler in; None if it cannot be stopped.
    __slots__ = (
        "_replied",
        "awaited",
        "began",
        "cancelled",
        "context",
        "deadline",
        "handler",
        "id",
        "key",
        "payload",
        "route",
        "shell",
        "size",
        "source",
        "task",
    )

    def __init__(
        self,
        shell: Replier,
        route: bytes,
        source: PlayerID | None,
        call_id: int,
        key: str,
        payload: Any,
        deadline: float | None,
        handler: Handler,
        size: int = 0,
        context: dict[str, str] | None = None,
    ) -> None:
        self.shell = shell
        self.route = route
        self.source = source
        self.id = call_id
        self.key = key
        self.payload = payload
        self.began = 0.0
        self.deadline = deadline
        self.handler = handler
        self.size = size
        self.context = context
        self.awaited = True
        self.cancelled = False
        self.task: Task | None = None
        self._replied = False

    def __repr__(self) -> str:
        whom = "" if self.source is None else f" for {self.source!r}"
        state = "replied" if self._replied else "nobody waits" if self.cancelled else "not replied"
        return f"<Execution of {self.key!r}{whom}: {state}>"

    def __call__(self, *results: object) -> None:
        """Reply to the call with any number of results."""
        if self._replied:
            self.shell.duplicate_reply(self)
            return
        self._replied = True
        self.shell.reply(self, results, None)

    def progress(self, value: object) -> None:
        """Tell the caller how far this handler is, with any value that a payload may have.

        Call it as often as necessary, from any thread, before the reply. If the caller did not ask for
        progress, or no longer waits, this does nothing. After the reply, this is ignored and logged. While
        much waits for a slow link, values are dropped.

        Raises:
            InvalidPayload, TooLarge: the value cannot be sent.
        """
        if self.context is None or PROGRESS not in self.context or self.cancelled:
            return
        if self._replied:
            self.shell.late_progress(self)
        else:
            self.shell.progress(self, value)

    def fail(self, error: Exception) -> None:
        """Reply to the call with an error, as if the handler had raised it.

        A `CallbackError` with a code of the application (a str) reaches the caller as it is, with
        `executed="yes"`. Any other error is logged and becomes HANDLER_ERROR. This does nothing if
        the call has a reply already.

        Raises:
            TypeError: `error` is not an exception. The call has no reply then.
        """
        if not isinstance(error, Exception):
            found = error.__name__ if isinstance(error, type) else type(error).__name__
            raise TypeError(
                f"cb.fail takes an exception, such as CallbackError('sold out', code='SOLD_OUT'), not {found}"
            )
        reply = reply_error(error)
        if isinstance(reply, HandlerError):
            self.shell.handler_failed(self, error)
        self.refuse(reply)

    def refuse(self, error: CallbackError) -> None:
        """Reply to the call with an error of the protocol. Not for users."""
        if not self._replied:
            self._replied = True
            self.shell.reply(self, (), error)

    def begin(self, clock: Callable[[], float]) -> tuple[Any, ...] | None:
        """Return the arguments of the handler, and keep when it begins. Not for users.

        Return None if it may not run any more: nobody waits, or the time is over.

        Args:
            clock: the monotonic clock, in seconds. The time of a step will not do: it may be long past.
        """
        # This comes first: the I/O thread marks an abandoned call before it drops the payload.
        payload = self.payload
        if self.cancelled:
            return None
        now = clock()
        if self.deadline is not None and now >= self.deadline:
            self.refuse(CallTimeout("the call's time was over before its handler could start", executed="no"))
            return None
        self.began = now
        arguments = (payload,) if self.source is None else (self.source, payload)
        return (*arguments, self) if self.handler.takes_cb else arguments

    @property
    def may_have_progress(self) -> bool:
        """Whether the handler may have reported progress that its caller has not seen yet. Not for users."""
        return self.began > 0.0 and self.context is not None and PROGRESS in self.context

    @property
    def replied(self) -> bool:
        """Whether the call has a reply."""
        return self._replied
