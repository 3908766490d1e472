"""The command tree: the application and its commands.

Commands import the SDK and the broker inside their functions. At the top of a module, these imports would
make `ringback --help` take twice as long.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ringback_cli.commands import (
    bench,
    broker,
    callbacks,
    completion,
    config,
    doctor,
    drain,
    events,
    explain,
    hand_over,
    keys,
    kick,
    nodes,
    ping,
    players,
    realm,
    stats,
    tap,
    token,
    top,
    trigger,
)
from ringback_cli.completion import answer_shells
from ringback_cli.exits import Exit, epilog, failure_of
from ringback_cli.output import HelpWithoutArguments, complain_of, one_line, show_help

ORDER = (
    *(
        "broker",
        "config",
        "keys",
        "trigger",
        "players",
        "callbacks",
        "events",
        "explain",
        "tap",
        "stats",
        "top",
    ),
    *("kick", "drain", "hand-over", "nodes", "realm", "ping", "doctor", "bench", "token", "completion"),
)
"""The commands as `--help` lists them. By itself, typer lists the groups behind the others."""


class _InOrder(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="ringback",
    cls=_InOrder,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # loading rich takes longer than everything else
    epilog=epilog(),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from ringback import __version__

        typer.echo(f"ringback {__version__}")
        raise typer.Exit


@app.callback()
def _application(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Callbacks between one server and many players through a ZeroMQ broker."""
    show_help(context)


app.command("broker", short_help="Run the broker.")(broker.broker)
app.add_typer(config.app, name="config")
app.add_typer(trigger.app, name="trigger")
app.add_typer(keys.app, name="keys")
app.add_typer(realm.app, name="realm")
app.add_typer(nodes.app, name="nodes")
app.command("players", short_help="Print who is connected.")(players.players)
app.command("callbacks", short_help="Print which callbacks are registered.")(callbacks.callbacks)
app.command("events", short_help="Print who joined, left or was refused.")(events.events)
app.command("explain", short_help="Say whether a call would work now, and why.", cls=HelpWithoutArguments)(
    explain.explain
)
app.command("tap", short_help="Print calls as they end.")(tap.tap)
app.command("stats", short_help="Print the broker's counters.")(stats.stats)
app.command("top", short_help="Watch players and callbacks in a live table.")(top.top)
app.command("kick", short_help="End the session of a player.")(kick.kick)
app.command("drain", short_help="Make the broker drain and stop.")(drain.drain)
app.command("hand-over", short_help="Have the next server act.")(hand_over.hand_over)
app.command("ping", short_help="Check that the broker answers.")(ping.ping)
app.command("doctor", short_help="Check this machine and its broker for problems.")(doctor.doctor)
app.command("bench", short_help="Measure calls through the broker.")(bench.bench)
app.add_typer(token.app, name="token")
app.command("completion", short_help="Print a script for completion at Tab.")(completion.completion)


def run(arguments: list[str]) -> int:
    """Run a command line, and return its exit code.

    An error goes to standard error; as JSON if the command line has `--json`. With RINGBACK_TRACEBACK in the
    environment, its traceback comes first.
    """
    answer_shells()
    try:
        outcome = app(args=arguments, prog_name="ringback", standalone_mode=False)
    except Exception as error:
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
