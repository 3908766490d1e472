"""A simulated network and its clock. The connections delay, hold up and lose messages as libzmq's do.

It models these facts of libzmq 4.3.5:

- A message is delivered whole, after a delay, in the order of its connection. Or it is never delivered.
- When a connection breaks, messages in its queue are lost from some point on. Those before it may have left.
- Messages that came before a connection was closed may be read later, between messages of newer connections.
- A full pipe stays full until half of it has been read. A ROUTER that sends to a peer without a connection
  gets EHOSTUNREACH, or EAGAIN if the peer's pipe was full. A DEALER without a connection has no room.
- A link is silent while it is cut, or while the process at one end is stopped. Each end notices that with its
  heartbeats, or not at all.
- A descriptor is free as soon as its connection is closed. The next connection gets the lowest free one.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from ringback_broker.peers.connection import Side

Message = tuple[bytes, ...]
SYN, EOF = "SYN", "EOF"
"""A connection begins and ends with these, in the order of its messages. They take no room."""

HEARTBEAT_S = 1.0
LINGER_S = 0.5


@dataclass
class Weather:
    """How bad the network is.

    Attributes:
        delay_s: the longest delay of a message.
        late_loss_s: how much later than messages the end of a connection may arrive.
        missed: the share of lost connections that an end does not notice.
        room: how many messages a pipe from the broker holds.
        room_up: how many messages a pipe to the broker holds.
        silence_told: whether the broker can ask how long a connection has been silent.
        busy: how often a machine has other work to do first.
        lookup_s: the longest time that a lookup of the broker's name takes.
        unknown: how often the name cannot be resolved.
        dead: how many addresses the name has where no broker is, at most.
    """

    delay_s: float = 0.0005
    late_loss_s: float = 0.0
    missed: float = 0.0
    room: int = 1000
    room_up: int = 1000
    silence_told: bool = True
    busy: float = 0.0
    lookup_s: float = 0.0
    unknown: float = 0.0
    dead: int = 0


class World:
    """The clock, the random generator and the queue of events. Nothing else here has a clock or chance.

    Attributes:
        with_serial: whether some callbacks are serial.
    """

    def __init__(self, seed: int, tracing: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.weather = Weather()
        self.with_serial = True
        self.trace: list[str] | None = [] if tracing else None
        self.steps = 0
        self.connections: dict[Connection, None] = {}
        self._due: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._numbers = count()

    def after(self, delay_s: float, function: Callable[..., object], *arguments: Any) -> None:
        heapq.heappush(self._due, (self.now + delay_s, next(self._numbers), function, arguments))

    def run(self, seconds: float) -> None:
        """Let time pass, and run what is due."""
        until = self.now + seconds
        due = self._due
        while due and due[0][0] <= until:
            self.now, _, function, arguments = heapq.heappop(due)
            self.steps += 1
            function(*arguments)
        self.now = until

    def look(self) -> None:
        """Check all connections, after something was stopped, killed, cut or continued."""
        for connection in list(self.connections):
            connection.look()

    def chance(self, share: float) -> bool:
        return share > 0 and self.random.random() < share

    def note(self, who: object, what: str) -> None:
        """Write a line of the trace that `--trace` shows."""
        if self.trace is not None:
            self.trace.append(f"{self.now:.6f} {who} {what}")


class Process:
    """A process that can be stopped and killed. It works in steps, and runs a step when it was woken."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped = False
        self._wake_at: float | None = None
        self._held: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def step(self) -> None:
        raise NotImplementedError

    def wake(self, delay_s: float) -> None:
        """Run a step after this delay, unless one is due earlier."""
        at = self.world.now + delay_s
        if self._wake_at is None or at < self._wake_at:
            self._wake_at = at
            self.world.after(delay_s, self._woken, at)

    def _woken(self, at: float) -> None:
        if self._wake_at == at and self.alive and not self.stopped:
            self._wake_at = None
            self.step()

    def later(self, delay_s: float, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function of this process after a delay, or when it goes on if it is stopped then."""
        self.world.after(delay_s, self._do, function, *arguments)

    def _do(self, function: Callable[..., object], *arguments: Any) -> None:
        if self.stopped:
            self._held.append((function, arguments))
        elif self.alive:
            function(*arguments)

    def stop(self) -> None:
        """Stop the process, as SIGSTOP does: it does nothing, and no message gets in."""
        self.stopped = True
        self.world.look()

    def go_on(self) -> None:
        self.stopped = False
        held, self._held = self._held, []
        for function, arguments in held:
            function(*arguments)
        self._wake_at = None
        self.wake(0.0)
        self.world.look()


class Pipe:
    """One direction of a connection: the messages that were sent and are not read yet, in order.

    Attributes:
        unread: the messages that have arrived.
        dead: whether nobody reads any more. Then messages vanish.
    """

    def __init__(self, world: World, up: bool, receiver: Callable[[Message | str], None]) -> None:
        self._up = up
        self.unread: deque[Message] = deque()
        self.dead = False
        self._world = world
        self._receiver = receiver
        self._moving: deque[Message | str] = deque()
        self._due = 0
        self._last_at = 0.0
        self._full = False
        self.drained: Callable[[], None] = lambda: None

    @property
    def full(self) -> bool:
        """Whether there is no room. Once full, a pipe stays full until half of it was read, as in libzmq."""
        weather = self._world.weather
        waiting, room = len(self._moving) + len(self.unread), weather.room_up if self._up else weather.room
        self._full = waiting >= room or (self._full and waiting > room // 2)
        return self._full

    def send(self, item: Message | str, extra_s: float = 0.0) -> None:
        world = self._world
        delay_s = world.weather.delay_s * world.random.random() + extra_s
        self._last_at = max(self._last_at, world.now + delay_s)
        self._moving.append(item)
        world.after(self._last_at - world.now, self._arrive)

    def _arrive(self) -> None:
        self._due += 1
        self.move(self.held())

    held: Callable[[], bool]

    def move(self, held: bool) -> None:
        """Deliver the messages that are due."""
        while self._due and self._moving and not held:
            self._due -= 1
            item = self._moving.popleft()
            if not self.dead:
                self._receiver(item)

    def read(self) -> Message:
        message = self.unread.popleft()
        if self._full and not self.full:
            self.drained()
        return message

    def cut_off(self, share: float = 0.0) -> None:
        """Lose the messages on the way, except a share that had left already. A SYN or EOF is never lost."""
        keep = int(len(self._moving) * share)
        self._moving = deque(item for i, item in enumerate(self._moving) if i < keep or type(item) is str)


class RouterEnd(Protocol):
    """The broker's side of all connections to one address."""

    process: Process

    def accepted(self, connection: Connection) -> int:
        """Accept a connection, and return its descriptor."""
        ...

    def closed(self, connection: Connection, told: bool) -> None: ...

    def readable(self, connection: Connection) -> None: ...


class Connection:
    """A connection between one DEALER socket and the broker.

    Attributes:
        up: the pipe to the broker.
        down: the pipe from the broker.
        open_below: whether the endpoint's end is open.
        open_above: whether the broker's end is open.
        told: the reason that the endpoint gets for the loss of its link, or None.
        since: when the silence began, or None if the connection is not silent.
        descriptor: the broker's descriptor, or -1 before the connection is accepted.
    """

    def __init__(self, world: World, side: Side, endpoint: Process, find: Callable[[Side], RouterEnd | None]):
        self.world = world
        self.side = side
        self.endpoint = endpoint
        self.routing_id = b"R" + world.random.randbytes(15)
        self.up = Pipe(world, True, self._at_broker)
        self.down = Pipe(world, False, self._at_endpoint)
        self.up.held, self.down.held = self._up_is_held, self._down_is_held
        self.open_below, self.open_above = True, False
        self.told: str | None = None
        self.since: float | None = None
        self.descriptor = -1
        self.router: RouterEnd | None = None
        self.was_full = False
        self.cut = False
        self._find = find
        world.connections[self] = None
        self.up.send(SYN)

    def __repr__(self) -> str:
        return f"{self.endpoint.name}/{self.descriptor}"

    # -- silence

    def _up_is_held(self) -> bool:
        router = self.router or self._find(self.side)
        return self.cut or (router is not None and router.process.stopped)

    def _down_is_held(self) -> bool:
        return self.cut or self.endpoint.stopped

    def look(self) -> None:
        held_up, held_down = self._up_is_held(), self._down_is_held()
        if not (held_up or held_down):
            self.since = None
        elif self.since is None:
            self.since = self.world.now
            for found in (self._found_below, self._found_above):
                self.world.after(HEARTBEAT_S * self.world.random.uniform(1.0, 3.0), found, self.since)
        self.up.move(held_up)
        self.down.move(held_down)

    def silence_s(self) -> float:
        return HEARTBEAT_S / 2 if self.since is None else self.world.now - self.since

    def _found_below(self, since: float) -> None:
        if self.since == since and not self.endpoint.stopped:
            self._lost_below("nothing came")

    def _found_above(self, since: float) -> None:
        """Close the broker's end of a silent connection.

        On the players' side only the TTL of the players' heartbeats shows silence, which misses some. On the
        backend side the broker sends heartbeats itself.
        """
        sure = self.side is Side.BACKEND or self.world.chance(0.5)
        if self.since == since and self.router is not None and not self.router.process.stopped and sure:
            self.close_above()

    # -- ends

    def close_below(self, linger: bool) -> None:
        """Close the endpoint's end: it closes its socket, or dies."""
        self.down.dead = True
        if self.open_below:
            self.open_below = False
            if linger:
                self.world.after(LINGER_S, self.up.cut_off)
            else:
                self.up.cut_off(self.world.random.random())
            self._end(self.up)

    def _lost_below(self, why: str) -> None:
        """Close the endpoint's end by the network. The endpoint may notice, and may read what has come."""
        if self.open_below:
            self.open_below = False
            self.up.cut_off(self.world.random.random())
            self._end(self.up)
            if not self.world.chance(self.world.weather.missed):
                self.told = why
                self.endpoint.wake(0.0)

    def close_above(self, told: bool = True) -> None:
        """Close the broker's end: an end of the network closes it, or the broker dies."""
        self.up.dead = True
        if self.open_above:
            assert self.router is not None
            self.open_above = False
            self.was_full = self.down.full
            self.down.cut_off(self.world.random.random())
            self._end(self.down)
            self.router.closed(self, told and not self.world.chance(self.world.weather.missed))

    def _end(self, pipe: Pipe) -> None:
        if not (self.open_below or self.open_above) and (self.router or self.up.dead):
            self.world.connections.pop(self, None)
        pipe.send(EOF, self.world.weather.late_loss_s * self.world.random.random())

    def reset(self) -> None:
        """Close both ends at once."""
        self._lost_below("reset")
        self.close_above()

    # -- arrivals

    def _at_broker(self, item: Message | str) -> None:
        if item is SYN:
            self.router = self._find(self.side)
            if self.router is None:
                self.up.dead = True
                self._end(self.down)
                return
            self.open_above = True
            self.descriptor = self.router.accepted(self)
            self.look()
        elif item is EOF:
            self.close_above()
        else:
            assert isinstance(item, tuple) and self.router is not None
            self.up.unread.append(item)
            self.router.readable(self)

    def _at_endpoint(self, item: Message | str) -> None:
        if isinstance(item, tuple):
            self.down.unread.append(item)
            self.endpoint.wake(self.world.random.random() * 0.0005)
        else:
            self._lost_below("the connection was closed")
