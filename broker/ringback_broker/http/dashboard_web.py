"""What all paths of the dashboard share: who may ask, bodies in JSON, and responses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ringback.errors import CallbackError, LinkError
from ringback.protocol.json_values import jsonable, parse_json
from ringback_broker.http.dashboard_requests import BadRequest, error_fields

MAX_BODY_BYTES = 2 * 1024 * 1024
"""A payload has at most 1 MiB. Its JSON may be longer, with escapes and spaces."""

BODY_S = 10.0
"""How long the body of a request may take to arrive."""

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


def answering(handler: Handler) -> Handler:
    """Return a handler that refuses pages of other sites, and says in JSON what is wrong.

    A BadRequest gives its own status. If the broker cannot be asked, the status is 503.
    """

    async def answer(request: Request) -> Response:
        try:
            _check_site(request)
            return await handler(request)
        except BadRequest as error:
            return respond({"error": {"code": "BAD_REQUEST", "message": str(error)}}, error.status)
        except (LinkError, CallbackError) as error:
            return respond({"error": error_fields(error)}, 503)

    return answer


def _check_site(request: Request) -> None:
    """Refuse what a page of another site makes a browser send. Programs send neither of these headers."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if (origin is not None and _host_in(origin) != host) or site not in ("same-origin", "none"):
        raise BadRequest(403, "a page of another site sent this: only the dashboard's own page may")


def _host_in(origin: str) -> str | None:
    """Return the host and port in an origin; None if the origin is not valid."""
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as "http://["
        return None


async def read_object(request: Request) -> dict[str, Any]:
    """Return the object in JSON that a request carries.

    Raises:
        BadRequest: the body is wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a form on another site cannot send this unless we allow it
        raise BadRequest(415, "the body must be JSON, with Content-Type: application/json")
    try:
        fields = parse_json((await _body(request)).decode())
    except UnicodeDecodeError as error:
        raise BadRequest(400, f"the body is not UTF-8: byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise BadRequest(400, f"the body is not JSON: {reason}") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(400, f"the body cannot be sent as a payload: {reason}") from None
    if type(fields) is not dict:
        raise BadRequest(400, "the body must be a JSON object, in { }")
    return fields


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


def respond(value: dict[str, Any], status: int = 200) -> Response:
    """Return a response in JSON, with escapes: a str of a peer may have a lone surrogate."""
    text = json.dumps(jsonable(value), allow_nan=False, separators=(",", ":"))
    return Response(text, status, HEADERS, "application/json")


def asked_by(request: Request) -> str:
    """Return who sent a request, for the log."""
    return "somebody" if request.client is None else request.client.host
