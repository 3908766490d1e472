"""`ringback tap`: print the calls of a running broker as they end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.completion import any_keys, player_ids
from ringback_cli.connection import Connection, connects
from ringback_cli.exits import Exit, Failure
from ringback_cli.node_option import NodeOption
from ringback_cli.options import (
    JSONOption,
    StringIDOption,
    check_node,
    check_pattern,
    parse_player_id,
    seconds,
    whole_number,
)
from ringback_cli.output import hint, one_line, paint, print_json, print_line, say, to_json
from ringback_cli.realm_rows import Follower, find, node_names

if TYPE_CHECKING:
    from ringback import Operator
    from ringback.protocol.reports import CallFilter

ASK_S = 0.25
"""How long to wait before asking the broker for further calls, in seconds."""

WATCH_S = 10.0
"""How long each watch lasts, in seconds. It is renewed, so that the broker stops watching soon after this
command ends."""

MOST_LOG_S = 86400
"""The longest watch. The SDK has the same; it is not imported for `--help`."""


@connects(endless="always")
def tap(
    connection: Connection,
    player: Annotated[
        str | None,
        typer.Option(
            "--player",
            metavar="ID",
            help="Print calls from and to this player only. [default: of everybody]",
            autocompletion=player_ids,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="GLOB",
            help="Print calls of matching keys only; *, ? and [...] work as in a shell. [default: any key]",
            autocompletion=any_keys,
        ),
    ] = None,
    payloads: Annotated[
        bool, typer.Option("--payloads", help="Print payloads and replies too, where they are at most 4 KiB.")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            metavar="N",
            parser=whole_number("--count", 1),
            help="Stop after N calls. [default: no limit]",
        ),
    ] = None,
    log_s: Annotated[
        float | None,
        typer.Option(
            "--log",
            metavar="SECONDS",
            parser=seconds("--log", f"from 0 to {MOST_LOG_S}", lambda given: 0 <= given <= MOST_LOG_S),
            help="Print nothing: make the broker log the calls for SECONDS; 0: stop that. [default: print]",
        ),
    ] = None,
    node: NodeOption = None,
    string_id: StringIDOption = False,
    as_json: JSONOption = False,
) -> None:
    """Print calls as they end: time, caller, callback, outcome and duration.

    The command goes on until Ctrl-C or the end of --timeout. The server and operators report the calls each
    second. In a realm, the command watches all nodes, and each line names its node. The time is UTC, when
    the call ended. For a server's callback, the duration is the time that its handler took to reply. For a
    player's callback, it includes the way there and back. It is "-" if no handler ran. JSON is one line for
    each call.

    Example: ringback tap --player 7 --key 'shop:*' --payloads
    """
    from ringback.protocol.reports import CallFilter

    if log_s is not None and (payloads or count is not None or as_json):
        raise Failure(
            Exit.USAGE, "--log: it prints nothing, so do not give --payloads, --count or --json with it"
        )
    player_id = None if player is None else parse_player_id(player, string_id, "--player")
    watched = CallFilter(player_id, None if key is None else check_pattern(key, "--key"), payloads)
    at = check_node(node)
    with connection.operator() as operator:
        if log_s is None:
            _follow(operator, connection, watched, at, count, as_json)
        else:
            names = list(node_names(operator, connection)) if at is None else [at]
            missing = _watch(operator, connection, watched, names, log_s, log=True)
            print_json({"logged_s": log_s})
            if missing:
                reasons = "; ".join(reason for _, reason in sorted(missing.items()))
                raise Failure(Exit.SOME_FAILED, f"not all nodes log the calls: {reasons}")


def _watch(
    operator: Operator,
    connection: Connection,
    watched: CallFilter,
    nodes: list[str],
    for_s: float,
    *,
    log: bool = False,
) -> dict[str, str]:
    """Watch at some nodes. Return those that did not answer, with the reasons.

    Raises:
        CallbackError: the one node, or the operator's own, does not watch.
    """
    from ringback import CallbackError, Forbidden

    player_id, key, payloads = watched
    left_s = connection.left_s()
    calls = {
        name: operator.watch(
            *(player_id, key), payloads=payloads, log=log, for_s=for_s, node=name or None, timeout=left_s
        )
        for name in nodes
    }
    missing = {}
    for name, call in calls.items():
        try:
            call.result()
        except CallbackError as error:
            if isinstance(error, Forbidden) or len(calls) == 1 or connection.time_limit.has_ended(error):
                raise
            missing[name] = error.message
    return missing


def _follow(
    operator: Operator,
    connection: Connection,
    watched: CallFilter,
    node: str | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Print the calls that end from now on, and at the end of the time what was seen."""
    tap, printed = _Tap(operator, connection, watched, node), 0
    with connection.time_limit.ends_quietly():
        for row in tap.calls(quiet=as_json):
            if as_json:
                print_json(_fields(row, payloads=watched.payloads))
            else:
                print_line(_line(row, payloads=watched.payloads))
            printed += 1
            if printed == count:
                return
            if connection.time_limit.is_over:
                break
    if count is not None:
        raise Failure(Exit.TIMEOUT, f"{printed} of {count} calls ended before the time was over")
    if not as_json:
        left_out = f", and the broker left {tap.left_out} out" if tap.left_out else ""
        say(f"the time is over: saw {printed} {_described(watched)}{left_out}")


