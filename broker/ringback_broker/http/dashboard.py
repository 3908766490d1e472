"""The dashboard: its page, and the page's requests: GET /api/state, GET /api/schema and POST /api/trigger."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ringback.errors import CallbackError, LinkError, Refused
from ringback.protocol.json_values import jsonable, parse_json
from ringback.protocol.names import check_key
from ringback.protocol.player_ids import PlayerID, check_player_id
from ringback.protocol.significant import rounded
from ringback_broker.http.dashboard_operator import DashboardOperator, Row

log = logging.getLogger("ringback.broker")

MAX_ROWS = 500
"""Rows of players, and rows of callbacks, in one response. Filters find the others."""

MAX_BODY_BYTES = 2 * 1024 * 1024
"""A payload has at most 1 MiB. Its JSON may be longer, with escapes and spaces."""

BODY_S = 10.0
"""How long the body of a request may take to arrive."""

MAX_TRIGGERS = 8
"""Calls at one time."""

TIMEOUT_S = 15.0
MAX_TIMEOUT_S = 60.0

FILES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
FOLDER = Path(__file__).parent / "static"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[Request], Awaitable[Response]]


class BadRequest(Exception):
    """A request that is refused.

    Args:
        status: the HTTP status.
        message: what is wrong, and what is allowed.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Dashboard:
    """Serves the page, and answers its requests.

    Args:
        operator: asks the broker.
        version: of ringback.
    """

    def __init__(self, operator: DashboardOperator, version: str) -> None:
        self._operator = operator
        self._version = version
        self._triggers = 0

    def routes(self, behind_token: Callable[[Handler], Handler]) -> list[Route]:
        """Return all routes. The page itself holds no secret; its requests need the token."""
        pages = [Route(path, _page(FOLDER / name, kind)) for path, (name, kind) in FILES.items()]
        return [
            *pages,
            Route("/api/state", behind_token(_answering(self._state)), methods=["GET"]),
            Route("/api/schema", behind_token(_answering(self._schema)), methods=["GET"]),
            Route("/api/trigger", behind_token(_answering(self._trigger)), methods=["POST"]),
        ]

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Leave the broker when the HTTP server stops."""
        yield
        await self._operator.close()

    async def _state(self, request: Request) -> Response:
        try:
            state = await self._operator.state()
        except (LinkError, CallbackError) as error:
            return _json({"error": _error(error)}, 503)
        snapshot = self._operator.look()
        sessions, standbys = dict(snapshot.sessions), snapshot.standbys
        if snapshot.realm is not None:
            sessions["player"] = sum(row["players"] for row in state.nodes)
            sessions["server"] = sum(row["acting"] for row in state.nodes)
            standbys = sum(row["standbys"] for row in state.nodes)
        players = _matching(state.players, "player", request.query_params.get("player", ""))
        callbacks = _matching(state.callbacks, "key", request.query_params.get("callback", ""))
        return _json(
            {
                "number": state.number,
                "version": self._version,
                "draining": snapshot.draining,
                "sessions": sessions,
                "standbys": standbys,
                "nodes": state.nodes if snapshot.realm is not None else [],
                "missing": state.missing,
                "players": _bounded(players, len(state.players)),
                "callbacks": _bounded(callbacks, len(state.callbacks)),
                "counters": state.counters,
                "rates": state.rates,
                "failed": state.failed,
                "failed_rates": state.failed_rates,
                "calls_a_second": state.calls_a_second,
                "events": state.events,
            }
        )

    async def _schema(self, request: Request) -> Response:
        key, side = request.query_params.get("key", ""), request.query_params.get("side", "")
        if side not in ("server", "player"):
            raise BadRequest(400, 'side must be "server" or "player"')
        try:
            return _json({"schema": await self._operator.schema(key, side)})
        except (LinkError, CallbackError) as error:
            return _json({"error": _error(error)}, 503)

    async def _trigger(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a form on another site cannot send this unless we allow it
            raise BadRequest(415, "the body must be JSON, with Content-Type: application/json")
        if self._triggers >= MAX_TRIGGERS:
            raise BadRequest(429, f"{MAX_TRIGGERS} calls at one time are allowed: try again later")
        self._triggers += 1
        try:
            call = TriggerRequest.read(await _body(request))
            begun_at = time.monotonic()
            outcome = await self._outcome(call)
            took_ms = rounded(1000 * (time.monotonic() - begun_at))
        finally:
            self._triggers -= 1
        # ascii() escapes: a handler chooses its code, and a terminal obeys some characters.
        code = ascii(outcome["error"]["code"])[1:-1] if "error" in outcome else "results"
        by = "somebody" if request.client is None else request.client.host
        log.info(
            "the dashboard triggered %s %r (%r) for %s: %s", call.side, call.key, call.player_id, by, code
        )
        return _json({**outcome, "took_ms": took_ms})

    async def _outcome(self, wanted: TriggerRequest) -> dict[str, Any]:
        try:
            operator = await self._operator.operator()
            trigger = (
                operator.trigger_client_callback if wanted.side == "player" else operator.trigger_callback
            )
            call = trigger(wanted.key, wanted.player_id, wanted.payload, timeout=wanted.timeout_s)
            await call
        except (LinkError, CallbackError) as error:
            return {"error": _error(error)}
        return {"results": list(call.results)}


@dataclass(frozen=True, slots=True)
class TriggerRequest:
    """The call that a request asks for.

    Attributes:
        side: "server" or "player": whose callback it is.
        player_id: the player, or the source that the server's handler is given.
    """

    side: str
    key: str
    player_id: PlayerID
    payload: Any
    timeout_s: float

    @classmethod
    def read(cls, body: bytes) -> TriggerRequest:
        """Read it from the body of a request.

        Raises:
            BadRequest: the body is wrong.
        """
        try:
            fields = parse_json(body.decode())
        except UnicodeDecodeError as error:
            raise BadRequest(400, f"the body is not UTF-8: byte {error.start + 1}") from None
        except json.JSONDecodeError as error:
            reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
            raise BadRequest(400, f"the body is not JSON: {reason}") from None
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise BadRequest(400, f"the body cannot be sent as a payload: {reason}") from None
        if type(fields) is not dict or fields.get("side") not in ("server", "player"):
            raise BadRequest(400, 'the body must be an object whose side is "server" or "player"')
        whom = "player_id" if fields["side"] == "player" else "source"
        allowed = ("side", "key", whom, "payload", "timeout")
        if unknown := sorted(set(fields) - set(allowed)):
            raise BadRequest(400, f"{unknown[0]!r:.80} is unknown; allowed are {', '.join(allowed)}")
        try:
            key, player_id = check_key(fields.get("key")), check_player_id(fields.get(whom))
        except (TypeError, ValueError) as error:
            raise BadRequest(400, str(error)) from None
        timeout = fields.get("timeout", TIMEOUT_S)
        if type(timeout) not in (int, float) or not 0 < timeout <= MAX_TIMEOUT_S:
            raise BadRequest(
                400, f"timeout must be above 0 and at most {MAX_TIMEOUT_S:g} seconds, not {timeout!r:.80}"
            )
        return cls(fields["side"], key, player_id, fields.get("payload"), timeout)


def _page(path: Path, kind: str) -> Handler:
    content = path.read_bytes()

    async def page(_request: Request) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return page


def _answering(handler: Handler) -> Handler:
    """Return a handler that refuses pages of other sites, and replies to a BadRequest with its status."""

    async def answer(request: Request) -> Response:
        try:
            _check_site(request)
            return await handler(request)
        except BadRequest as error:
            return _json({"error": {"code": "BAD_REQUEST", "message": str(error)}}, error.status)

    return answer


def _check_site(request: Request) -> None:
    """Refuse what a page of another site makes a browser send. Programs send neither of these headers."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if (origin is not None and urlsplit(origin).netloc != host) or site not in ("same-origin", "none"):
        raise BadRequest(403, "a page of another site sent this: only the dashboard's own page may")


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise BadRequest(413, f"a body may have at most {MAX_BODY_BYTES} bytes")
    except (TimeoutError, ClientDisconnect):
        raise BadRequest(408, f"the body did not arrive within {BODY_S:g} s") from None
    return body


def _matching(rows: list[Row], column: str, text: str) -> list[Row]:
    """Return the rows that contain a text in a column."""
    wanted = text.casefold()
    return [row for row in rows if wanted in str(row[column]).casefold()] if wanted else rows


def _bounded(rows: list[Row], total: int) -> dict[str, Any]:
    return {"total": total, "matching": len(rows), "rows": rows[:MAX_ROWS]}


def _error(error: LinkError | CallbackError) -> dict[str, Any]:
    if isinstance(error, CallbackError):
        return {
            "code": error.code_name,
            "message": error.message,
            "executed": error.executed,
            "data": error.data,
        }
    code = error.code.name if isinstance(error, Refused) else "NO_BROKER"
    message = error.message if isinstance(error, Refused) else str(error)
    return {"code": code, "message": message, "executed": "no", "data": None}


def _json(value: dict[str, Any], status: int = 200) -> Response:
    """Return a response in JSON, with escapes: a str of a peer may have a lone surrogate."""
    text = json.dumps(jsonable(value), allow_nan=False, separators=(",", ":"))
    return Response(text, status, HEADERS, "application/json")
