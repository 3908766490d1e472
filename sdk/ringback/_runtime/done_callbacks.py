"""Done callbacks: what asyncio.wait adds to a call or a group, as to a future."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any


class DoneCallback:
    """A function that the event loop calls with a call or a group, once that has ended."""

    __slots__ = ("_context", "_ended", "_function", "_loop")

    def __init__(self, ended: Any, function: Callable[[Any], object], context: Context | None) -> None:
        if not callable(function):
            raise TypeError(f"a done callback must be a function, not {type(function).__name__}")
        if inspect.iscoroutinefunction(function):  # asyncio would call it, and never await what it returns
            raise TypeError(
                "a done callback of asyncio must be a plain function, not a coroutine function:"
                " let it start a task"
            )
        self._ended = ended
        self._function = function
        self._context = context or copy_context()
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> None:
        """Have the loop call the function, in the next round as a future of asyncio does."""
        if not self._loop.is_closed():  # on a closed loop, nobody waits
            self._loop.call_soon(self._function, self._ended, context=self._context)

    @staticmethod
    def remove(waiters: list[Callable[[], object]], function: Callable[[Any], object]) -> int:
        """Take a function out of a list of waiters. Return how often it was in it."""
        found = [one for one in waiters if isinstance(one, DoneCallback) and one._function == function]
        for one in found:
            waiters.remove(one)
        return len(found)