class _Tap:
    """A watch at a broker, or at all nodes of a realm.

    Attributes:
        left_out: how many calls were left out, because too many ended.
    """

    def __init__(
        self, operator: Operator, connection: Connection, watched: CallFilter, node: str | None
    ) -> None:
        self.left_out = 0
        self._operator, self._connection = operator, connection
        self._watched, self._node = watched, node

    def calls(self, *, quiet: bool) -> Iterator[list[Any]]:
        """Yield the rows of the calls that end from now on, until the time limit.

        Each begins with the name of its node.

        Args:
            quiet: do not say on a terminal what is watched.
        """
        limit = self._connection.time_limit
        follower = Follower(self._operator, "calls", self._connection, self._node)
        follower.new_rows()
        lost_before = self._lost()
        watching: set[str] = set()
        renew_at = 0.0
        while limit.next_round():
            if time.monotonic() >= renew_at or not watching.issuperset(follower.names):
                _watch(self._operator, self._connection, self._watched, follower.names, WATCH_S)
                watching = set(follower.names)
                if not renew_at and not quiet:
                    hint(f"watching {_described(self._watched)} at {self._operator.address}; Ctrl-C ends it")
                renew_at = time.monotonic() + WATCH_S / 2
            rows = follower.new_rows()
            yield from (row for row in rows if self._watched.matches(row[4], row[5]))  # others watch too
            if rows:
                self.left_out = max(self.left_out, self._lost() - lost_before)
            time.sleep(limit.pause_s(ASK_S))

    def _lost(self) -> int:
        """Return how many watched calls have been left out since the brokers started."""
        rows = find(self._operator, "counters", self._connection, self._node).rows
        return sum(value for _, name, value, *_ in rows if name == "watched_calls_lost")


def _described(watched: CallFilter) -> str:
    """Return which calls are watched, in words."""
    who = "" if watched.player_id is None else f" from and to player {watched.player_id!r}"
    which = "" if watched.pattern is None else f" of keys like {watched.pattern!r}"
    return f"calls{who}{which}"


def _fields(row: list[Any], *, payloads: bool) -> dict[str, Any]:
    from ringback.protocol.reports import duration_ms

    node, _, unix_s, side, player_id, key, outcome, took_s, payload, reply, *_ = row
    fields: dict[str, Any] = {
        **({} if node is None else {"node": node}),
        "unix_s": unix_s,
        "side": side,
        "player": player_id,
        "key": key,
        "outcome": outcome,
        "ms": duration_ms(took_s),
    }
    if payloads:
        carried = {"payload": payload, "reply": reply}
        fields |= {name: _decode(value) for name, value in carried.items() if value is not None}
    return fields


def _line(row: list[Any], *, payloads: bool) -> str:
    from ringback.protocol.reports import duration_ms, way

    node, _, unix_s, side, player_id, key, outcome, took_s, payload, reply, *_ = row
    when = time.strftime("%H:%M:%S", time.gmtime(unix_s)) + f".{int(1000 * unix_s) % 1000:03}"
    took_ms = duration_ms(took_s)
    took = "-" if took_ms is None else f"{took_ms:.3f} ms"
    at = "" if node is None else f"  {node}"
    parts = [
        paint(f"{when}{one_line(at)}", dim=True),
        one_line(way(side, player_id)),
        paint(one_line(key), "cyan"),
        paint(one_line(outcome), "green" if outcome == "OK" else "red"),
        took,
    ]
    if payloads:
        carried = ["..." if value is None else to_json(_decode(value)) for value in (payload, reply)]
        parts.append(f"{carried[0]} -> {carried[1]}")
    return "  ".join(parts)


def _decode(encoded: bytes) -> Any:
    import msgpack

    return msgpack.unpackb(encoded, strict_map_key=False, timestamp=1)
