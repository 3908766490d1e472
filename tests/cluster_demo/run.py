"""Kill one part of a realm after the other, and say what happens to whom, beside what docs/scale.md promises.

    make cluster-demo

It starts three NATS servers, three brokers, a server, another one that stands by, and players in several
processes. Calls go both ways all the time. The exit code is 1 if anything differs from the promises, and 130
after Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from cluster_demo.judging import NoPromises, read_promises
from cluster_demo.realm import FAULTS, DemoRealm, say
from support.harness import ROOT

DOCUMENT = ROOT / "docs" / "scale.md"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What stops the demo."""


GONE_S = 10.0
"""How long killed processes may take to be gone."""


def run(document: Path, players: int, processes: int, faults: Iterable[str]) -> int:
    """Run the demo. Return its exit code.

    Raises:
        NoPromises: the document does not promise what the demo looks at.
    """
    began_at = time.monotonic()
    promises = read_promises(document.read_text(), FAULTS)
    with ExitStack() as stack:
        realm = DemoRealm(stack, promises, players, processes)
        for fault in faults:
            FAULTS[fault](realm)
        realm.count()
    took_s = time.monotonic() - began_at
    if realm.differences:
        say(f"\nDIFFERENT from what {document.name} promises, after {took_s:.0f} s:")
        for difference in realm.differences:
            say(f"  {difference}")
        return 1
    say(f"\nEverything is as {document.name} promises. It took {took_s:.0f} s.")
    return 0


def guard(arguments: list[str]) -> int:
    """Run the demo in a group of processes of its own, and in a folder of its own. Return its exit code.

    Whatever happens to the demo, whenever somebody stops it: nothing is left of it.
    """
    stopped_by: list[int] = []
    with tempfile.TemporaryDirectory(prefix="cluster-demo", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "cluster_demo.run", "--inside", *arguments]
        # A signal that comes before its handler is there must not come between these two.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        demo = subprocess.Popen(
            command, start_new_session=True, env={**os.environ, "TMPDIR": folder}, preexec_fn=_let_signals_in
        )

        def stop(number: int, _frame: object) -> None:
            stopped_by.append(number)
            demo.kill()

        for number in SIGNALS:
            signal.signal(number, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        code = demo.wait()
        _end_group(demo.pid)
    if stopped_by:
        say("\nstopped")
        return 128 + stopped_by[0]
    return code if code >= 0 else 128 - code


def _let_signals_in() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _end_group(group: int) -> None:
    """Kill the processes of a group, and wait until they are gone."""
    until = time.monotonic() + GONE_S
    with suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(group, signal.SIGKILL)
            time.sleep(0.02)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill parts of a realm, and say what happens to whom.")
    parser.add_argument("--players", type=int, default=300, help="how many (default: 300)")
    parser.add_argument("--processes", type=int, default=3, help="in how many processes (default: 3)")
    parser.add_argument(
        "--promises",
        type=Path,
        default=DOCUMENT,
        help="the document with the promises (default: %(default)s)",
    )
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only this one; may be repeated")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        return guard(sys.argv[1:])
    logging.basicConfig(level=logging.CRITICAL)  # the demo itself says what happens to its endpoints
    try:
        return run(options.promises, options.players, options.processes, options.fault or FAULTS)
    except (NoPromises, OSError) as error:
        say(f"UNEXPECTED: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
