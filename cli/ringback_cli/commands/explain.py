"""`ringback explain`: why a call of a player or of a callback would work now, or would not."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.completion import explained
from ringback_cli.connection import Keys, operator
from ringback_cli.exits import Exit
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
from ringback_cli.output import one_line, print_json, print_line
from ringback_cli.rows import all_rows, is_of, named_rows

if TYPE_CHECKING:
    from ringback import Operator, PlayerID

LATEST = 5
"""So many of the latest events are shown."""

MUCH_PERCENT = 50
"""A player with so much of its window used reads slowly, or not at all. Less says nothing: it is asked how
far it has read each quarter of its window."""


class Kind(StrEnum):
    PLAYER = "player"
    CALLBACK = "callback"


def explain(
    kind: Annotated[Kind, typer.Argument(metavar="player|callback", show_default=False)],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A player's ID, or a key.", show_default=False, autocompletion=explained
        ),
    ],
    string_id: StringIDOption = False,
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Tell why a call to a player, or of a callback, would work now, or would not.

    It goes by what the broker knows: who is there, what is registered, and what has happened lately. Exit
    code 11 or 10 if the player or the callback is not there, else 0.

    Example: ringback explain player 7
    """
    check_timeout(timeout)
    patience = Patience(timeout, CONNECT_S)
    player_id = parse_player_id(name, string_id, "NAME") if kind is Kind.PLAYER else None
    key = check_key(name) if kind is Kind.CALLBACK else ""
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        if player_id is not None:
            works, lines = _player(endpoint, player_id, patience)
        else:
            works, lines = _callback(endpoint, key, patience)
    if as_json:
        print_json({kind.value: name if player_id is None else player_id, "works": works, "because": lines})
    else:
        for line in lines:
            print_line(one_line(line))
    if not works:
        raise typer.Exit(Exit.UNKNOWN_PLAYER if kind is Kind.PLAYER else Exit.UNKNOWN_CALLBACK)


def _player(endpoint: Operator, player_id: PlayerID, patience: Patience) -> tuple[bool, list[str]]:
    rows = named_rows("players", all_rows(endpoint, "players", patience))
    there = {(type(row["player"]), row["player"]): row for row in rows}
    told = [_event(row) for row in all_rows(endpoint, "events", patience) if is_of(row, player_id)]
    row = there.get((type(player_id), player_id))
    if row is None:
        why = [f"player {player_id!r} is not connected: calls to it fail at once with UNKNOWN_PLAYER"]
        other: PlayerID = str(player_id)
        if isinstance(player_id, str) and player_id.isdecimal():
            other = int(player_id)
        if (type(other), other) in there:
            why.append(f"player {other!r} is connected: an int and a str are two IDs")
        return False, why + (told[-LATEST:] or ["nothing has happened to it that the broker remembers"])
    return True, _state(row) + told[-LATEST:]


def _state(row: dict[str, Any]) -> list[str]:
    """Tells how a player that is connected does."""
    by = f" as {row['identity']!r}" if row["identity"] else ""
    where = row["ip"] or "this machine"
    why = [f"player {row['player']!r} is connected for {row['connected_s']:.0f} s, from {where}{by}"]
    none = "" if row["callbacks"] else ": calls end with UNKNOWN_CALLBACK"
    why.append(f"it has registered {row['callbacks']} callbacks{none}")
    why.append(f"its last frame came {row['heard_s']:.0f} s ago; heartbeats are none")
    used = row["window_percent"]
    if used > MUCH_PERCENT:
        why.append(
            f"its window is used to {used:.0f} %: it is slow or hangs; at 100 % calls come back OVERLOADED"
        )
    if "calls" in row:  # an older broker was told less
        rtt_ms = row["rtt_ms"]
        trip = "" if rtt_ms is None else f"; a packet takes {rtt_ms:.3g} ms there and back"
        why.append(f"{row['calls']} of its calls have ended, {row['errors']} of them with an error{trip}")
    return why


def _callback(endpoint: Operator, key: str, patience: Patience) -> tuple[bool, list[str]]:
    rows = named_rows("callbacks", all_rows(endpoint, "callbacks", patience))
    found = [row for row in rows if row["key"] == key]
    counted = {row[0]: row[1] for row in all_rows(endpoint, "counters", patience)}
    why = []
    registered = [row for row in found if row["endpoints"]]
    for row in registered:
        who = "the server has" if row["side"] == "server" else f"{row['endpoints']} {row['side']}s have"
        why.append(f"{who} registered {key!r}")
    for row in found:
        why += _figures(row)
    if not registered:
        from difflib import get_close_matches

        near = get_close_matches(key, {row["key"] for row in rows if row["endpoints"]}, 1)
        why.append(f"nobody has registered {key!r}: its calls fail with UNKNOWN_CALLBACK, or NO_SERVER")
        why += [f"is it {near[0]!r}?"] if near else []
    if not any(row["side"] == "server" and row["endpoints"] for row in rows):
        why.append("no server with callbacks is connected")
    for name, value in counted.items():
        if name.startswith("bounced_") and value:
            code = name.removeprefix("bounced_").upper()
            why.append(f"{value} frames came back {code} since the broker started, of whatever callback")
    return bool(registered), why


def _figures(row: dict[str, Any]) -> list[str]:
    """Tells for whom a callback is and how its calls went, as far as the broker was told."""
    told = []
    if row.get("terms"):
        told.append(f"its terms: {row['terms']}; other calls end with FORBIDDEN or RATE_LIMITED")
    if row.get("calls") or row.get("in_flight"):
        codes = ", ".join(f"{count} {code}" for code, count in sorted(row["failed"].items()))
        how = f"{row['errors']} of them with an error" + (f" ({codes})" if codes else "")
        told.append(f"{row['calls']} calls have ended, {how}; {row['in_flight']} are in flight")
    if row.get("p50_ms") is not None:
        took = f"50 of 100 took {row['p50_ms']:.3g} ms at most, 99 of 100 {row['p99_ms']:.3g} ms"
        told.append(f"in the last minute {row['rate']:.3g} calls a second; {took}")
    return told


def _event(row: list[Any]) -> str:
    _, at, event, _, _, _, ip, code, reason, *_ = row
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
    return " ".join(part for part in (when, "UTC", event, ip, code, f"({reason})") if part)
