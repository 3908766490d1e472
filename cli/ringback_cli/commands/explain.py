"""`ringback explain`: say whether a call to a player, or of a callback, would work now, and why."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.completion import players_or_keys
from ringback_cli.connection import Connection, connects
from ringback_cli.exits import Exit
from ringback_cli.failures import describe_failures
from ringback_cli.hints import connected_instead
from ringback_cli.node_option import NodeOption
from ringback_cli.options import (
    JSONOption,
    StringIDOption,
    check_key,
    check_node,
    parse_player_id,
)
from ringback_cli.output import one_line, print_json, print_line
from ringback_cli.realm_rows import by_time, find
from ringback_cli.rows import concerns, counter_sums, registered_like, with_nodes
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
    kind: Annotated[
        Kind, typer.Argument(metavar="player|callback", help="What NAME is.", show_default=False)
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The ID of the player, or the key of the callback.",
            show_default=False,
            autocompletion=players_or_keys,
        ),
    ],
    node: NodeOption = None,
    string_id: StringIDOption = False,
    as_json: JSONOption = False,
) -> None:
    """Say whether a call to a player, or of a callback, would work now, and why.

    The broker knows who is connected, what is registered and what happened lately; in a realm, each node
    knows that of itself. It does not know what a handler does. Exit code 11 if the player is not connected,
    10 if the callback is not registered, else 0.

    Example: ringback explain player 7
    """
    player_id = parse_player_id(name, string_id, "NAME") if kind is Kind.PLAYER else None
    key = check_key(name) if kind is Kind.CALLBACK else ""
    at = check_node(node)
    with connection.operator() as operator:
        if player_id is not None:
            works, reasons = _explain_player(operator, connection, player_id, at)
        else:
            works, reasons = _explain_callback(operator, connection, key, at)
    if as_json:
        print_json({kind.value: name if player_id is None else player_id, "works": works, "because": reasons})
    else:
        for reason in reasons:
            print_line(one_line(reason))
    if not works:
        raise typer.Exit(Exit.UNKNOWN_PLAYER if kind is Kind.PLAYER else Exit.UNKNOWN_CALLBACK)


def _explain_player(
    operator: Operator, connection: Connection, player_id: PlayerID, node: str | None
) -> tuple[bool, list[str]]:
    from ringback.protocol.player_ids import is_same_id

    players = find(operator, "players", connection, node, player_id=player_id)
    rows = with_nodes("players", players)
    row = next((row for row in rows if is_same_id(row["player"], player_id)), None)
    events = [
        _describe_event(row)
        for row in by_time(find(operator, "events", connection, node).rows)
        if concerns(row[1:], player_id)
    ][-MAX_EVENTS:]
    callbacks = with_nodes("callbacks", find(operator, "callbacks", connection, node))
    failures = describe_failures(
        operator, connection, callbacks, node, lambda call: is_same_id(call["player"], player_id)
    )
    if row is not None:
        return True, _describe_player(row) + failures + events
    reasons = [f"player {player_id!r} is not connected: calls to it fail at once with UNKNOWN_PLAYER"]
    other = connected_instead(operator, connection, player_id, node)
    reasons += [other] if other else []
    reasons += [f"it may be at node {name!r}: {why}" for name, why in sorted(players.missing.items())]
    nobody = "no node remembers an event of this player"
    if not players.in_realm:
        nobody = "the broker remembers no event of this player"
    return False, reasons + failures + (events or [nobody])


def _describe_player(row: dict[str, Any]) -> list[str]:
    """Return sentences about a player that is connected."""
    identity = f" as {row['identity']!r}" if row["identity"] else ""
    ip = row["ip"] or "this machine"
    connected = f"has been connected for {row['connected_s']:.0f} s"
    to = f" to node {row['node']!r}" if "node" in row else ""
    reasons = [f"player {row['player']!r} {connected}{to}, from {ip}{identity}"]
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
        in_flight = f"; {row['in_flight']} are in flight" if "in_flight" in row else ""
        failed = f"{row['errors']} of them failed"
        reasons.append(f"{row['calls']} of its calls have ended, {failed}{in_flight}{round_trip}")
    return reasons


def _explain_callback(
    operator: Operator, connection: Connection, key: str, node: str | None
) -> tuple[bool, list[str]]:
    callbacks = find(operator, "callbacks", connection, node)
    rows = with_nodes("callbacks", callbacks)
    found = [row for row in rows if row["key"] == key]
    counters = counter_sums(find(operator, "counters", connection, node))
    reasons = []
    registered = [row for row in found if row["endpoints"]]
    for row in registered:
        who = _who(row["side"], row["endpoints"])
        reasons.append(f"{who} registered {key!r}{_at(row)}")
    for side, schema in schemas_of(operator, connection, key, rows, node).items():
        reasons.append(f"the {side}'s takes {describe(schema)[:MAX_SCHEMA_CHARS]}")
    for row in found:
        reasons += [f"{reason}{_at(row)}" for reason in _describe_calls(row)]
    if not registered:
        reasons.append(f"nobody has registered {key!r}: its calls fail with UNKNOWN_CALLBACK or NO_SERVER")
        near = registered_like(key, rows)
        reasons += [near] if near else []
    reasons += [f"not known of node {name!r}: {why}" for name, why in sorted(callbacks.missing.items())]
    if not any(row["side"] == "server" and row["endpoints"] for row in rows):
        reasons.append("no server with callbacks is connected")
    if standbys := counters.get("servers_standing_by"):
        reasons.append(f"{standbys} servers stand by" if standbys > 1 else "1 server stands by")
    who = "since they started, the nodes" if callbacks.in_realm else "since it started, the broker"
    for name, value in counters.items():
        if name.startswith("bounced_") and value:
            code = name.removeprefix("bounced_").upper()
            reasons.append(f"{who} bounced {value} frames with {code}, of any callback")
    reasons += describe_failures(operator, connection, rows, node, lambda call: bool(call["key"] == key))
    return bool(registered), reasons


def _at(row: dict[str, Any]) -> str:
    return f" (at node {row['node']!r})" if "node" in row else ""


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
    node, _, unix_s, event, _, _, _, ip, code, reason, *_ = row
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_s))
    at = "" if node is None else f"at node {node!r}"
    return " ".join(part for part in (when, "UTC", event, at, ip, code, f"({reason})") if part)
