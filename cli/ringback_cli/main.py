"""The entry point of the `ringback` command. It imports nothing that takes time: Ctrl-C may come while
the rest is being loaded."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Runs the command line of this process, and ends it with the exit code that tells how it went."""
    try:
        from ringback_cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    if code == 130:
        # What is left to do takes a moment, as the last frames leave. A second Ctrl-C ends that at once.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)
