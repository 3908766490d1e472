"""The page of all commands, made from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from ringback_broker.settings.schema import SETTINGS
from ringback_cli.app import application

_NOTES = re.compile(r"\[((?:default|env|env var|required)\b[^\[\]]*)\]")
"""What the end of a help text says of a parameter: `[default: 3]`, `[env var: X; default: y]`."""

_INTRODUCTION = """\
# All commands and options

The commands themselves make this page, so it says what `--help` says. [The command line](../cli.md) explains
how they are used, what they print, and their exit codes.
"""


def commands(command: Any = None, words: tuple[str, ...] = ("ringback",)) -> Iterator[tuple[str, Any]]:
    """Yield the words and the command of each command that does something, in the order of `--help`."""
    command = command or get_command(application())
    below = getattr(command, "commands", {})
    if not below or (len(words) > 1 and command.params):  # `ringback nodes` does something by itself too
        yield " ".join(words), command
    for name in below:
        yield from commands(below[name], (*words, name))


def markdown() -> str:
    """Return the page: the help, the arguments and the options of each command."""
    lines = [_INTRODUCTION]
    for words, command in commands():
        lines += [f"## {words}", "", *_section(words, command)]
    return "\n".join(lines)


def _section(words: str, command: Any) -> Iterator[str]:
    context = command.make_context(words, [], resilient_parsing=True)
    summary, _, example = command.help.partition("Example: ")
    yield from (_text(summary), "")
    yield from ("```text", f"{words} {' '.join(command.collect_usage_pieces(context))}", "```", "")
    if example:
        yield from ("Example:", "", "```sh", " ".join(example.split()), "```", "")
    parameters = [(each.param_type_name, each, each.get_help_record(context)) for each in command.params]
    for kind in ("argument", "option"):
        rows = [
            (written, meaning)
            for its_kind, parameter, (written, meaning) in parameters
            if its_kind == kind and not (words == "ringback broker" and parameter.name in SETTINGS)
        ]
        if rows:
            yield from (f"| {kind} | meaning |", "|---|---|")
            yield from (f"| `{written}` | {_meaning(meaning)} |" for written, meaning in rows)
            yield ""
    if words == "ringback broker":
        yield from ("Each [setting](settings.md) is an option too.", "")
    if command.epilog:
        yield from (_text(command.epilog), "")


def _meaning(text: str) -> str:
    notes = [note.strip() for found in _NOTES.findall(text) for note in found.split(";")]
    lines = [_text(_NOTES.sub("", text))]
    for note in notes:
        word, _, value = note.partition(": ")
        title = {"env var": "variable", "env": "variable"}.get(word, word)
        lines.append(f"*{title}*: {cell(value)}" if value else f"*{title}*")
    return "<br>".join(filter(None, lines))


def _text(text: str) -> str:
    """Return a help text as one paragraph of Markdown."""
    return cell(" ".join(text.split()).replace("*", r"\*").replace("<", "&lt;"))


def cell(text: str) -> str:
    """Return a text for the cell of a table. In code, a stroke needs no escape, and would show it."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in parts)
