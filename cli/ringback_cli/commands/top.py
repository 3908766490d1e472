"""`ringback top`: watch players and callbacks in a table that is drawn again and again."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer

from ringback_cli.choosing import column_named
from ringback_cli.connection import Connection, connects
from ringback_cli.exits import Exit, Failure
from ringback_cli.node_option import NodeOption
from ringback_cli.options import check_node, seconds, whole_number
from ringback_cli.output import print_json, print_line
from ringback_cli.realm_rows import find
from ringback_cli.rows import counter_sums
from ringback_cli.tables import print_table
from ringback_cli.top_state import COLUMNS, FIRST_SORT, MAX_ROWS, Look, State, View, press, sort_column, take
from ringback_cli.top_view import as_object, as_table, draw, head, traffic

if TYPE_CHECKING:
    from ringback import CallbackError, Operator

REDRAW_S = 1.0
"""The longest time between two screens, in seconds: the head says how old the latest answer is."""


def _columns(context: typer.Context) -> list[str]:
    """Complete the columns of the table that `--view` chooses."""
    return [column.name for column in COLUMNS[View(context.params.get("view", View.PLAYERS))]]


@connects(endless="always")
def top(
    connection: Connection,
    view: Annotated[View, typer.Option(help="Show this table first.")] = View.PLAYERS,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Sort that table by this column, by its name in JSON. [default: calls a second]",
            show_default=False,
            autocompletion=_columns,
        ),
    ] = None,
    interval: Annotated[
        float,
        typer.Option(
            "--interval",
            metavar="SECONDS",
            parser=seconds("--interval", "from 0.1 to 86400", lambda given: 0.1 <= given <= 86400),
            help="Ask the broker every SECONDS.",
        ),
    ] = 1.0,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            metavar="N",
            parser=whole_number("--count", 1),
            help="Print N plain tables, then stop. [default: no limit]",
        ),
    ] = None,
    node: NodeOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON each time, instead of a screen or a table.")
    ] = False,
) -> None:
    """Watch a broker: its players and callbacks in a table that is drawn again each second.

    In a realm, watch all nodes. A node that does not answer is named in the first line.

    Press q to quit, Tab to change the table, F6 to sort by the next column, / to filter, h to see all keys.
    If the broker goes away, the command waits for it. Without a terminal, or with --json or --count, it
    prints.

    Example: ringback top --view callbacks --sort p99_ms
    """
    state = State(connection.backend, view=view, sort={**FIRST_SORT, view: _column(view, sort)})
    at, over = check_node(node), threading.Event()
    with connection.operator() as operator:
        answers = _answers(operator, connection, at, interval, over)
        try:
            if as_json or count is not None or not _on_terminal():
                printed = _print(islice(answers, count), state, interval, as_json)
                if count is not None and printed < count:
                    raise Failure(
                        Exit.TIMEOUT, f"printed {printed} of {count} tables before the time was over"
                    )
            else:
                _show(answers, state, interval)
        finally:
            over.set()


def _column(view: View, name: str | None) -> str:
    return FIRST_SORT[view] if name is None else column_named(name, COLUMNS[view], view.value).name


def _on_terminal() -> bool:
    """Return whether there is a keyboard to read, and a terminal that can place its cursor."""
    try:
        import termios  # noqa: F401
    except ModuleNotFoundError:  # Windows: its terminals have another way to read keys
        return False
    streams = (sys.stdin, sys.stdout)
    return all(one is not None and one.isatty() for one in streams) and os.environ.get("TERM") != "dumb"


def _answers(
    operator: Operator, connection: Connection, node: str | None, interval_s: float, over: threading.Event
) -> Iterator[Look | CallbackError]:
    """Ask the broker again and again until `over` is set. Yield each answer, or why there is none."""
    from ringback import CallbackError

    due_at = time.monotonic()
    limit = connection.time_limit
    while not over.wait(limit.pause_s(due_at - time.monotonic())) and limit.next_round():
        try:
            yield _look(operator, connection, node)
        except CallbackError as error:
            if limit.has_ended(error):
                return
            yield error
        due_at = max(due_at + interval_s, time.monotonic())


def _look(operator: Operator, connection: Connection, node: str | None) -> Look:
    players = find(operator, "players", connection, node, MAX_ROWS)
    callbacks = find(operator, "callbacks", connection, node, MAX_ROWS)
    counted = find(operator, "counters", connection, node)
    nodes = {
        View.PLAYERS: [row[0] for row in players.rows],
        View.CALLBACKS: [row[0] for row in callbacks.rows],
    }
    return Look(
        time.monotonic(),
        operator.address,
        players.plain_rows(),
        callbacks.plain_rows(),
        counter_sums(counted),
        nodes if players.in_realm else {},
        sorted({**players.missing, **callbacks.missing, **counted.missing}),
    )


def _after(state: State, answer: Look | Exception) -> State:
    from ringback import CallbackError

    if isinstance(answer, Look):
        return take(state, answer)
    if not isinstance(answer, CallbackError):
        raise answer
    return replace(state, problem=f"{answer.code_name}: {answer.message}")


def _print(answers: Iterable[Look | CallbackError], state: State, interval_s: float, as_json: bool) -> int:
    """Print each answer. Return how many there were."""
    printed = 0
    for answer in answers:
        printed += 1
        state = _after(state, answer)
        if as_json:
            print_json(as_object(state))
            continue
        first_line = head(state, time.monotonic(), interval_s).text
        if state.problem or state.figures is None:
            print_line(first_line)
        else:
            print_line(f"{first_line}  {traffic(state.figures)}")
            print_table(*as_table(state), stays={sort_column(state).name})
    return printed


def _show(answers: Iterator[Look | CallbackError], state: State, interval_s: float) -> None:
    """Draw on the terminal until a key ends it. Another thread asks the broker, so keys do not wait."""
    from ringback_cli.terminal import Terminal

    queue: SimpleQueue[Look | Exception | None] = SimpleQueue()
    with Terminal() as terminal:

        def ask() -> None:
            try:
                for answer in answers:
                    queue.put(answer)
                    terminal.wake()
                queue.put(None)  # the time limit is over
                terminal.wake()
            except Exception as error:  # the main thread raises it
                queue.put(error)
                terminal.wake()

        threading.Thread(target=ask, name="ringback-top", daemon=True).start()
        while not state.over:
            width, height = terminal.size
            terminal.draw(draw(state, time.monotonic(), interval_s, width, height))
            for key in terminal.keys(REDRAW_S):
                state = press(state, key, height)
            while not queue.empty():
                answer = queue.get()
                state = replace(state, over=True) if answer is None else _after(state, answer)
