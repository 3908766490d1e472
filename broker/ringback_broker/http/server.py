"""The broker's HTTP side: metrics, health, and the dashboard where it is wanted. In a thread of its own."""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from ringback.protocol.addresses import is_local
from ringback_broker.http.metrics import registry
from ringback_broker.net.router_socket import BindError
from ringback_broker.operations.snapshot import Snapshot
from ringback_broker.settings.schema import InvalidSetting, split_host_port

if TYPE_CHECKING:
    from ringback_broker.http.dashboard import Dashboard

STALE_S = 5.0
"""A loop that has not gone round for so long hangs."""

MAX_AT_ONCE = 64
"""Requests; more are answered 503."""

MIN_TOKEN_CHARS = 16
MAX_TOKEN_BYTES = 4096
REQUEST_S = 10.0
"""A connection is closed after so long, unless it is being answered: half of a request may never end."""

STOP_S = 2.0
"""How long requests may take to end when the broker ends."""

_LOCAL_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

Handler = Callable[[Request], Awaitable[Response]]


def read_token(path: str) -> str:
    """Gives the token that a request must have.

    Raises:
        InvalidSetting: the file can't be read, or has no good token.
    """
    try:
        with Path(path).open("rb") as file:
            token = file.read(MAX_TOKEN_BYTES).decode("ascii").strip()
    except OSError as error:
        raise InvalidSetting("http_token_file", f"{path}: {error.strerror}") from None
    except ValueError:
        raise InvalidSetting("http_token_file", f"{path}: it is not ASCII") from None
    if len(token) < MIN_TOKEN_CHARS:
        reason = f"{path}: a token has at least {MIN_TOKEN_CHARS} characters, not {len(token)}"
        raise InvalidSetting("http_token_file", reason)
    return token


class _Protocol(H11Protocol):
    """What uvicorn has, with an end for connections that never ask for anything whole."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(REQUEST_S, self._expire)

    def _expire(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.loop.call_later(REQUEST_S, self._expire)


class Web:
    """Listens when made; answers from `start` to `close`.

    Args:
        address: HOST:PORT.
        token: what a request for anything but health must have as its bearer; None: nothing.
        look: gives the latest snapshot.
        version: of ringback.
        dashboard: what is served too, if it is.

    Attributes:
        url: where it really listens.

    Raises:
        BindError: the address can't be listened at.
    """

    def __init__(
        self,
        address: str,
        token: str | None,
        look: Callable[[], Snapshot],
        version: str,
        dashboard: Dashboard | None = None,
    ) -> None:
        self._token = token
        self._look = look
        self._registry = registry(look, version)
        host, port = split_host_port(address)
        try:
            family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._socket = socket.create_server(where[:2], family=family, reuse_port=False)
        except OSError as error:
            raise BindError(f"can't listen at {address} for HTTP: {error.strerror}") from None
        real_port = self._socket.getsockname()[1]
        self.url = f"http://[{host}]:{real_port}" if ":" in host else f"http://{host}:{real_port}"
        routes = [
            Route("/healthz", self._health),
            Route("/readyz", self._ready),
            Route("/metrics", self._behind_token(self._metrics)),
        ]
        if dashboard is not None:
            routes += dashboard.routes(self._behind_token)
        # Without a token, a page that somebody looks at elsewhere must not read this by a name of its own.
        hosts = _LOCAL_HOSTS if token is None and is_local(f"tcp://{address}") else ["*"]
        app = Starlette(
            routes=routes,
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
            lifespan=None if dashboard is None else dashboard.lifespan,
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                limit_concurrency=MAX_AT_ONCE,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=int(STOP_S),
            )
        )
        # Its lines of starting and stopping say nothing that ours do not.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self._thread = threading.Thread(target=self._run, name="ringback-http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        self._server.run([self._socket])

    def close(self) -> None:
        """Ends it; a second time does nothing."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(2 * STOP_S)
        self._socket.close()

    def _behind_token(self, handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if self._token is not None and not (
                scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), self._token.encode())
            ):
                return PlainTextResponse(
                    "a token is needed: Authorization: Bearer TOKEN\n", 401, {"WWW-Authenticate": "Bearer"}
                )
            return await handler(request)

        return checked

    async def _health(self, _request: Request) -> Response:
        age_s = self._age_s()
        if age_s <= STALE_S:
            return JSONResponse({"healthy": True})
        return JSONResponse({"healthy": False, "why": f"the loop hangs since {age_s:.1f} s"}, 503)

    async def _ready(self, _request: Request) -> Response:
        if self._age_s() > STALE_S:
            return JSONResponse({"ready": False, "why": "the loop hangs"}, 503)
        if self._look().draining:
            return JSONResponse({"ready": False, "why": "draining"}, 503)
        return JSONResponse({"ready": True})

    def _age_s(self) -> float:
        return time.monotonic() - self._look().at

    async def _metrics(self, request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), media_type=None, headers={"Content-Type": kind})
