"""What a command prints: results on standard output, errors on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from ringback.protocol.json_values import jsonable
from ringback_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from ringback.errors import CallbackError

F = TypeVar("F", bound=Callable[..., Any])


def to_json(value: Any) -> str:
    """Return a value as JSON on one line.

    JSON allows unescaped characters that a terminal may obey, or a reader of lines may split at. All that
    cannot be printed is escaped here: other programs choose parts of the value.
    """
    text = json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False)
    if text.isprintable():
        return text
    return text.translate({ord(char): json.dumps(char)[1:-1] for char in set(text) if not char.isprintable()})


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, in UTF-8 whatever the locale (RFC 8259, section 8.1).

    Raises:
        Failure, typer.Exit: as `print_line` does.
    """
    print_line(to_json(value))


def print_line(text: str) -> None:
    """Print one line of a result.

    Raises:
        Failure: standard output is closed, or writing to it fails.
        typer.Exit: the reader of the pipe has gone. Like other programs in a pipe, the command prints nothing
            about it.
    """
    data = (text + "\n").encode()
    if sys.stdout is None:  # the process was started with standard output closed
        raise Failure(Exit.FAILED, "there is no standard output to write the result to")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        _forget_output()
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(Exit.OUTPUT_CLOSED) from None
        reason = error.strerror or str(error)
        raise Failure(Exit.FAILED, f"cannot write the result to standard output: {reason}") from None


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def terminal_width() -> int:
    """Return how many columns the terminal has now. The variable COLUMNS may have an old number."""
    return os.get_terminal_size(sys.stdout.fileno()).columns or 80


def paint(text: str, colour: str | None = None, *, bold: bool = False, dim: bool = False) -> str:
    """Return a text for standard output with its style: on a terminal that has colours and is to have some.

    TERM=dumb says that it has none. NO_COLOR says that the user wants none (no-color.org).
    """
    if not on_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    styles = {name: True for name, wanted in (("bold", bold), ("dim", dim)) if wanted}
    return typer.style(text, fg=colour, **styles) if colour or styles else text


def _forget_output() -> None:
    """Keep Python from flushing standard output again at its exit, and from complaining then."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def one_line(text: str) -> str:
    """Return a text with its unprintable characters escaped. Parts of it may come from other programs."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def print_progress(value: Any) -> None:
    """Print a value of the progress of a call as one line of JSON on standard error."""
    _complain(to_json(value))


def complain(code: str, message: str) -> None:
    """Print an error on standard error as one line, `CODE: message`."""
    _complain(one_line(f"{code}: {message}" if message else code))


def complain_of(failure: Failure, *, as_json: bool, of_callback: bool = True) -> None:
    """Print why a command failed on standard error, with all that the error of a call says.

    Args:
        as_json: print one line of JSON. Otherwise print `CODE: message`, and then the lines `data:`,
            `executed:` and `hint:`, each only if it says something that the code does not.
        of_callback: the command calls a callback. Another has no handler that may have run.
    """
    error = failure.call
    if as_json:
        fields = {"code": failure.code, "message": failure.message}
        said = fields if error is None else outcome_of(error)
        _complain(to_json({"error": {**said, "hint": failure.hint} if failure.hint else said}))
        return
    complain(failure.code, failure.message)
    if error is not None and error.data is not None:
        _complain(f"data: {to_json(error.data)}")
    if error is not None and of_callback and _says_more(error):
        _complain(f"executed: {error.executed}")
    if failure.hint:
        say(f"hint: {failure.hint}")


def _says_more(error: CallbackError) -> bool:
    """Return whether `executed` says something that the code of an error does not."""
    return error.executed == "maybe" or error.executed != error.default_executed


def outcome_of(error: CallbackError) -> dict[str, Any]:
    """Return all that the error of a call says, for JSON."""
    fields = {"code": error.code_name, "message": error.message, "executed": error.executed}
    return {**fields, "data": error.data}


def _complain(line: str) -> None:
    with suppress(OSError):
        typer.echo(line, err=True)


def say(text: str) -> None:
    """Print a line for a person on standard error, at the end of a command."""
    _complain(one_line(text))


def hint(text: str) -> None:
    """Print a line for a person on standard error. Without a terminal there, print nothing."""
    if sys.stderr is not None and sys.stderr.isatty():
        _complain(one_line(text))


class _PrintsHelp:
    """A mixin for commands and groups. It prints help as results are printed: standard output may fail."""

    def get_help_option(self, context: Any) -> Any:
        option = super().get_help_option(context)  # type: ignore[misc]  # the other base has it
        if option is not None:
            option.callback = _print_help
        return option


def _print_help(context: Any, _option: object, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        print_line(context.get_help())
        raise typer.Exit


class Command(_PrintsHelp, TyperCommand):
    """A command."""


class Group(_PrintsHelp, TyperGroup):
    """A group of commands."""


class Commands(typer.Typer):
    """A typer application, or a part of it, that is made of `Command` and `Group`.

    Args:
        settings: other arguments of `typer.Typer`.
    """

    def __init__(self, cls: type[Group] = Group, **settings: Any) -> None:
        # Without rich: loading it takes longer than everything else.
        super().__init__(cls=cls, invoke_without_command=True, rich_markup_mode=None, **settings)

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **settings: Any
    ) -> Callable[[F], F]:
        return super().command(name, cls=cls or Command, **settings)


class HelpWithoutArguments(Command):
    """A command that prints its help on standard error, and exits with USAGE, if it gets no arguments."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        if not arguments and not context.resilient_parsing:
            _refuse_with_help(context)
        return super().parse_args(context, arguments)


def show_help(context: typer.Context) -> None:
    """Print the help of a group on standard error and exit with USAGE if no command follows."""
    if context.invoked_subcommand is None:
        _refuse_with_help(context)


def _refuse_with_help(context: Any) -> NoReturn:
    _complain(context.get_help())
    raise typer.Exit(Exit.USAGE)
