"""The application: its commands are in a file for each group."""

from __future__ import annotations

import typer

from ringback_cli import broker

app = typer.Typer(
    name="ringback",
    no_args_is_help=True,
    add_completion=False,
    help="Callbacks between one server and many players through a ZeroMQ broker.",
)


@app.callback()
def _application() -> None:
    """Without this typer would make a lone command the whole application."""


app.command("broker")(broker.broker)


def main() -> None:
    """The entry point of the `ringback` command."""
    app()
