"""Readers for event loops that have none, such as the default loop of Windows.

A loop without `add_reader` raises NotImplementedError there. Then one thread polls the descriptors of all
links, and tells the loops. It knows descriptors alone: only the loop's thread touches a socket of ZeroMQ.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Protocol
from weakref import WeakValueDictionary

import zmq

from ringback.systems import in_forked_child

FOREVER_S = 1e9
"""A timer of this many seconds never comes due. By one, a loop holds its reader until it is closed."""


class Readers(Protocol):
    """What has readers: a loop, or the `ReaderThread`."""

    def remove_reader(self, descriptor: int, /) -> object:
        """Forget the reader of a descriptor."""


class Reader:
    """A function of the running loop, and the descriptor that it waits for.

    Attributes:
        waits: whether the thread polls the descriptor. It does not from the moment at which it tells the loop
            until the function has run: a descriptor of ZeroMQ stays readable until then.
    """

    def __init__(self, descriptor: int, function: Callable[[], object]) -> None:
        self.descriptor = descriptor
        self.function = function
        self.loop = asyncio.get_running_loop()
        self.context = copy_context()
        self.waits = True
        self._held = self.loop.call_later(FOREVER_S, self.forget)

    def forget(self) -> None:
        """Let the loop let go of this."""
        self._held.cancel()


class ReaderThread:
    """The readers of all such loops, and the thread that polls for them. It ends when there are none.

    The readers are held by their loops alone. So what a function holds is let go of when its loop is closed.
    """

    def __init__(self) -> None:
        self._begin()
        in_forked_child(self._begin)

    def _begin(self) -> None:
        """Begin anew. The thread of the parent process does not exist in a forked child."""
        # The collector may end an endpoint, and so remove a reader, while this thread holds the lock.
        self._lock = threading.RLock()
        self._readers: WeakValueDictionary[int, Reader] = WeakValueDictionary()
        self._wake_in: socket.socket | None = None  # while the thread runs
        self._wake_out: socket.socket | None = None
        self._polling = False

    def add_reader(self, descriptor: int, function: Callable[[], object]) -> None:
        """Run a function on the running loop, in this context, whenever a descriptor is readable.

        Raises:
            OSError: the process has no thread or descriptor left.
        """
        with self._lock:
            reader = Reader(descriptor, function)
            if self._wake_in is None:
                try:
                    self._start()
                except BaseException:
                    reader.forget()
                    raise
            self._readers[descriptor] = reader
            self._wake()

    def remove_reader(self, descriptor: int, /) -> None:
        """Forget the reader of a descriptor. Its function does not run any more."""
        with self._lock:
            reader = self._readers.pop(descriptor, None)
            if reader is not None:
                reader.forget()
                self._wake()

    def _start(self) -> None:
        wake_in, wake_out = socket.socketpair()
        wake_out.setblocking(False)
        thread = threading.Thread(
            target=self._run, args=(wake_in, wake_out), name="ringback-readers", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            wake_in.close()
            wake_out.close()
            raise OSError("the system has no thread left to watch the link") from None
        self._wake_in, self._wake_out = wake_in, wake_out

    def _wake(self) -> None:
        if self._polling and self._wake_out is not None:
            self._polling = False
            with suppress(OSError):  # the buffer is full, so the thread is awake
                self._wake_out.send(b"\0")

    # -- the thread

    def _run(self, wake_in: socket.socket, wake_out: socket.socket) -> None:
        with wake_in, wake_out:
            while (descriptors := self._waiting(wake_in)) is not None:
                # Nothing of a reader is held meanwhile.
                for descriptor in self._ready(descriptors, wake_in):
                    self._tell(descriptor)

    def _waiting(self, wake_in: socket.socket) -> list[int] | None:
        """Return the descriptors to poll; None if there are no readers any more, and the thread ends."""
        with self._lock:
            readers = list(self._readers.values())
            if not readers:
                if self._wake_in is wake_in:  # else it is a forked child's
                    self._wake_in = self._wake_out = None
                return None
            self._polling = True
            return [reader.descriptor for reader in readers if reader.waits]

    def _ready(self, descriptors: list[int], wake_in: socket.socket) -> set[int]:
        waker = wake_in.fileno()
        try:
            found = zmq.zmq_poll([(one, zmq.POLLIN) for one in (waker, *descriptors)], -1)
        except zmq.ZMQError:  # a link was closed just now; the functions of the others find nothing to read
            return set(descriptors)
        finally:
            self._polling = False
        ready = {descriptor for descriptor, _ in found}
        if waker in ready:
            wake_in.recv(4096)
            ready.remove(waker)
        return ready

    def _tell(self, descriptor: int) -> None:
        with self._lock:
            reader = self._readers.get(descriptor)
            if reader is not None:
                reader.waits = False
                with suppress(RuntimeError):  # the loop is closed
                    reader.loop.call_soon_threadsafe(self._call, reader, context=reader.context)

    # -- on the loop

    def _call(self, reader: Reader) -> None:
        if self._readers.get(reader.descriptor) is not reader:  # it was removed meanwhile
            return
        try:
            reader.function()
        finally:
            with self._lock:
                reader.waits = True
                self._wake()


reader_thread = ReaderThread()
"""The one of this process. It does not run where all loops have readers of their own."""


def add_reader(loop: asyncio.AbstractEventLoop, descriptor: int, function: Callable[[], object]) -> Readers:
    """Run a function on a loop, which is the running one, whenever a descriptor is readable.

    Returns:
        Where to remove the reader: the loop itself, or `reader_thread` if the loop has no readers.

    Raises:
        OSError: the loop has no readers, and the process has no thread or descriptor left.
    """
    try:
        loop.add_reader(descriptor, function)
    except NotImplementedError:
        reader_thread.add_reader(descriptor, function)
        return reader_thread
    return loop
