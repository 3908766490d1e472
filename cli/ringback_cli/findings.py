"""What `ringback doctor` finds."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """Whether a finding is a problem."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        what: the subject of the check.
        found: what is there.
        advice: what the user can do; empty if nothing needs to be done.
    """

    what: str
    verdict: Verdict
    found: str
    advice: str = ""
