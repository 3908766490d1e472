"""The entry point of the `ringback` command.

It imports nothing slow, because Ctrl-C may come while the rest is loading.
"""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line of this process, and exit with its exit code."""
    try:
        from ringback_cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    if code == 130:
        # Sending the last frames takes a moment. A second Ctrl-C ends that at once.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)
