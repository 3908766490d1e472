"""Serial callbacks: the calls of one source run one after the other, in the order in which they came.

A call that waits here for its turn is in the table of its peer, and counts as one that is handled. So the
limits of the endpoint bound how many wait.
"""

from __future__ import annotations

from collections.abc import Collection

from ringback.core.execution import Execution
from ringback.core.shell import Shell
from ringback.protocol.player_ids import PlayerID


class _Queue:
    """The calls of one source to one callback.

    Attributes:
        current: the call whose turn it is.
        returned: whether its handler has returned.
        waiting: the calls behind it, in the order in which they came.
    """

    __slots__ = ("current", "returned", "waiting")

    def __init__(self, current: Execution) -> None:
        self.current = current
        self.returned = False
        self.waiting: dict[Execution, None] = {}


class SerialCalls:
    """The calls to the serial callbacks of one endpoint.

    The turn of a call ends when its handler replies. If nobody waits for the reply any more, it ends when the
    handler has returned: a handler in a thread cannot be stopped, and the next one must not run beside it.

    Attributes:
        over: the queues in which a turn is over because its caller gave up. The next one begins in `go_on`:
            the same caller may give up the next call in the same step.
    """

    def __init__(self, shell: Shell) -> None:
        self.over: list[_Queue] = []
        self._shell = shell
        self._queues: dict[tuple[str, PlayerID | None], _Queue] = {}

    def start(self, execution: Execution) -> None:
        """Run the handler of a call as soon as it is its turn."""
        name = execution.key, execution.source
        queue = self._queues.get(name)
        if queue is None:
            self._queues[name] = _Queue(execution)
            self._shell.run(execution)
        else:
            queue.waiting[execution] = None

    def replied(self, execution: Execution) -> None:
        """Take note that the handler of a call has replied."""
        queue = self._queue_of(execution)
        if queue is not None and not execution.cancelled:
            self._next(queue)

    def returned(self, execution: Execution) -> None:
        """Take note that the handler of a call has returned, or will never run."""
        queue = self._queue_of(execution)
        if queue is not None:
            queue.returned = True
            if execution.cancelled:
                self._next(queue)

    def waits(self, execution: Execution) -> bool:
        """Return whether a call waits for its turn. Any thread may call this."""
        queue = self._queues.get((execution.key, execution.source))
        return queue is not None and execution in queue.waiting

    def waits_behind(self, execution: Execution, current: Execution) -> bool:
        """Return whether a call waits until the turn of another one is over. Any thread may call this."""
        queue = self._queues.get((execution.key, execution.source))
        return queue is not None and queue.current is current and execution in queue.waiting

    def stopped(self, execution: Execution) -> bool:
        """Take note that nobody waits for a call any more. Return whether it was not its turn yet."""
        queue = self._queues[execution.key, execution.source]  # it lasts until nobody waits, or a reply
        if execution in queue.waiting:
            del queue.waiting[execution]
            return True
        if queue.current is execution and queue.returned:
            self.over.append(queue)
            self._shell.want_flush()
        return False

    def go_on(self) -> None:
        """Begin the next turns in the queues that are over. Steps call this at their end."""
        over, self.over = self.over, []
        for queue in over:
            self._next(queue)

    def clear(self, running: Collection[Execution]) -> None:
        """Forget all calls: what would run their handlers is gone.

        Args:
            running: those whose handlers still run. Their turns go on until `returned`.
        """
        self._queues = {name: queue for name, queue in self._queues.items() if queue.current in running}
        self.over.clear()

    def _queue_of(self, execution: Execution) -> _Queue | None:
        """Return the queue in which it is the turn of a call; None if its turn is over."""
        queue = self._queues.get((execution.key, execution.source))
        return queue if queue is not None and queue.current is execution else None

    def _next(self, queue: _Queue) -> None:
        """End a turn, and begin the next one."""
        execution = next(iter(queue.waiting), None)
        if execution is None:
            del self._queues[queue.current.key, queue.current.source]
        else:
            del queue.waiting[execution]
            queue.current, queue.returned = execution, False
            self._shell.run(execution)
