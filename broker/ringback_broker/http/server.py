"""The broker's HTTP server, in a thread of its own: metrics, health, and the dashboard if it is on."""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ringback.log_folding import FoldingFilter
from ringback.protocol.addresses import is_local
from ringback_broker.http.metrics import registry
from ringback_broker.net.router_socket import BindError
from ringback_broker.operations.snapshot import Snapshot
from ringback_broker.settings.kinds import split_host_port
from ringback_broker.settings.schema import InvalidSetting

if TYPE_CHECKING:
    from ringback_broker.http.dashboard import Dashboard

STALE_S = 5.0
"""A loop that has taken no snapshot for this long is blocked."""

MAX_AT_ONCE = 64
"""Requests at one time, those for health not counted. More get status 503."""

HEALTH = "/healthz", "/readyz"
"""These are always answered: a probe without an answer has the broker restarted."""

MIN_TOKEN_CHARS = 16
MAX_TOKEN_BYTES = 4096
REQUEST_S = 10.0
"""A connection is closed after this time unless a response is under way: a request may never come whole."""

STOP_S = 2.0
"""How long requests may take when the broker stops."""

_log = logging.getLogger("uvicorn.error")
_folding = FoldingFilter(_log)
"""Folds equal lines: anybody who reaches the port may cause one with each request."""

_LOCAL_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

Handler = Callable[[Request], Awaitable[Response]]


def read_token(path: str) -> str:
    """Return the token that requests must carry.

    Raises:
        InvalidSetting: the file cannot be read, or has no token that is allowed.
    """
    try:
        with Path(path).open("rb") as file:
            token = file.read(MAX_TOKEN_BYTES).decode("ascii").strip()
    except OSError as error:
        raise InvalidSetting("http_token_file", f"{path}: {error.strerror}") from None
    except ValueError:
        raise InvalidSetting("http_token_file", f"{path}: it is not ASCII") from None
    if len(token) < MIN_TOKEN_CHARS:
        reason = f"{path}: a token must have at least {MIN_TOKEN_CHARS} characters, not {len(token)}"
        raise InvalidSetting("http_token_file", reason)
    return token


class _Protocol(H11Protocol):
    """uvicorn's protocol, which also closes connections on which no whole request comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(REQUEST_S, self._expire)

    def _expire(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.loop.call_later(REQUEST_S, self._expire)


class _AtOnce:
    """The app, with the bound on requests at one time. uvicorn's own counts connections that ask nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._answering = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH:
            await self._app(scope, receive, send)
        elif self._answering >= MAX_AT_ONCE:
            text = f"{MAX_AT_ONCE} requests at one time are allowed: try again later\n"
            await PlainTextResponse(text, 503)(scope, receive, send)
        else:
            self._answering += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._answering -= 1


def _uvicorn(app: Starlette) -> uvicorn.Server:
    # uvicorn's lines about starting and stopping say nothing that ours do not.
    _log.setLevel(logging.WARNING)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_Protocol,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_keep_alive=5,
            timeout_graceful_shutdown=int(STOP_S),
        )
    )


def _listener(host: str, port: int) -> socket.socket:
    """Listen on the first IP of a host where that is possible: a name may have one that this machine lacks.

    Raises:
        OSError: the host has no IP, or the last one of them cannot be listened on.
    """
    *others, last = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, _, _, _, where in others:
        with suppress(OSError):
            return socket.create_server(where[:2], family=family, reuse_port=False)
    return socket.create_server(last[4][:2], family=last[0], reuse_port=False)


class HTTPServer:
    """Listens once it is made, and answers from `start` to `close`.

    Args:
        address: HOST:PORT.
        token: the bearer token that all requests but those for health must carry; None: they need none.
        look: returns the latest snapshot.
        version: of ringback.
        dashboard: None: there is no dashboard.

    Attributes:
        url: where it listens, with the real port.

    Raises:
        BindError: the server cannot listen on the address.
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
            self._socket = _listener(host, port)
        except OSError as error:
            raise BindError(f"cannot listen on {address} for HTTP: {error.strerror}") from None
        real_port = self._socket.getsockname()[1]
        self.url = f"http://[{host}]:{real_port}" if ":" in host else f"http://{host}:{real_port}"
        routes = [
            *(Route(path, do) for path, do in zip(HEALTH, (self._health, self._ready), strict=True)),
            Route("/metrics", self._behind_token(self._metrics)),
        ]
        if dashboard is not None:
            routes += dashboard.routes(self._behind_token)
        # Without a token, pages of other sites must not read this under a host name of their own (DNS
        # rebinding).
        hosts = _LOCAL_HOSTS if token is None and is_local(f"tcp://{address}") else ["*"]
        app = Starlette(
            routes=routes,
            middleware=[Middleware(_AtOnce), Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
            lifespan=None if dashboard is None else dashboard.lifespan,
        )
        self._server = _uvicorn(app)
        self._thread = threading.Thread(target=self._run, name="ringback-http", daemon=True)

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def _run(self) -> None:
        self._server.run([self._socket])

    def close(self) -> None:
        """Stop answering. Closing twice does no harm."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(2 * STOP_S)
        self._socket.close()
        _folding.finish()

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
        return JSONResponse({"healthy": False, "why": f"the loop has been blocked for {age_s:.1f} s"}, 503)

    async def _ready(self, _request: Request) -> Response:
        if self._age_s() > STALE_S:
            return JSONResponse({"ready": False, "why": "the loop is blocked"}, 503)
        if self._look().draining:
            return JSONResponse({"ready": False, "why": "draining"}, 503)
        if not self._look().in_realm:
            return JSONResponse({"ready": False, "why": "not in its realm"}, 503)
        return JSONResponse({"ready": True})

    def _age_s(self) -> float:
        return time.monotonic() - self._look().at

    async def _metrics(self, request: Request) -> Response:
        try:
            encode, kind = choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError):  # a version that is no number
            encode, kind = choose_encoder("")
        return Response(encode(self._registry), media_type=None, headers={"Content-Type": kind})
