"""The last line of `make test`: what ran, what was skipped, and why.

As a plugin of pytest, it writes the outcomes of a run to the file that TEST_RESULTS names. As a program, it
reads the files of all runs, and prints the line:

python tests/support/summary.py FOLDER EXIT_CODE
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

STAGES = {
    "pure": "tests of the pure folders",
    "random": "tests with random inputs",
    "waiting": "tests with processes",
}
"""What the runs of `make test` are called, by the names of their files."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the outcomes of this run, if TEST_RESULTS names a file."""
    file = os.environ.get("TEST_RESULTS")
    if file:
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(outcomes_of(terminalreporter)))


def outcomes_of(reporter: pytest.TerminalReporter) -> dict[str, Any]:
    """Return how many tests passed and failed, and the reasons of those that were skipped."""
    skipped = Counter(_reason(report) for report in reporter.getreports("skipped"))
    failed = len(reporter.getreports("failed")) + len(reporter.getreports("error"))
    return {"passed": len(reporter.getreports("passed")), "failed": failed, "skipped": dict(skipped)}


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def line(folder: Path, code: int) -> str:
    """Return the line for the results in a folder.

    Args:
        code: the exit code of the checks.
    """
    ran, left_out, skipped = [], [], Counter[str]()
    for stage, name in STAGES.items():
        path = folder / f"{stage}.json"
        if path.exists():
            outcomes = json.loads(path.read_text())
            failed = f" ({outcomes['failed']} failed)" if outcomes["failed"] else ""
            ran.append(f"{outcomes['passed'] + outcomes['failed']} {name}{failed}")
            skipped.update(outcomes["skipped"])
        else:
            left_out.append(name)
    parts = [", ".join(["lint", "types", *ran]) if code == 0 else f"ran {', '.join(ran) or 'no tests'}"]
    if left_out:
        parts.append(f"did not run: {', '.join(left_out)}")
    reasons = ", ".join(f"{number} x {reason}" for reason, number in sorted(skipped.items()))
    parts.append(f"{skipped.total()} skipped: {reasons}" if skipped else "nothing skipped")
    verdict = "all checks passed" if code == 0 else "FAILED, see above"
    return f"make test: {verdict}: {'; '.join(parts)}"


if __name__ == "__main__":
    print(line(Path(sys.argv[1]), int(sys.argv[2])))
