"""The dashboard: its page, and the paths that the page and scripts use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ringback.errors import CallbackError, LinkError
from ringback.protocol.control import Subject
from ringback.protocol.player_ids import is_same_id
from ringback.protocol.reports import duration_ms
from ringback_broker.http.dashboard_calls import DashboardCalls
from ringback_broker.http.dashboard_failures import counted_as, counted_callbacks
from ringback_broker.http.dashboard_faults import RETRY_S, Faults, pause
from ringback_broker.http.dashboard_history import EVERY_S, History
from ringback_broker.http.dashboard_operator import DashboardOperator, State
from ringback_broker.http.dashboard_requests import (
    CallbackRequest,
    DrainRequest,
    KickRequest,
    PageRequest,
    TapRequest,
    TriggerAllRequest,
    TriggerRequest,
    check_names,
    read_player_id,
)
from ringback_broker.http.dashboard_rows import Lists
from ringback_broker.http.dashboard_tap import Tap
from ringback_broker.http.dashboard_totals import Row
from ringback_broker.http.dashboard_web import HEADERS, Handler, answering, asked_by, read_object, respond

SHOWN_EVENTS = 100
"""The latest events in a response about all peers."""

PLAYER_EVENTS = 20
"""The latest events in a response about one player."""

SHOWN_FAILURES = 20
"""The latest failed calls in a response about one player or one callback."""

FOLDER = Path(__file__).parent / "static"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FILES = {
    "/" if path.name == "index.html" else f"/{path.relative_to(FOLDER).as_posix()}": (
        path,
        KINDS[path.suffix],
    )
    for path in sorted(FOLDER.rglob("*"))
    if path.suffix in KINDS
}
"""The files of the page, and what they are, by path."""

W = TypeVar("W")


class Dashboard:
    """Serves the page, and answers its requests.

    Args:
        operator: asks the broker.
        version: of ringback.
    """

    def __init__(self, operator: DashboardOperator, version: str) -> None:
        self._operator = operator
        self._version = version
        self._lists = Lists(operator.looking)
        self._history = History()
        self._tap = Tap(operator)
        self._calls = DashboardCalls(operator)

    def routes(self, behind_token: Callable[[Handler], Handler]) -> list[Route]:
        """Return all routes. The page itself holds no secret; its requests need the token."""
        calls = self._calls
        asked = {
            "state": self._state,
            "players": self._players,
            "callbacks": self._callbacks,
            "player": self._player,
            "callback": self._callback,
            "schema": self._schema,
            "history": self._past,
        }
        sent = {
            "tap": self._watched,
            "trigger": self._acting(TriggerRequest.read, calls.trigger),
            "trigger_all": self._acting(TriggerAllRequest.read, calls.trigger_all),
            "kick": self._acting(KickRequest.read, calls.kick),
            "drain": self._acting(DrainRequest.read, calls.drain),
        }
        return [
            *(Route(path, _page(*file)) for path, file in FILES.items()),
            *(
                Route(f"/api/{name}", behind_token(answering(do)), methods=["GET"])
                for name, do in asked.items()
            ),
            *(
                Route(f"/api/{name}", behind_token(answering(do)), methods=["POST"])
                for name, do in sent.items()
            ),
        ]

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Keep the history while the HTTP server runs, and leave the broker when it stops."""
        closing = asyncio.Event()
        keeping = asyncio.create_task(self._keep_history(closing))
        yield
        closing.set()
        keeping.cancel()
        await self._tap.close()
        await self._operator.close()

    async def _keep_history(self, closing: asyncio.Event) -> None:
        """Add a point every five seconds. While that fails, try less and less often."""
        pause_s, faults = EVERY_S, Faults("keeping the history")
        while not closing.is_set():
            try:
                self._history.take(await self._operator.state(), time.monotonic())
                pause_s = EVERY_S
            except (LinkError, CallbackError):
                self._history.skip(time.monotonic())
                pause_s = min(2 * pause_s, RETRY_S)
            except Exception as error:
                faults.log(error)
                pause_s = min(2 * pause_s, RETRY_S)
            await pause(closing, pause_s)

    async def _state(self, request: Request) -> Response:
        check_names(request.query_params, ())
        state, snapshot = await self._operator.state(), self._operator.look()
        sessions, standbys = dict(snapshot.sessions), snapshot.standbys
        if snapshot.realm is not None:
            sessions["player"] = sum(row["players"] for row in state.nodes)
            sessions["server"] = sum(row["acting"] for row in state.nodes)
            standbys = sum(row["standbys"] for row in state.nodes)
        return respond(
            {
                "number": state.number,
                "version": self._version,
                "draining": snapshot.draining,
                "sessions": sessions,
                "standbys": standbys,
                "nodes": state.nodes if snapshot.realm is not None else [],
                "missing": state.missing,
                "counters": state.counters,
                "rates": state.rates,
                "failed": state.failed,
                "failed_rates": state.failed_rates,
                "calls_a_second": state.calls_a_second,
                "events": state.events[-SHOWN_EVENTS:],
            }
        )

    async def _players(self, request: Request) -> Response:
        wanted = PageRequest.read(Subject.PLAYERS, request.query_params)
        found = await self._operator.players()
        page = await self._lists.page(Subject.PLAYERS, found.rows, found.number, wanted)
        return respond({"number": found.number, "missing": found.missing, **page})

    async def _callbacks(self, request: Request) -> Response:
        wanted = PageRequest.read(Subject.CALLBACKS, request.query_params)
        state = await self._operator.state()
        page = await self._lists.page(Subject.CALLBACKS, state.callbacks, state.number, wanted)
        return respond({"number": state.number, "missing": state.missing, **page})

    async def _player(self, request: Request) -> Response:
        player_id = read_player_id(request.query_params)
        found, state = await self._operator.player(player_id), await self._operator.state()
        events = [event for event in state.events if is_same_id(event["player"], player_id)]
        return respond(
            {
                "number": found.number,
                "missing": found.missing,
                "rows": [row for row in found.rows if is_same_id(row["player"], player_id)],
                "events": events[-PLAYER_EVENTS:],
                "failures": _shown_failures(state, lambda row: is_same_id(row["player"], player_id)),
            }
        )

    async def _callback(self, request: Request) -> Response:
        wanted = CallbackRequest.read(request.query_params)
        state = await self._operator.state()
        rows = [row for row in state.callbacks if (row["key"], row["side"]) == (wanted.key, wanted.side)]
        counted = counted_callbacks(state.callbacks)
        failures = _shown_failures(state, lambda row: counted_as(row, counted) == (wanted.key, wanted.side))
        return respond({"number": state.number, "missing": state.missing, "rows": rows, "failures": failures})

    async def _schema(self, request: Request) -> Response:
        wanted = CallbackRequest.read(request.query_params)
        return respond({"schema": await self._operator.schema(wanted.key, wanted.side)})

    async def _past(self, request: Request) -> Response:
        given = request.query_params
        if not given:
            return respond(self._history.fields(time.monotonic()))
        wanted = CallbackRequest.read(given)
        return respond(self._history.fields(time.monotonic(), (wanted.key, wanted.side)))

    async def _watched(self, request: Request) -> Response:
        wanted = TapRequest.read(await read_object(request))
        return respond(await self._tap.read(wanted, asked_by(request)))

    def _acting(
        self, read: Callable[[dict[str, Any]], W], act: Callable[[W, str], Awaitable[dict[str, Any]]]
    ) -> Handler:
        """Return a handler that does what the body of a request asks for."""

        async def handle(request: Request) -> Response:
            with self._calls.room():
                return respond(await act(read(await read_object(request)), asked_by(request)))

        return handle


def _shown_failures(state: State, is_wanted: Callable[[Row], bool]) -> list[Row] | None:
    """Return the latest failed calls of a kind, the latest first; None: the dashboard may not see them."""
    if state.failures is None:
        return None
    latest = islice(filter(is_wanted, state.failures), SHOWN_FAILURES)
    return [{**row, "ms": duration_ms(row.pop("took_s"))} for row in map(dict, latest)]


def _page(path: Path, kind: str) -> Handler:
    content = path.read_bytes()

    async def page(_request: Request) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return page
