"""What `ringback doctor` finds."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class Verdict(StrEnum):
    """Whether a finding is a problem."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"
    FAILED = "failed"


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        what: the subject of the check.
        found: what is there.
        advice: what the user can do; empty if nothing needs to be done.
        needed: whether something that is missing is needed, by the settings or an option.
    """

    what: str
    verdict: Verdict
    found: str
    advice: str = ""
    needed: bool = False

    @property
    def is_problem(self) -> bool:
        """Whether a broker or the command would fail because of it."""
        return self.verdict is Verdict.FAILED or (self.verdict is Verdict.MISSING and self.needed)


def missing_file(what: str, path: str, advice: str) -> Finding | None:
    """Return the finding that a file which a setting or an option names does not exist; None if it does."""
    if Path(path).exists():
        return None
    return Finding(what, Verdict.MISSING, f"the file {path} does not exist", advice, needed=True)
