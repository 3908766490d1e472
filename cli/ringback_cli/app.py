"""The command tree: the application and its commands.

A process loads the command that it runs alone. Commands import the SDK and the broker inside their functions.
At the top of a module, these imports would make `ringback --help` take twice as long.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Annotated, Any

import typer

from ringback_cli.completion import answer_shells, completes
from ringback_cli.exits import Exit, epilog, failure_of
from ringback_cli.output import (
    Commands,
    Group,
    HelpWithoutArguments,
    complain_of,
    one_line,
    print_line,
    show_help,
)

SUMMARIES = {
    "broker": "Run the broker.",
    "config": None,
    "keys": None,
    "trigger": None,
    "players": "Print who is connected.",
    "callbacks": "Print which callbacks are registered.",
    "events": "Print who joined, left or was refused.",
    "explain": "Say whether a call would work now, and why.",
    "tap": "Print calls as they end.",
    "stats": "Print the broker's counters.",
    "top": "Watch players and callbacks in a live table.",
    "kick": "End the session of a player.",
    "drain": "Make the broker drain and stop.",
    "hand-over": "Have the next server act.",
    "nodes": None,
    "realm": None,
    "ping": "Check that the broker answers.",
    "doctor": "Check this machine and its broker for problems.",
    "bench": "Measure calls through the broker.",
    "token": None,
    "completion": "Print a script for completion at Tab.",
}
"""The commands in the order of `--help`, with what it says of each. A group, None here, says that itself."""


class _InOrder(Group):
    """By itself, typer lists the groups behind the other commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=list(SUMMARIES).index)


def _show_version(wanted: bool) -> None:
    if wanted:
        from ringback import __version__

        print_line(f"ringback {__version__}")
        raise typer.Exit


def _application(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Callbacks between one server and many players through a ZeroMQ broker."""
    show_help(context)


def application(*names: str) -> typer.Typer:
    """Return the application with the commands of these names. Without names, it has all."""
    app = Commands(
        name="ringback", cls=_InOrder, add_completion=False, pretty_exceptions_enable=False, epilog=epilog()
    )
    app.callback()(_application)
    for name in names or SUMMARIES:
        own_name = name.replace("-", "_")
        module = import_module(f"ringback_cli.commands.{own_name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            cls = HelpWithoutArguments if name == "explain" else None
            app.command(name, short_help=SUMMARIES[name], cls=cls)(getattr(module, own_name))
    return app


def run(arguments: list[str]) -> int:
    """Run a command line, and return its exit code.

    An error goes to standard error; as JSON if the command line has `--json`. With RINGBACK_TRACEBACK in the
    environment, its traceback comes first.
    """
    answer_shells()
    # The first word is the command, because the options before it, such as `--version`, take no value.
    named = [] if completes() else [word for word in arguments[:1] if word in SUMMARIES]
    try:
        outcome = application(*named)(args=arguments, prog_name="ringback", standalone_mode=False)
    except Exception as error:
        if completes():  # a line would appear in the middle of what somebody types
            return Exit.FAILED
        if os.environ.get("RINGBACK_TRACEBACK"):
            import traceback

            for line in traceback.format_exc().split("\n"):
                typer.echo(one_line(line), err=True)
        failure = failure_of(error)
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        # Looked up here, because an error of usage comes before typer has the options.
        complain_of(failure, as_json="--json" in options, of_callback=options[:1] == ["trigger"])
        return failure.exit
    return outcome if isinstance(outcome, int) else Exit.OK
