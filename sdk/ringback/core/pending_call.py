"""A call from its caller's side: triggered here, and waiting for its reply."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, ClassVar, Protocol

from ringback.core.progress import Progress
from ringback.errors import CallbackError


class Canceller(Protocol):
    """The endpoint that triggered a call, as the call sees it."""

    @property
    def _log_name(self) -> str:
        """What the log calls this endpoint."""
        ...

    @property
    def _interrupted(self) -> bool:
        """Whether the endpoint ended because the program was interrupted, as by Ctrl-C."""
        ...

    def cancel_call(self, call: PendingCall) -> None:
        """Cancel a call in the core; from any thread that may trigger."""


class PendingCall:
    """A call that this endpoint triggered. The faces add how to wait for it.

    Args:
        endpoint: the endpoint that cancels the call if the program says so; None: the core alone does.

    Attributes:
        id: the number that its reply names.
        key: the key of the callback.
        began: when it was triggered, on the monotonic clock, in seconds.
        deadline: when it ends at the latest, on the same clock; None for no limit.
        route: the route that it was sent on; None if it was not sent.
        callback: the function to call with the results.
        on_error: the function to call with the error.
        typed: whether its result has a type, and is converted when the program first looks at it.
    """

    typed: ClassVar[bool] = False

    __slots__ = (
        "_context",
        "_done",
        "_endpoint",
        "_error",
        "_progress",
        "_results",
        "_seen",
        "_waiters",
        "began",
        "callback",
        "deadline",
        "id",
        "key",
        "on_error",
        "route",
    )

    def __init__(
        self,
        call_id: int,
        key: str,
        deadline: float | None,
        callback: Callable[..., object] | None,
        on_error: Callable[[CallbackError], object] | None,
        began: float = 0.0,
        endpoint: Canceller | None = None,
    ) -> None:
        self._endpoint = endpoint
        self.id = call_id
        self.key = key
        self.began = began
        self.deadline = deadline
        self.route: bytes | None = None
        self.callback = callback
        self.on_error = on_error
        self._context: Context  # of `callback` and `on_error`; set only if there is one of them
        self._progress: Progress  # set only if the caller asked for progress
        self._seen = callback is not None or on_error is not None
        self._done = False
        self._results: tuple[Any, ...] = ()
        self._error: CallbackError | None = None
        self._waiters: list[Callable[[], object]] = []  # made here: two threads may add to it at once

    @property
    def _progress_taker(self) -> Progress | None:
        """What takes the progress of this call; None if its caller asked for none."""
        return getattr(self, "_progress", None)

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        """Keep the outcome and wake those who wait. Only the core calls this, once. Not for users."""
        self._results = results
        self._error = error
        self._done = True
        if self._waiters:
            self._wake()

    def convert(self) -> None:
        """Convert the result of a typed call that has ended. Not for users.

        This may run code of the user's classes.
        """

    def add_waiter(self, wake: Callable[[], object]) -> None:
        """Call a function once there is an outcome; at once if there is one. Not for users.

        Any thread may call this.
        """
        self._waiters.append(wake)
        if self._done:
            self._wake()

    def _wake(self) -> None:
        # Two threads may be in here. One of them pops each waiter, in the order in which they came.
        while self._waiters:
            try:
                wake = self._waiters.pop(0)
            except IndexError:
                return
            try:
                wake()
            except BaseException:  # the others are woken all the same
                self._wake()
                raise
