"""What the `Call` of both faces has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from ringback._runtime.log import log, owner_of, printable, target_of
from ringback.core.pending_call import PendingCall
from ringback.errors import Cancelled, ConnectionLost, UsageError, fresh

if TYPE_CHECKING:
    # Type checkers know this module, installed or not. A `Call` without a parameter is a `Call[Any]`.
    from typing_extensions import TypeVar

    R_co = TypeVar("R_co", covariant=True, default=Any)
else:  # the `default` of a type variable came with Python 3.13
    from typing import TypeVar

    R_co = TypeVar("R_co", covariant=True)


class CallBase(PendingCall, Generic[R_co]):
    """A call that was triggered. It ends exactly once: with results, or with an error."""

    __slots__ = ()

    def done(self) -> bool:
        """Return whether the call has ended."""
        return self._done

    def cancel(self) -> bool:
        """End the call with `Cancelled`, and tell the handler's side.

        Returns:
            Whether there was a call to cancel. False: it has ended already, and nothing happens.
        """
        self._seen = True
        if self._done:
            return False
        assert self._endpoint is not None  # a role triggered it
        self._endpoint.cancel_call(self)
        return True

    def cancelled(self) -> bool:
        """Return whether the call has ended because this program cancelled it."""
        return isinstance(self._error, Cancelled)

    @property
    def progress_lost(self) -> int:
        """How many values of the progress were dropped because too many waited for the program."""
        progress = self._progress_taker
        return 0 if progress is None else progress.lost

    def _no_progress(self) -> UsageError:
        """Return why the progress of this call cannot be iterated."""
        if self._progress_taker is not None:
            return UsageError(f"the progress of the call of {self.key!r} goes to its on_progress")
        return UsageError(f"the call of {self.key!r} asked for no progress: trigger it with progress=True")

    def seen(self) -> None:
        """Note that the program has the outcome, so that an error need not be logged. Not for users."""
        self._seen = True

    def _outcome(self) -> tuple[Any, ...]:
        self._seen = True
        if self._error is not None:
            raise fresh(self._error)
        return self._results

    def _result(self) -> R_co:
        """Return None for no result, the value of one, a tuple of several."""
        self._seen = True
        if self._error is not None:
            raise fresh(self._error)
        results: Any = self._results
        if len(results) == 1:
            results = results[0]
        elif not results:
            results = None
        value: R_co = results
        return value

    def __repr__(self) -> str:
        state = "pending" if not self._done else f"failed: {self._error}" if self._error else "done"
        return f"<Call {self.key!r} {state}>"

    def __del__(self) -> None:
        # Log an error that the program can never have seen.
        if self._done and self._error is not None and not self._seen:
            error, endpoint = self._error, self._endpoint
            if isinstance(error, ConnectionLost) and endpoint is not None and endpoint._interrupted:
                return
            text = "%s: the call of %r failed, and nobody looked at its error: %s (%s)"
            details = owner_of(self), self.key, printable(error), target_of(self)
            log.warning(text, *details, extra={"kind": (self.key, error.code)})
