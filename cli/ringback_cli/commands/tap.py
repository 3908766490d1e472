"""`ringback tap`: the calls of a running broker, as they end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.completion import any_keys, player_ids
from ringback_cli.connection import Keys, operator, result_of
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import (
    CONNECT_S,
    DEFAULT_BACKEND,
    BackendOption,
    BrokerKeyOption,
    JSONOption,
    KeyFileOption,
    Patience,
    ShortTimeoutOption,
    StringIDOption,
    check_key,
    check_timeout,
    parse_player_id,
)
from ringback_cli.output import one_line, print_json, print_line, to_json

if TYPE_CHECKING:
    from ringback import Call, Operator
    from ringback.protocol.reports import CallFilter

ASK_S = 0.25
"""How often the broker is asked for further calls."""

WATCH_S = 10.0
"""The broker is asked to watch for so long, again and again: it stops by itself soon after this ends."""


def tap(
    player: Annotated[
        str | None,
        typer.Option(
            "--player", metavar="ID", help="Only calls from and to this player.", autocompletion=player_ids
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="GLOB", help="Only of keys like this: *, ? and [...].", autocompletion=any_keys
        ),
    ] = None,
    payloads: Annotated[
        bool, typer.Option("--payloads", help="Show what they carry too, where it is at most 4 KiB.")
    ] = False,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="End after so many calls.")
    ] = None,
    log_s: Annotated[
        float | None,
        typer.Option(
            "--log",
            metavar="SECONDS",
            help="Print nothing: have the broker write them into its log for so long; 0: not any more.",
        ),
    ] = None,
    string_id: StringIDOption = False,
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Print calls as they end: when, between whom, which callback, the outcome, how long it took.

    Until Ctrl-C. Calls are told by the server and operators, those that end from now on. JSON is a line for
    each call.

    Example: ringback tap --player 7 --key 'shop:*' --payloads
    """
    from ringback.protocol.reports import MAX_WATCH_S, CallFilter

    check_timeout(timeout)
    if log_s is not None and not 0 <= log_s <= MAX_WATCH_S:
        raise Failure(Exit.USAGE, f"--log: 0 to {MAX_WATCH_S} seconds, not {log_s:g}")
    if log_s is not None and (payloads or count is not None or as_json):
        raise Failure(
            Exit.USAGE, "--log: it prints nothing, so --payloads, --count and --json are not for it"
        )
    player_id = None if player is None else parse_player_id(player, string_id, "--player")
    watched = CallFilter(player_id, None if key is None else check_key(key), payloads)
    patience = Patience(timeout, CONNECT_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        if log_s is not None:
            result_of(_watch(endpoint, watched, log_s, patience, log=True))
            print_json({"logged_s": log_s})
        else:
            _follow(endpoint, watched, count, timeout, as_json)


def _watch(
    endpoint: Operator, watched: CallFilter, for_s: float, patience: Patience, log: bool = False
) -> Call:
    player_id, key, payloads = watched
    left_s = patience.left_s()
    return endpoint.watch(player_id, key, payloads=payloads, log=log, for_s=for_s, timeout=left_s)


def _follow(
    endpoint: Operator, watched: CallFilter, count: int | None, timeout: float | None, as_json: bool
) -> None:
    seen = _latest(endpoint, Patience(timeout, CONNECT_S))
    printed, watched_until = 0, 0.0
    while True:
        patience = Patience(timeout, CONNECT_S)
        if time.monotonic() >= watched_until - WATCH_S / 2:
            result_of(_watch(endpoint, watched, WATCH_S, patience))
            watched_until = time.monotonic() + WATCH_S
        rows, following = result_of(endpoint.query("calls", after=seen, timeout=patience.left_s()))
        for row in rows:
            seen = row[0]
            if not watched.matches(row[3], row[4]):  # somebody else watches that
                continue
            if as_json:
                print_json(_fields(row, payloads=watched.payloads))
            else:
                print_line(_line(row, payloads=watched.payloads))
            printed += 1
            if printed == count:
                return
        if following is None:
            time.sleep(ASK_S)


def _latest(endpoint: Operator, patience: Patience) -> int:
    """Gives the number of the latest call that the broker knows of."""
    seen: int | None = 0
    latest = 0
    while seen is not None:
        rows, seen = result_of(endpoint.query("calls", after=latest, timeout=patience.left_s()))
        latest = rows[-1][0] if rows else latest
    return latest


def _fields(row: list[Any], *, payloads: bool) -> dict[str, Any]:
    _, at, side, player_id, key, outcome, took_s, payload, reply, *_ = row
    fields: dict[str, Any] = {
        "unix_s": at,
        "side": side,
        "player": player_id,
        "key": key,
        "outcome": outcome,
        "ms": round(1000 * took_s, 3),
    }
    if payloads:
        carried = {"payload": payload, "reply": reply}
        fields |= {name: _decoded(value) for name, value in carried.items() if value is not None}
    return fields


def _decoded(encoded: bytes) -> Any:
    import msgpack

    return msgpack.unpackb(encoded, strict_map_key=False, timestamp=1)


def _line(row: list[Any], *, payloads: bool) -> str:
    from ringback.protocol.reports import way

    _, at, side, player_id, key, outcome, took_s, payload, reply, *_ = row
    when = time.strftime("%H:%M:%S", time.gmtime(at)) + f".{int(1000 * at) % 1000:03}"
    line = f"{when}  {way(side, player_id)}  {key}  {outcome}  {1000 * took_s:.3f} ms"
    if payloads:
        shown = ["..." if value is None else to_json(_decoded(value)) for value in (payload, reply)]
        line = f"{line}  {shown[0]} -> {shown[1]}"
    return one_line(line)
