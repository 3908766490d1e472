"""One connection to one NATS server, by nats-py.

nats-py can reconnect by itself. Here each connection is a client of its own instead: what waits in the
buffer of a lost connection must never be sent on the next one, and a server that is stopped must not hold
the reconnect up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nats import errors
from nats.aio.client import Client as NatsClient
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from ringback_broker.nats.login import Login
from ringback_broker.nats.problems import MIN_VERSION, NotEncrypted, problem_of, too_old, version_of

CONNECT_S = 2.0
"""How long a server may take for each step of a connection."""

PING_S = 1.0
"""How often a server is asked for a sign of life. After three without an answer the connection is lost."""

BUFFER_BYTES = 1024 * 1024
"""How much waits for the socket. Then whoever sends waits."""

RECEIVE_BYTES = 256 * 1024
"""How much is read of the socket at a time."""

CLOSE_S = 1.0

Take = Callable[[bytes, bytes], None]
"""Takes the subject and the payload of a message."""


_MESSAGE = re.compile(rb"MSG (\S+) (\d+) (\d+)\r\n")
"""The head of a message without headers, to which nobody replies: subject, subscription, bytes."""


class _Receiving(asyncio.BufferedProtocol):
    """Takes messages from the socket as they come, and leaves everything else to nats-py.

    nats-py reads in a task. That needs more rounds of the event loop, and is slower. And a protocol without a
    buffer of its own is given a new one of 256 KiB for each read: that takes longer than all the rest.

    Args:
        other: the protocol of nats-py's stream.
        read: reads from that stream.
        takers: by the number of the subscription.
    """

    def __init__(self, other: Any, read: Any, parser: Parser, takers: dict[int, Take]) -> None:
        self._other = other
        self._read = read
        self._parser = parser
        self._takers = takers
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        # Whether nats-py has taken all that was left to it, and waits for more.
        self._waits = False

    async def read(self, size: int) -> bytes:
        """Read what was left to nats-py."""
        self._waits = True  # unless there is something, and then this does not wait
        try:
            data: bytes = await self._read(size)
            return data
        finally:
            self._waits = False

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        data, at = bytes(self._buffer[:size]), 0
        parser = self._parser
        if self._waits and not parser.buf and parser.state == AWAITING_CONTROL_LINE:
            while head := _MESSAGE.match(data, at):
                begin, take = head.end(), self._takers.get(int(head[2]))
                end = begin + int(head[3])
                if take is None or len(data) < end + 2:
                    break
                take(head[1], data[begin:end])
                at = end + 2
        if at < len(data):
            self._waits = False
            self._other.data_received(data[at:])

    def connection_lost(self, error: Exception | None) -> None:
        self._other.connection_lost(error)

    def eof_received(self) -> bool | None:
        keep_open: bool | None = self._other.eof_received()
        return keep_open

    def pause_writing(self) -> None:
        self._other.pause_writing()

    def resume_writing(self) -> None:
        self._other.resume_writing()


class Client(NatsClient):
    """nats-py's client, which insists on TLS if it shall, and can be thrown away at once.

    Args:
        must_encrypt: whether to refuse a server without TLS, before anything secret is sent.
    """

    def __init__(self, must_encrypt: bool) -> None:
        super().__init__()
        self._must_encrypt = must_encrypt
        self._takers: dict[int, Take] = {}

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._must_encrypt and not info.get("tls_required"):
            raise NotEncrypted
        await super()._process_info(info, initial_connection)

    async def listen(self, subject: str, take: Take) -> Subscription:
        """Subscribe, and have each message taken at once.

        nats-py hands a message to a task of its subscription. Without that, a message costs a third less,
        and there is no queue that could be full.

        Args:
            take: gets the subject and the payload. It must not raise an exception.
        """
        subscription = await self.subscribe(subject)
        self._takers[subscription._id] = take
        return subscription

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        take = self._takers.get(sid)
        if take is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        elif sid in self._subs:
            take(subject, data)

    def receive(self) -> None:
        """Take messages from the socket as they come, from now on."""
        stream, transport = self._stream, self._connected
        assert stream is not None
        receiving = _Receiving(stream.get_protocol(), transport.read, self._ps, self._takers)
        transport.read = receiving.read
        stream.set_protocol(receiving)

    @property
    def server(self) -> dict[str, Any]:
        """What the server says about itself: version, max_payload and so on."""
        return self._server_info

    @property
    def encrypted(self) -> bool:
        """Whether the connection has TLS."""
        return self._stream is not None and self._stream.get_extra_info("ssl_object") is not None

    @property
    def _connected(self) -> Any:
        return self._transport

    @property
    def _stream(self) -> asyncio.WriteTransport | None:
        writer = getattr(self._transport, "_io_writer", None)
        return None if writer is None else writer.transport

    @property
    def has_room(self) -> bool:
        """Whether the socket takes what is sent, or its buffer does."""
        stream = self._stream
        return stream is not None and stream.get_write_buffer_size() < BUFFER_BYTES

    def put(self, commands: list[bytes]) -> None:
        """Send whole commands at once.

        nats-py puts what is published into a buffer, and wakes a task that sends it. This is for what must
        not wait for that.
        """
        self._connected.writelines(commands)

    async def confirm(self, within_s: float) -> None:
        """Wait until the server has taken all that was published.

        nats-py may send the PING of a flush before what still waits to be sent. The second one comes after.

        Raises:
            nats.errors.Error: it did not within this time, or the connection is lost.
        """
        for _ in range(2):
            await self.flush(within_s)  # type: ignore[arg-type]  # a float does too

    async def wait_for_room(self) -> None:
        """Wait until there is room. Return too when the connection is lost."""
        with suppress(OSError):
            await self._connected.drain()

    def abort(self) -> None:
        """Close the connection at once. Nothing more is sent.

        nats-py waits for the socket first. That takes for ever if the server is stopped.
        """
        if self._stream is not None:
            self._stream.abort()

    async def end(self) -> None:
        """Close the connection, in good order if the server allows it."""
        if not self.is_connected:
            self.abort()
        try:
            await asyncio.wait_for(self.close(), CLOSE_S)
        except (TimeoutError, OSError, errors.Error):
            pass
        finally:
            self.abort()
            for subscription in tuple(self._subs.values()):  # nats-py leaves them if the socket failed
                subscription._stop_processing()
            self._subs.clear()


async def connect(
    login: Login, address: str, name: str, inbox: str, on_error: Callable[[Exception], None]
) -> Client:
    """Connect to one server.

    Args:
        name: of this process, for those who look into NATS.
        inbox: what the subjects of answers begin with.
        on_error: takes what goes wrong later.

    Raises:
        Problem: it cannot be reached, refuses, or is too old.
    """
    client = Client(login.must_encrypt)
    connected = False

    async def note(error: Exception) -> None:
        nonlocal connected
        connected = connected or client.is_connected  # a connection may be lost before `connect` returns
        if not connected:
            raise error  # nats-py would try the same server again
        on_error(error)

    try:
        await asyncio.wait_for(
            client.connect(
                [address],
                error_cb=note,
                name=name,
                allow_reconnect=False,
                connect_timeout=CONNECT_S,  # type: ignore[arg-type]
                ping_interval=PING_S,  # type: ignore[arg-type]
                max_outstanding_pings=2,
                no_echo=True,
                tls=login.tls,
                inbox_prefix=inbox,
                pending_size=BUFFER_BYTES,
                **login.options,
            ),
            4 * CONNECT_S,
        )
    except asyncio.CancelledError:
        client.abort()
        raise
    except Exception as error:
        client.abort()
        raise problem_of(error, address, login) from None
    connected = True
    client.receive()
    version = str(client.server.get("version", ""))
    if version_of(version) < MIN_VERSION:
        await client.end()
        raise too_old(address, version)
    return client
