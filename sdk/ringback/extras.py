"""How to install what an extra of ringback needs, into the environment of this process."""

from __future__ import annotations

import shlex
import sys


def pip_command(*arguments: str) -> str:
    """Return the command for a shell that has pip install something.

    It names this process's Python, because another pip may belong to another environment.
    """
    python = shlex.quote(sys.executable) if sys.executable else "python3"
    return f"{python} -m pip install {shlex.join(arguments)}"  # in quotes: brackets are a pattern for zsh


def install_command(extra: str) -> str:
    """Return the command that installs an extra.

    It needs no package index for ringback itself: pip finds it installed, also from a checkout.
    """
    return pip_command(f"ringback[{extra}]")
