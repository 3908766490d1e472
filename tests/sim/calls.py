"""The calls of an endpoint of the simulator, as its program sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim.contracts import plain
from support.histories import Recorder

from ringback._roles.typed_calls import TypedCallBase
from ringback.core import progress
from ringback.core.pending_call import PendingCall
from ringback.core.progress import Progress
from ringback.errors import CallbackError


class Call(PendingCall):
    """A call that writes its outcome to the history.

    Attributes:
        by_contract: what converts the result, if the call was triggered by contract.
    """

    __slots__ = ("by_contract", "done", "name", "note", "ok", "then", "to", "values")

    def __init__(
        self, call_id: int, key: str, deadline: float | None, name: str, to: Any, note: Recorder
    ) -> None:
        super().__init__(call_id, key, deadline, None, None)
        self.name = name
        self.to = to
        self.note = note
        self.done = self.ok = False
        self.then: Callable[[], object] | None = None
        self.values: Values | None = None
        self.by_contract: TypedCallBase[Any] | None = None

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        self.done = True
        self.ok = error is None
        if error is None:
            self.note.result(self.name, results)
        else:
            self.note.error(self.name, error.code_name, error.executed)
        super().settle(results, error)
        if self.by_contract is not None:
            self.by_contract.settle(results, error)
            self.by_contract.seen()  # a run may end before its program looks
        if self.then is not None:
            self.then()

    def look(self) -> None:
        """Look at the outcome, as the program does at its first chance. This converts the result."""
        if self.values is not None:
            self.values.take_all()
            assert self.values.ended == self.done
        if self.by_contract is None or not self.done:
            return
        call, self.by_contract = self.by_contract, None
        call.convert()
        if call._error is None:
            self.note.look(self.name, [plain(result) for result in call._results])
        else:
            self.note.look_at_error(self.name, call._error.code_name, call._error.executed)


class Values(Progress):
    """The progress of a call. It writes what comes to the history, and is taken now and then.

    A call that is tried again may run at two servers, which number anew. The checker of the history looks at
    its numbers if it ran once.
    """

    def __init__(self, call: Call, retried: bool) -> None:
        super().__init__()
        self._retried = retried
        self._call = call
        self._taken = -1
        call.values = call._progress = self
        call.add_waiter(self.end)

    def take(self, value: Any, size: int) -> None:
        call = self._call
        assert not call.done, f"progress of {call.name} came after its outcome"
        name, number = value
        assert name == call.name, f"progress of {name} came to {call.name}"
        call.note.progress(name, number)
        super().take(value, size)
        assert len(self.waiting) <= progress.MAX_WAITING, f"too much waits of {name}"

    def end(self) -> None:
        assert self._call.done and not self.ended
        super().end()

    def changed(self) -> None:
        """Do nothing: the program looks when it likes."""

    def take_all(self) -> None:
        """Take what waits, as the program does."""
        while self.waiting:
            _, number = self.next_value()
            assert self._retried or number > self._taken, f"{self._call.name}: progress in another order"
            self._taken = number


class Question(PendingCall):
    """A question or an order to the broker. It is not in the history: no handler runs."""

    __slots__ = ("done", "ok")

    def __init__(self, call_id: int, deadline: float | None) -> None:
        super().__init__(call_id, "broker", deadline, None, None)
        self.done = self.ok = False

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        assert not self.done, self.id
        self.done, self.ok = True, error is None


class Wait(Question):
    """A wait for room. It is counted nowhere."""

    __slots__ = ()
