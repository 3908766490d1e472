"""A TCP proxy between endpoints and a broker. It can delay, slice, throttle, stall, cut and refuse
connections.

Proxies run on the event loop of a thread of their own. Any other thread may call the methods of `Proxy`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar

from ringback.testing.ports import ReservedPort

T = TypeVar("T")

CHUNK_BYTES = 65536
CHUNKS_HELD = 64
"""The most chunks that the proxy holds in one direction. Beyond that, the sender's own buffers fill up."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, with 0 s: closing the socket sends RST and drops all data that has not left (socket(7))."""


@dataclass(frozen=True)
class Faults:
    """What the proxy does to the bytes of a connection, in both directions.

    Attributes:
        delay_s: how much later bytes arrive, in seconds.
        stalled: whether nothing arrives at all, not even the end of the connection.
        slice_bytes: the size of the packets in which bytes leave; 0: as they came.
        bytes_per_s: the most bytes per second; 0: no limit.
    """

    delay_s: float = 0.0
    stalled: bool = False
    slice_bytes: int = 0
    bytes_per_s: float = 0.0


NONE = Faults()
STALLED = Faults(stalled=True)


class Connection:
    """One connection through the proxy, from a client to the target."""

    def __init__(self, client: socket.socket, target: socket.socket, faults: Faults) -> None:
        self.faults = faults
        self.bytes_carried = 0
        self.task: asyncio.Task[None] | None = None
        self._sockets = (client, target)
        self._changed = asyncio.Event()
        for end in self._sockets:
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def set_faults(self, faults: Faults) -> None:
        self.faults = faults
        self._changed.set()
        self._changed = asyncio.Event()

    async def carry(self, target_address: tuple[str, int]) -> None:
        """Carry bytes both ways until both ends are closed, or until this task is cancelled."""
        client, target = self._sockets
        try:
            await asyncio.get_running_loop().sock_connect(target, target_address)
            async with asyncio.TaskGroup() as group:
                for source, sink in ((client, target), (target, client)):
                    held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_HELD)
                    group.create_task(self._read(source, held))
                    group.create_task(self._write(held, sink))
        except OSError:  # the target does not listen, so the client's connection closes
            pass
        finally:
            client.close()
            target.close()

    async def cut(self, *, reset: bool) -> None:
        """Close the connection on both sides, with or without RST. Drop the bytes that are on their way."""
        if self.task is None or self.task.done():
            return
        if reset:
            for end in self._sockets:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.task.cancel()
        await asyncio.wait([self.task])

    async def _read(self, source: socket.socket, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        data = b"-"
        while data:
            try:
                data = await loop.sock_recv(source, CHUNK_BYTES)
            except OSError:
                data = b""
            await held.put((time.monotonic(), data))

    async def _write(self, held: asyncio.Queue[tuple[float, bytes]], sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            came_at, data = await held.get()
            await self._until_due(came_at)
            if not data:
                with suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            while data:
                piece = data[: self.faults.slice_bytes or self._share()]
                data = data[len(piece) :]
                with suppress(OSError):  # the task that reads in the other direction sees the error too
                    await loop.sock_sendall(sink, piece)
                self.bytes_carried += len(piece)
                if self.faults.bytes_per_s:
                    await asyncio.sleep(len(piece) / self.faults.bytes_per_s)
                elif data:
                    await asyncio.sleep(0)
                if data and self.faults.stalled:
                    await self._until_due(came_at)

    def _share(self) -> int:
        """Return the size of one piece in bytes. On a throttled link, that is what it carries in 20 ms."""
        rate = self.faults.bytes_per_s
        return max(1, int(rate / 50)) if rate else CHUNK_BYTES

    async def _until_due(self, came_at: float) -> None:
        """Wait as long as the faults say. The faults may change meanwhile."""
        while self.faults.stalled or (wait_s := came_at + self.faults.delay_s - time.monotonic()) > 0:
            changed = self._changed.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed, None if self.faults.stalled else wait_s)


class LoopThread:
    """A thread with an event loop, for proxies. It works in a `with` block."""

    _loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._work, name="local network", daemon=True)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and return its result to this thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the loop, and return its result to this thread."""

        async def call() -> T:
            return function()

        return self.run(call())

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


class Proxy:
    """A listener on a free port that connects each client to the target. It works in a `with` block.

    Args:
        target: `tcp://HOST:PORT`. It need not listen yet. Until it does, the proxy closes each connection.
        thread: where it works; None: in a thread of its own.

    Attributes:
        target: where it connects them.
        address: the address that clients connect to.
        accepted: the number of clients that have connected so far.
    """

    def __init__(self, target: str, thread: LoopThread | None = None) -> None:
        self.target = target
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target_address = (host, int(port))
        self._port = ReservedPort()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self.accepted = 0
        self._faults = NONE
        self._connections: dict[Connection, None] = {}
        self._own_thread = thread is None
        self._thread = thread or LoopThread()

    def __enter__(self) -> Self:
        if self._own_thread:
            self._thread.__enter__()
        self._thread.run(self._accept_again())
        self.address = self._port.address
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.run(self._close())
        if self._own_thread:
            self._thread.__exit__()
        self._port.close()

    # -- from other threads

    @property
    def connections(self) -> list[Connection]:
        """The open connections, the oldest first."""
        return self._thread.call(lambda: list(self._connections))

    def set_faults(self, faults: Faults, connections: Iterable[Connection] | None = None) -> None:
        """Set the faults of these connections, or of all connections and of those that come later."""

        def change() -> None:
            if connections is None:
                self._faults = faults
            for connection in self._connections if connections is None else connections:
                connection.set_faults(faults)

        self._thread.call(change)

    def cut(self, connections: Iterable[Connection] | None = None, *, reset: bool = False) -> int:
        """Close these connections, or all of them. Return how many they were."""
        chosen = self.connections if connections is None else list(connections)
        self._thread.run(self._cut(chosen, reset))
        return len(chosen)

    def refuse(self) -> None:
        """Refuse new connections. Those that are open stay."""
        self._thread.run(self._refuse())

    def accept(self) -> None:
        """Accept connections again."""
        self._thread.run(self._accept_again())

    # -- on the loop

    async def _accept_again(self) -> None:
        if self._listener is None:
            self._listener = self._port.listen()
            self._listener.setblocking(False)
            self._accepting = asyncio.create_task(self._accept(self._listener))

    async def _refuse(self) -> None:
        if self._listener is not None and self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._listener.close()
            self._listener = self._accepting = None

    async def _close(self) -> None:
        await self._refuse()
        await self._cut(list(self._connections), reset=False)

    async def _cut(self, connections: list[Connection], reset: bool) -> None:
        for connection in connections:
            await connection.cut(reset=reset)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            self.accepted += 1
            connection = Connection(client, socket.socket(), self._faults)
            self._connections[connection] = None
            connection.task = asyncio.create_task(connection.carry(self._target_address))
            connection.task.add_done_callback(partial(self._forget, connection))

    def _forget(self, connection: Connection, _: object) -> None:
        del self._connections[connection]
