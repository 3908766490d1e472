"""Messages between nodes, over core subjects of NATS."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

import msgpack
from nats.aio.subscription import Subscription
from nats.protocol.command import pub_cmd

from ringback_broker.cluster.frames import FramesTaker
from ringback_broker.nats.client import Client
from ringback_broker.nats.inlet import Inlet
from ringback_broker.nats.names import RealmNames
from ringback_broker.peers.connection import Sent

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""How much may wait on its way to NATS."""

AT_ONCE_BYTES = 256 * 1024
"""How much is handed to the socket at once."""

ROOM_BYTES = 1024
"""What a message may have besides its parts: who sends it, and the lengths."""

_NOBODY = "nobody"

DEFAULT_MAX_BYTES = 1024 * 1024
"""`max_payload` of NATS by default."""


class NatsFrames:
    """Messages from and to the other nodes of a realm.

    The realm calls `listen` and `send`; the link calls the rest.

    Args:
        node: the name of this node.
        inlet: takes messages to the loop.
        wake: wakes the event loop of NATS.

    Attributes:
        max_bytes: how many bytes a message may have, all parts together.
    """

    def __init__(self, names: RealmNames, node: str, inlet: Inlet, wake: Callable[[], None]) -> None:
        self.max_bytes = DEFAULT_MAX_BYTES - ROOM_BYTES
        self._subject_of = lru_cache(256)(names.frames_to)
        self._node = node
        self._inlet = inlet
        self._wake = wake
        self.taker: FramesTaker | None = None
        self._boot = b""
        # The number of the connection that the loop knows of; 0: none. What was sent before the loop knew
        # that a connection was lost is not sent on the next one.
        self._connection = 0
        self._outbound: deque[tuple[int, bytes, int]] = deque()
        self._waiting = 0  # bytes
        self._inbox = ""
        self._listening: Subscription | None = None
        self._listening_as = b""
        self._lost = False

    # -- the realm

    def listen(self, boot: bytes) -> None:
        self._boot = boot
        self._wake()

    def send(self, node: str, boot: bytes, parts: tuple[bytes, ...], epoch: int = 0) -> Sent:
        if not self._connection:
            return Sent.GONE
        if self._waiting > MAX_WAITING_BYTES:
            return Sent.FULL
        payload: bytes = msgpack.packb((self._node, self._boot, *parts))
        if len(payload) > self.max_bytes + ROOM_BYTES:
            return Sent.GONE
        # If nobody has subscribed, NATS says so on the subject for an answer. Nobody else answers there.
        answer = f"{self._inbox}.{_NOBODY}.{node}.{boot.hex()}.{epoch}" if epoch else ""
        self._waiting += len(payload)
        command = pub_cmd(self._subject_of(node, boot), answer, payload)
        self._outbound.append((self._connection, command, len(payload)))
        return Sent.YES

    def _connected(self, connection: int, max_bytes: int, inbox: str) -> None:
        self._connection, self.max_bytes, self._inbox = connection, max_bytes, inbox

    def _disconnected(self, connection: int, now: float) -> None:
        if self._connection == connection:
            self._connection = 0
        if self.taker is not None:
            self.taker.interrupted(now)

    def _arrive(self, to: bytes, message: list[Any], now: float) -> None:
        if self.taker is not None and to == self._boot:
            node, boot, *parts = message
            self.taker.from_node(node, boot, tuple(parts), now)

    def _report_nobody(self, node: str, boot: bytes, epoch: int, now: float) -> None:
        if self.taker is not None:
            self.taker.nobody(node, boot, epoch, now)

    def _report_loss(self, now: float) -> None:
        self._lost = False
        if self.taker is not None:
            self.taker.interrupted(now)

    # -- the link

    async def subscribe(self, client: Client) -> None:
        """Take messages to the present boot of this node, and none to an earlier one."""
        boot, before = self._boot, self._listening
        if boot == self._listening_as:
            return
        self._listening_as = boot
        subject = self._subject_of(self._node, boot)
        self._listening = await client.listen(subject, partial(self._receive, boot))
        if before is not None:
            await before.unsubscribe()

    async def listen_for_nobody(self, client: Client, inbox: str) -> None:
        """Take from now on what NATS says about messages that nobody was there to take.

        Args:
            inbox: what the subjects of answers begin with.
        """
        await client.listen(f"{inbox}.{_NOBODY}.*.*.*", self._take_nobody)

    def connected(self, connection: int, max_payload: int, inbox: str) -> None:
        """Tell the loop that messages can be sent."""
        max_bytes = max_payload - ROOM_BYTES
        self._inlet.put(lambda _now: self._connected(connection, max_bytes, inbox))

    def disconnected(self, connection: int) -> None:
        """Tell the loop that the connection is lost."""
        self._listening, self._listening_as = None, b""
        self._inlet.put(lambda now: self._disconnected(connection, now))

    def pass_on(self, client: Client | None, connection: int) -> bool:
        """Send what waits, as far as there is room. What belongs to another connection is dropped.

        Returns:
            Whether that was all.
        """
        outbound = self._outbound
        while outbound:
            if client is not None and not client.has_room:
                return False
            commands, size = [], 0
            while outbound and size < AT_ONCE_BYTES:
                of, command, payload_bytes = outbound.popleft()
                size += payload_bytes
                if client is None or of != connection:
                    continue
                if payload_bytes > client.max_payload:
                    self.lose()  # this server takes less than the one that the loop knows of
                else:
                    commands.append(command)
            self._waiting -= size
            if client is not None and commands:
                client.put(commands)
        return True

    def _receive(self, to: bytes, _subject: bytes, data: bytes) -> None:
        found = _decode(data)
        if found is not None:
            self._inlet.put(lambda now: self._arrive(to, found, now))

    def _take_nobody(self, subject: bytes, _data: bytes) -> None:
        node, boot, epoch = subject.decode(errors="replace").split(".")[-3:]
        with suppress(ValueError):  # NATS gives back what was sent, but an administrator may publish here
            self._inlet.put(partial(self._report_nobody, node, bytes.fromhex(boot), int(epoch)))

    def lose(self) -> None:
        """Tell the loop that messages may have been lost, if it does not know yet."""
        if not self._lost:
            self._lost = True
            self._inlet.put(self._report_loss)


def _decode(data: bytes) -> list[Any] | None:
    """Return the name of a node, its boot and parts; None if that is not what a node sends."""
    try:
        message = msgpack.unpackb(data, max_map_len=0)
    except Exception:  # msgpack raises five kinds; each means the same here
        return None
    if type(message) is not list or len(message) < 2 or type(message[0]) is not str:
        return None
    return message if {bytes}.issuperset(map(type, message[1:])) else None
