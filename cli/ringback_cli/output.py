"""What a command prints: results as JSON on standard output, errors as one line on standard error."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from ringback.protocol.json_values import jsonable
from ringback_cli.exits import Exit, Failure

PROGRESS_AFTER_S = 2.0
PROGRESS_EVERY_S = 0.1

_CONTROLS = re.compile("[\x7f-\x9f\u2028\u2029]")
"""What JSON does not demand to be escaped, but a terminal or a reader of lines may take for a command."""


def to_json(value: Any) -> str:
    """Gives a value as JSON of one line."""
    text = json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False)
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def print_json(value: Any) -> None:
    """Prints a value as one line of JSON, in UTF-8 whatever the locale (RFC 8259, section 8.1).

    Raises:
        Failure, typer.Exit: as `print_line` does.
    """
    print_line(to_json(value))


def print_line(text: str) -> None:
    """Prints a result of one line.

    Raises:
        Failure: it can't be written.
        typer.Exit: nobody reads it; as with other programs in a pipe, that is not worth a word.
    """
    data = (text + "\n").encode()
    if sys.stdout is None:  # started with it closed
        raise Failure(Exit.FAILED, "there is no standard output to write the result to")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        _forget_output()
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(Exit.OUTPUT_CLOSED) from None
        reason = error.strerror or str(error)
        raise Failure(Exit.FAILED, f"the result can't be written to standard output: {reason}") from None


def print_table(columns: list[str], rows: list[list[Any]]) -> None:
    """Prints rows below each other: on a terminal as wide as that is, else each in one line.

    Raises:
        Failure, typer.Exit: as `print_line` does.
    """
    from io import StringIO

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    table = Table(box=SIMPLE_HEAD if on_terminal else None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))  # no markup: some of it comes from others
    out = StringIO()
    Console(
        file=out, force_terminal=on_terminal, width=None if on_terminal else 10_000, highlight=False
    ).print(table)
    print_line("\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return one_line(str(value))


def _forget_output() -> None:
    """Keeps Python from trying again at its end, and from complaining then."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def progress(what: str, total: int, *, done: int = 0, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Shows a bar on standard error once what is done in the block has taken a while; at its end it is gone.

    Nothing is shown where that is no terminal.

    Args:
        total: how many steps there are.
        done: of these before the block.
        quiet: shows nothing at all.

    Returns:
        What is to be called after each step.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return

    def step() -> None:
        nonlocal done
        done += 1

    over = threading.Event()
    shower = threading.Thread(target=_show_progress, args=(what, total, lambda: done, over), daemon=True)
    shower.start()
    try:
        yield step
    finally:
        over.set()
        shower.join()


def _show_progress(what: str, total: int, done: Callable[[], int], over: threading.Event) -> None:
    if over.wait(PROGRESS_AFTER_S):
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task(what, total=total, completed=done())
        while not over.wait(PROGRESS_EVERY_S):
            bar.update(task, completed=done(), refresh=True)


def one_line(text: str) -> str:
    """Gives a text with what is not printable escaped: parts of it come from other programs."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def complain(code: str, message: str) -> None:
    """Prints an error: `CODE: message`, one line whatever is in it."""
    with suppress(OSError):
        typer.echo(one_line(f"{code}: {message}" if message else code), err=True)


def show_help(context: typer.Context) -> None:
    """Ends a group of commands that was given without a command: with its help, as a wrong use."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(Exit.USAGE)
