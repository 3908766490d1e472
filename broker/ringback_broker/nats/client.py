"""One connection to one NATS server, by nats-py.

nats-py can reconnect by itself. Here each connection is a client of its own instead: what waits in the
buffer of a lost connection must never be sent on the next one, and a server that is stopped must not hold
the reconnect up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nats import errors
from nats.aio.client import Client as NatsClient
from nats.aio.subscription import Subscription

from ringback_broker.nats.login import Login
from ringback_broker.nats.problems import MIN_VERSION, NotEncrypted, problem_of, too_old, version_of

CONNECT_S = 2.0
"""How long a server may take for each step of a connection."""

PING_S = 1.0
"""How often a server is asked for a sign of life. After three without an answer the connection is lost."""

BUFFER_BYTES = 1024 * 1024
"""How much waits for the socket. Then whoever sends waits."""

CLOSE_S = 1.0

Take = Callable[[bytes, bytes], None]
"""Takes the subject and the payload of a message."""


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

    @property
    def server(self) -> dict[str, Any]:
        """What the server says about itself: version, max_payload and so on."""
        return self._server_info

    @property
    def encrypted(self) -> bool:
        """Whether the connection has TLS."""
        writer = getattr(self._transport, "_io_writer", None)
        return writer is not None and writer.get_extra_info("ssl_object") is not None

    def abort(self) -> None:
        """Close the connection at once. Nothing more is sent.

        nats-py waits for the socket first. That takes for ever if the server is stopped.
        """
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

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
    version = str(client.server.get("version", ""))
    if version_of(version) < MIN_VERSION:
        await client.end()
        raise too_old(address, version)
    return client
