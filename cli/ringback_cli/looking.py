"""`ringback players`, `callbacks`, `events` and `stats`: what a running broker knows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.completing import player_ids
from ringback_cli.connecting import Keys, all_rows, operator
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
    check_timeout,
    parse_player_id,
)
from ringback_cli.output import one_line, print_json, print_line, print_table

if TYPE_CHECKING:
    from ringback import PlayerID

FOLLOW_S = 0.5
"""How often the broker is asked for further events."""

_EVENT_HEADS = ("time (UTC)", "event", "role", "player", "identity", "IP", "code", "reason")

_PLAYER_HEADS = (
    *("player", "connected s", "callbacks", "IP", "identity", "heard s ago", "window used %"),
    *("calls", "errors", "rtt ms"),
)
_CALLBACK_HEADS = (
    *("key", "side", "endpoints", "in flight", "calls", "errors", "a second", "p50 ms", "p99 ms"),
)


def players(
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Print who is connected, in order of joining.

    For each player: how long it has been connected, how many callbacks it has registered, its IP, its
    identity (the name of its key or token), when its last frame came, and how much of its window is used:
    bytes that were sent to it and that it has not confirmed. At 100 % nothing but control frames goes to
    it. Then its calls in both directions that have ended, how many of them failed, and its round-trip time.

    Example: ringback players --json
    """
    rows = _ask("players", timeout, backend, key_file, broker_key)
    _print_rows("players", _PLAYER_HEADS, rows, as_json)


def callbacks(
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Print the callbacks that are registered or called: key, by which side, and by how many endpoints.

    For each: calls in flight, those that have ended, how many of them failed; of the last minute how many a
    second, and the latencies that 50 and 99 of 100 did not exceed. Latencies of the server's callbacks are
    measured at the server, of players' there and back.

    Example: ringback callbacks
    """
    rows = _ask("callbacks", timeout, backend, key_file, broker_key)
    _print_rows("callbacks", _CALLBACK_HEADS, rows, as_json)


def named_rows(subject: str, rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Gives what the broker's rows have, by name. A newer one may have more columns, an older one fewer."""
    from ringback.protocol.control import Subject, named
    from ringback.protocol.reports import OTHERS, OTHERS_NAME

    found = [named(Subject(subject), row) for row in rows]
    for row in found:
        if row.get("key") == OTHERS:
            row["key"] = OTHERS_NAME
    return found


def _print_rows(subject: str, heads: tuple[str, ...], rows: list[list[Any]], as_json: bool) -> None:
    """Prints what a broker knows."""
    from ringback.protocol.control import COLUMNS, Subject

    found = named_rows(subject, rows)
    if as_json:
        print_json(found)
    else:
        columns = COLUMNS[Subject(subject)][: len(heads)]
        print_table(list(heads), [[shown_cell(name, row.get(name)) for name in columns] for row in found])


def events(
    player: Annotated[
        str | None,
        typer.Option(
            "--player", metavar="ID", help="Only what is of this player.", autocompletion=player_ids
        ),
    ] = None,
    string_id: StringIDOption = False,
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=1, max=1000, help="So many at the most.")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Print who joined, left or was refused lately, and why. The broker keeps the latest 1000.

    JSON is a line for each event.

    Example: ringback events --player 7 --follow
    """
    from ringback.protocol.control import Subject, named

    check_timeout(timeout)
    wanted = None if player is None else parse_player_id(player, string_id, "--player")
    patience = Patience(timeout, CONNECT_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        rows = all_rows(endpoint, "events", patience)
        shown = [row for row in rows if is_of(row, wanted)][-last:]
        if as_json:
            for row in shown:
                print_json(named(Subject.EVENTS, row))
        elif follow:
            for row in shown:
                print_line(_event_line(row))
        else:
            print_table(list(_EVENT_HEADS), [_event_cells(row) for row in shown])
        seen = rows[-1][0] if rows else 0
        while follow:
            time.sleep(FOLLOW_S)
            for row in all_rows(endpoint, "events", Patience(timeout, CONNECT_S), after=seen):
                seen = row[0]
                if is_of(row, wanted) and as_json:
                    print_json(named(Subject.EVENTS, row))
                elif is_of(row, wanted):
                    print_line(_event_line(row))


def is_of(row: list[Any], player_id: PlayerID | None) -> bool:
    """Tells whether an event is of a player; None: of anybody."""
    return player_id is None or (type(row[4]) is type(player_id) and row[4] == player_id)


def _event_cells(row: list[Any]) -> list[Any]:
    _, at, event, role, player, identity, ip, code, reason, *_ = row
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
    return [when, event, role, cell(player), identity, ip, code, reason]


def _event_line(row: list[Any]) -> str:
    return one_line("  ".join(str(part) for part in _event_cells(row) if part not in (None, "")))


def stats(
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            metavar="SECONDS",
            help="Print again so often, with what was added a second, until Ctrl-C.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="With --interval: so many times.")
    ] = None,
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Print what the broker has counted since it started. docs/operations.md says what each figure means.

    Example: ringback stats --interval 2
    """
    check_timeout(timeout)
    if interval is not None and not 0.1 <= interval <= 86400:
        raise Failure(Exit.USAGE, f"--interval: 0.1 to 86400 seconds, not {interval:g}")
    if count is not None and interval is None:
        raise Failure(Exit.USAGE, "--count: it says how many times --interval prints; give both")
    patience = Patience(timeout, CONNECT_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        before: dict[str, int] = {}
        asked_at, due_at, printed = 0.0, time.monotonic(), 0
        while True:
            now = time.monotonic()
            counted = {row[0]: row[1] for row in all_rows(endpoint, "counters", patience)}
            _print_counters(counted, before, now - asked_at, as_json)
            printed += 1
            if interval is None or printed == count:
                return
            before, asked_at = counted, now
            due_at += interval
            time.sleep(max(0.0, due_at - time.monotonic()))
            patience = Patience(timeout, CONNECT_S)


def _print_counters(counted: dict[str, int], before: dict[str, int], elapsed_s: float, as_json: bool) -> None:
    rates = {
        name: round((value - before[name]) / elapsed_s, 1)
        for name, value in counted.items()
        if name in before
    }
    if as_json:
        print_json({"counters": counted, "a_second": rates} if rates else {"counters": counted})
    elif rates:
        print_table(["counter", "total", "a second"], [[k, v, rates[k]] for k, v in counted.items() if v])
    else:
        print_table(["counter", "total"], [[name, value] for name, value in counted.items()])


def shown_cell(column: str, value: Any) -> Any:
    """Gives a value for a table, as its column has it: milliseconds to three places."""
    return f"{value:.3f}" if column.endswith("_ms") and value is not None else cell(value)


def _ask(
    subject: str, timeout: float | None, backend: str, key_file: str | None, broker_key: str | None
) -> list[list[Any]]:
    check_timeout(timeout)
    patience = Patience(timeout, CONNECT_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        return all_rows(endpoint, subject, patience)


def cell(value: Any) -> Any:
    """Gives a value for a table: text IDs in quotes where they look like ints."""
    if isinstance(value, str) and value.isdecimal():
        return f'"{value}"'
    return f"{value:.1f}" if isinstance(value, float) else value
