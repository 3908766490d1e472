"""A progress bar on standard error, for commands that take long."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AFTER_S = 2.0
"""How long the block runs before the bar appears, in seconds."""

EVERY_S = 0.1


@contextmanager
def progress(what: str, total: int, *, done: int = 0, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Show a bar while the block runs, once that has taken a while. Erase it at the end.

    Without a terminal on standard error, show nothing.

    Args:
        what: the label of the bar.
        total: the number of steps.
        done: the number of steps that were done before the block.
        quiet: show nothing.

    Yields:
        A function to call after each step.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return

    def step() -> None:
        nonlocal done
        done += 1

    over = threading.Event()
    drawer = threading.Thread(target=_draw, args=(what, total, lambda: done, over), daemon=True)
    drawer.start()
    try:
        yield step
    finally:
        over.set()
        drawer.join()


def _draw(what: str, total: int, done: Callable[[], int], over: threading.Event) -> None:
    if over.wait(AFTER_S):
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ModuleNotFoundError:  # the command works without a bar
        return

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task(what, total=total, completed=done())
        while not over.wait(EVERY_S):
            bar.update(task, completed=done(), refresh=True)
