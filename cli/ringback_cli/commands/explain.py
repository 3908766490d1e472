"""`ringback explain`: say whether a call to a player, or of a callback, would work now, and why."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.completion import players_or_keys
from ringback_cli.connection import Connection, connects
from ringback_cli.exits import Exit
from ringback_cli.options import JSONOption, StringIDOption, check_key, parse_player_id
from ringback_cli.output import one_line, print_json, print_line
from ringback_cli.rows import all_rows, concerns, named_rows, registered_like
from ringback_cli.schemas import describe, schemas_of

if TYPE_CHECKING:
    from ringback import Operator, PlayerID

MAX_EVENTS = 5
"""The number of events that are printed, the latest ones."""

MAX_SCHEMA_CHARS = 500
"""How much is printed of what a callback takes. `ringback callbacks --schema` prints all of it."""

MUCH_PERCENT = 50
"""A player that has used more of its window reads slowly, or not at all. A lower share means nothing, because
the broker asks only after each quarter of the window how far the player has read."""


class Kind(StrEnum):
    """What the argument NAME names."""

    PLAYER = "player"
    CALLBACK = "callback"


@connects()
def explain(
    connection: Connection,
    kind: Annotated[Kind, typer.Argument(metavar="player|callback", show_default=False)],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The ID of the player, or the key of the callback.",
            show_default=False,
            autocompletion=players_or_keys,
        ),
    ],
    string_id: StringIDOption = False,
    as_json: JSONOption = False,
) -> None:
    """Say whether a call to a player, or of a callback, would work now, and why.

    The broker knows who is connected, what is registered and what happened lately. It does not know what a
    handler does. Exit code 11 if the player is not connected, 10 if the callback is not registered, else 0.

    Example: ringback explain player 7
    """
    player_id = parse_player_id(name, string_id, "NAME") if kind is Kind.PLAYER else None
    key = check_key(name) if kind is Kind.CALLBACK else ""
    with connection.operator() as operator:
        if player_id is not None:
            works, reasons = _explain_player(operator, connection, player_id)
        else:
            works, reasons = _explain_callback(operator, connection, key)
    if as_json:
        print_json({kind.value: name if player_id is None else player_id, "works": works, "because": reasons})
    else:
        for reason in reasons:
            print_line(one_line(reason))
    if not works:
        raise typer.Exit(Exit.UNKNOWN_PLAYER if kind is Kind.PLAYER else Exit.UNKNOWN_CALLBACK)


def _explain_player(
    operator: Operator, connection: Connection, player_id: PlayerID
) -> tuple[bool, list[str]]:
    rows = named_rows("players", all_rows(operator, "players", connection))
    connected = {(type(row["player"]), row["player"]): row for row in rows}
    events = [
        _describe_event(row) for row in all_rows(operator, "events", connection) if concerns(row, player_id)
    ][-MAX_EVENTS:]
    row = connected.get((type(player_id), player_id))
    if row is not None:
        return True, _describe_player(row) + events
    reasons = [f"player {player_id!r} is not connected: calls to it fail at once with UNKNOWN_PLAYER"]
    other: PlayerID = str(player_id)
    if isinstance(player_id, str) and player_id.isdecimal():
        other = int(player_id)
    if (type(other), other) in connected:
        reasons.append(f"player {other!r} is connected: an int and a str are two IDs")
    return False, reasons + (events or ["the broker remembers no event of this player"])


def _describe_player(row: dict[str, Any]) -> list[str]:
    """Return sentences about a player that is connected."""
    identity = f" as {row['identity']!r}" if row["identity"] else ""
    ip = row["ip"] or "this machine"
    connected = f"has been connected for {row['connected_s']:.0f} s"
    reasons = [f"player {row['player']!r} {connected}, from {ip}{identity}"]
    warning = "" if row["callbacks"] else ": calls to it end with UNKNOWN_CALLBACK"
    reasons.append(f"it has registered {row['callbacks']} callbacks{warning}")
    reasons.append(f"its last frame came {row['heard_s']:.0f} s ago, not counting heartbeats")
    used = row["window_percent"]
    if used > MUCH_PERCENT:
        reasons.append(
            f"{used:.0f} % of its window is used: it reads slowly or not at all; "
            "at 100 % calls to it end with OVERLOADED"
        )
    if "calls" in row:  # an older broker does not send this column
        from ringback.protocol.significant import significant

        rtt_ms = row["rtt_ms"]
        round_trip = "" if rtt_ms is None else f"; its round-trip time is {significant(rtt_ms)} ms"
        reasons.append(f"{row['calls']} of its calls have ended, {row['errors']} of them failed{round_trip}")
    return reasons


def _explain_callback(operator: Operator, connection: Connection, key: str) -> tuple[bool, list[str]]:
    rows = named_rows("callbacks", all_rows(operator, "callbacks", connection))
    found = [row for row in rows if row["key"] == key]
    counters = {row[0]: row[1] for row in all_rows(operator, "counters", connection)}
    reasons = []
    registered = [row for row in found if row["endpoints"]]
    for row in registered:
        who = _who(row["side"], row["endpoints"])
        reasons.append(f"{who} registered {key!r}")
    for side, schema in schemas_of(operator, connection, key, rows).items():
        reasons.append(f"the {side}'s takes {describe(schema)[:MAX_SCHEMA_CHARS]}")
    for row in found:
        reasons += _describe_calls(row)
    if not registered:
        reasons.append(f"nobody has registered {key!r}: its calls fail with UNKNOWN_CALLBACK or NO_SERVER")
        near = registered_like(key, rows)
        reasons += [near] if near else []
    if not any(row["side"] == "server" and row["endpoints"] for row in rows):
        reasons.append("no server with callbacks is connected")
    if standbys := counters.get("servers_standing_by"):
        reasons.append(f"{standbys} servers stand by" if standbys > 1 else "1 server stands by")
    for name, value in counters.items():
        if name.startswith("bounced_") and value:
            code = name.removeprefix("bounced_").upper()
            reasons.append(
                f"since it started, the broker bounced {value} frames with {code}, of any callback"
            )
    return bool(registered), reasons


def _who(side: str, endpoints: int) -> str:
    if side != "server":
        return f"{endpoints} {side}s have"
    return "the server has" if endpoints == 1 else f"{endpoints} servers, one of which acts, have"


def _describe_calls(row: dict[str, Any]) -> list[str]:
    """Return sentences about the terms of a callback and its calls, as far as they were reported."""
    reasons = []
    if row.get("terms"):
        reasons.append(f"its terms are: {row['terms']}; other calls end with FORBIDDEN or RATE_LIMITED")
    if row.get("calls") or row.get("in_flight"):
        codes = ", ".join(f"{count} {code}" for code, count in sorted(row["failed"].items()))
        failed = f"{row['errors']} of them failed" + (f" ({codes})" if codes else "")
        reasons.append(f"{row['calls']} calls have ended, {failed}; {row['in_flight']} are in flight")
    if row.get("p50_ms") is not None:
        from ringback.protocol.significant import significant

        p50_ms, p99_ms = significant(row["p50_ms"]), significant(row["p99_ms"])
        took = f"50 % took at most {p50_ms} ms, 99 % at most {p99_ms} ms"
        reasons.append(f"in the last minute {significant(row['rate'])} calls a second ended; {took}")
    return reasons


def _describe_event(row: list[Any]) -> str:
    _, unix_s, event, _, _, _, ip, code, reason, *_ = row
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_s))
    return " ".join(part for part in (when, "UTC", event, ip, code, f"({reason})") if part)
