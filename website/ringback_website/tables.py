"""The pages of settings and of error codes, made from the schema and from the classes of errors."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

from ringback.errors import ERROR_CLASSES, REFUSED_CLASSES, Refused, RejectCode
from ringback_broker.settings.schema import SETTINGS
from ringback_cli.exits import MEANINGS, Exit
from ringback_website.commands import cell


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def settings() -> str:
    """Return the page of all settings of the broker."""
    lines = [
        "# Settings of the broker",
        "",
        "A setting has one name: in the settings file, as an option of `ringback broker`, and as a variable.",
        "[The command line](../cli.md#ringback-broker) says where values come from, and which one wins.",
        "`ringback config schema` prints the same as a JSON Schema.",
        "",
    ]
    for setting in SETTINGS.values():
        written = f"{setting.option} {setting.kind.metavar}".strip()
        default = (
            "none" if setting.default is None else "off" if setting.default is False else setting.default
        )
        holds = "on SIGHUP" if setting.about.reloads else "after a restart"
        lines += [
            f"## {setting.name}",
            "",
            f"`{written}`, `{setting.variable}`",
            "",
            setting.about.text.replace("*", r"\*"),
            "",
            f"Default: {default if default in ('none', 'off') else f'`{default}`'}."
            f" Allowed: {setting.kind.allowed}. A new value holds {holds}.",
            "",
        ]
    return "\n".join(lines)


def error_codes() -> str:
    """Return the page of all error codes: of calls, of refused sessions, and of the command line."""
    lines = [
        "# Error codes",
        "",
        "## Of calls",
        "",
        "How a call without results ended: `code` of a `CallbackError`. The column *ran* is `executed`,",
        "if nothing more is known: an error may say it more exactly. An application has codes of its own.",
        "",
        *table(
            ("code", "ran", "meaning", "class", "number", "exit code"),
            [
                (
                    f"`{code.name}`",
                    kind.default_executed,
                    cell(inspect.getdoc(kind) or ""),
                    f"[`{kind.__name__}`][ringback.{kind.__name__}]",
                    str(code.value),
                    str(Exit[code.name].value),
                )
                for code, kind in ERROR_CLASSES.items()
            ],
        ),
        "",
        "## Of sessions",
        "",
        "Why the broker refused an endpoint, or ended its session: `code` of a `Refused`, and the first",
        "word that `on_disconnected` listeners get. [The protocol](../protocol.md#reject-codes) says when.",
        "",
        *table(
            ("code", "number", "class"),
            [
                (f"`{code.name}`", str(code.value), f"[`{kind.__name__}`][ringback.{kind.__name__}]")
                for code in RejectCode
                for kind in [REFUSED_CLASSES.get(code, Refused)]
            ],
        ),
        "",
        "## Of the command line",
        "",
        *table(
            ("exit code", "name", "meaning"),
            [(str(code.value), f"`{code.name}`", cell(MEANINGS[code])) for code in Exit],
        ),
        "",
    ]
    return "\n".join(lines)
