"""`ringback top`: what goes on at a broker, again and again."""

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

from ringback_cli.connection import Keys, operator
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import (
    CONNECT_S,
    DEFAULT_BACKEND,
    BackendOption,
    BrokerKeyOption,
    KeyFileOption,
    Patience,
    ShortTimeoutOption,
    check_timeout,
)
from ringback_cli.output import print_json, print_line, print_table
from ringback_cli.rows import all_rows, each_row
from ringback_cli.top_view import (
    COLUMNS,
    FIRST_SORT,
    MAX_ROWS,
    Look,
    State,
    View,
    as_object,
    as_table,
    head,
    lines,
    press,
    took,
    traffic,
)

if TYPE_CHECKING:
    from ringback import CallbackError, Operator

REDRAW_S = 1.0
"""So often at the least: the head tells how old an answer is."""


def _columns(context: typer.Context) -> list[str]:
    """Completes the columns of the table that was chosen."""
    return [column.name for column in COLUMNS[View(context.params.get("view", View.PLAYERS))]]


def top(
    view: Annotated[View, typer.Option(help="Which table comes first.")] = View.PLAYERS,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Of that table, as JSON names it. [default: calls a second]",
            show_default=False,
            autocompletion=_columns,
        ),
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", help="How often the broker is asked.")
    ] = 1.0,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="Print so many plain tables, and end.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A line of JSON each time, in place of a screen or a table.")
    ] = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Watch a broker: its players and callbacks as a table that is drawn again each second.

    Keys: q quits, Tab changes the table, F6 the column it is sorted by, / filters, h shows all keys. When the
    broker goes away it waits for it. Not on a terminal, or with --json or --count, it prints.

    Example: ringback top --view callbacks --sort p99_ms
    """
    check_timeout(timeout)
    if not 0.1 <= interval <= 86400:
        raise Failure(Exit.USAGE, f"--interval: 0.1 to 86400 seconds, not {interval:g}")
    state = State(backend, view=view, sort={**FIRST_SORT, view: _column(view, sort)})
    over = threading.Event()
    with operator(backend, Patience(timeout, CONNECT_S), Keys(key_file, broker_key)) as endpoint:
        looks = _looks(endpoint, interval, timeout, over)
        try:
            if as_json or count is not None or not _on_terminal():
                _print(islice(looks, count), state, interval, as_json)
            else:
                _show(looks, state, interval)
        finally:
            over.set()


def _column(view: View, name: str | None) -> str:
    names = [column.name for column in COLUMNS[view]]
    if name is not None and name not in names:
        raise Failure(Exit.USAGE, f"--sort: the columns of {view.value} are {', '.join(names)}, not {name!r}")
    return name or FIRST_SORT[view]


def _on_terminal() -> bool:
    """Tells whether there are keys to read, and a terminal that can place its cursor."""
    ends = (sys.stdin, sys.stdout)
    return all(end is not None and end.isatty() for end in ends) and os.environ.get("TERM") != "dumb"


def _looks(
    endpoint: Operator, interval_s: float, timeout_s: float | None, over: threading.Event
) -> Iterator[Look | CallbackError]:
    """Asks the broker again and again until it is over; gives each answer, or why there is none."""
    from ringback import CallbackError

    due_at = time.monotonic()
    while not over.wait(due_at - time.monotonic()):
        try:
            yield _look(endpoint, Patience(timeout_s, CONNECT_S))
        except CallbackError as error:
            yield error
        due_at = max(due_at + interval_s, time.monotonic())


def _look(endpoint: Operator, patience: Patience) -> Look:
    players = list(islice(each_row(endpoint, "players", patience), MAX_ROWS))
    callbacks = list(islice(each_row(endpoint, "callbacks", patience), MAX_ROWS))
    counters = {row[0]: row[1] for row in all_rows(endpoint, "counters", patience)}
    return Look(time.monotonic(), players, callbacks, counters)


def _after(state: State, answer: Look | Exception) -> State:
    from ringback import CallbackError

    if isinstance(answer, Look):
        return took(state, answer)
    if not isinstance(answer, CallbackError):
        raise answer
    return replace(state, problem=f"{answer.code_name}: {answer.message}")


def _print(looks: Iterable[Look | CallbackError], state: State, interval_s: float, as_json: bool) -> None:
    for answer in looks:
        state = _after(state, answer)
        if as_json:
            print_json(as_object(state))
            continue
        said = head(state, time.monotonic(), interval_s).text
        if state.problem or state.figures is None:
            print_line(said)
        else:
            print_line(f"{said}  {traffic(state.figures)}")
            print_table(*as_table(state))


def _show(looks: Iterator[Look | CallbackError], state: State, interval_s: float) -> None:
    """Draws on the terminal until a key ends it. The broker is asked by another thread: keys do not wait."""
    from ringback_cli.terminal import Terminal

    answers: SimpleQueue[Look | Exception] = SimpleQueue()
    with Terminal() as terminal:

        def ask() -> None:
            try:
                for answer in looks:
                    answers.put(answer)
                    terminal.wake()
            except Exception as error:  # for the main thread to tell
                answers.put(error)
                terminal.wake()

        threading.Thread(target=ask, name="ringback-top", daemon=True).start()
        while not state.over:
            width, height = terminal.size
            terminal.draw(lines(state, time.monotonic(), interval_s, width, height))
            for key in terminal.keys(REDRAW_S):
                state = press(state, key, height)
            while not answers.empty():
                state = _after(state, answers.get())
