"""`ringback completion`: print the script that a shell needs for completion at Tab."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ringback_cli.completion import VARIABLE
from ringback_cli.output import print_line

_BASH = r"""
_ringback_completion() {
    local typed=${COMP_LINE:0:COMP_POINT} IFS=$'\n' number=-1
    [[ $typed == *[[:space:]] ]] && number=$COMP_POINT
    COMPREPLY=($(COMP_WORDS="$typed" COMP_CWORD="$number" _RINGBACK_COMPLETE=complete_bash "$1" 2>/dev/null))
    local word=${typed##*[[:space:]]}
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
    fi
}
complete -o default -F _ringback_completion ringback
""".strip()
"""The script for bash. It replaces typer's, because bash ends a word at a colon and most keys have one. It
passes the line to typer as it was typed, to complete its last word or a new one after it. Then it removes
the part before the colon, which bash keeps by itself."""


class Shell(StrEnum):
    """The shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell.", show_default=False)],
) -> None:
    """Print a script that makes a shell complete commands, options and values at Tab.

    Keys and player IDs come from the broker that the command line or the environment names, if it answers
    within half a second.

    Example: source <(ringback completion bash)
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    if shell is Shell.BASH:
        print_line(_BASH)
    else:
        print_line(get_completion_script(prog_name="ringback", complete_var=VARIABLE, shell=shell.value))
