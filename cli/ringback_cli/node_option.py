"""The option that names one node of a realm."""

from __future__ import annotations

from typing import Annotated

import typer

from ringback_cli.completion import node_names

NodeOption = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="NAME",
        help="Ask only this node of the realm. [default: all of its nodes]",
        autocompletion=node_names,
    ),
]
