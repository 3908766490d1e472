"""What docs/scale.md promises of the demo, and whether it was kept. Nothing here runs anything."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

NATS, NODE, SEAT, SERVER, CROWD = (
    "the server of NATS that leads",
    "a node",
    "the node of the server",
    "the server",
    "a process of players",
)
"""The faults, as docs/scale.md calls them."""

ROW = re.compile(r"\| (.+?) \| (.+?) \| (.+?) \| ([\d.]+) s \|")


class NoPromises(Exception):
    """The document has no table of promises, or not the rows that the demo needs."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A row of the table.

    Attributes:
        what: what is killed.
        goes_on: which calls go on, in words.
        happens: what happens to the others.
        within_s: how soon all calls work again.
    """

    what: str
    goes_on: str
    happens: str
    within_s: float

    def words(self) -> str:
        return f"{self.goes_on}; {self.happens}; all work within {self.within_s:g} s"


@dataclass(slots=True)
class Group:
    """What happened to some players.

    Attributes:
        who: they, in words.
        players: their IDs.
        node: where they all are; "": at several nodes.
        failed: how many of their calls failed, both ways, by error code.
        working: when calls of each work again, both ways, in seconds after the fault. Those of which no call
            failed have the time of their next result.
    """

    who: str
    players: set[Any]
    node: str = ""
    failed: Counter[str] = field(default_factory=Counter)
    working: dict[Any, float] = field(default_factory=dict)

    @property
    def works_after_s(self) -> float | None:
        """When calls of all work again; None: those of some do not."""
        if self.players - self.working.keys():
            return None
        return max(self.working.values(), default=0.0)

    def words(self) -> str:
        """Return what happened to them."""
        if not self.failed.total():
            return "no call failed" if self.works_after_s is not None else "some have no call with a result"
        took_s = self.works_after_s
        end = "some still fail" if took_s is None else f"all work again after {took_s:.1f} s"
        return f"{self.failed.total()} calls failed{self.codes()}; {end}"

    def codes(self) -> str:
        """Return the error codes of the calls that failed, in parentheses."""
        codes = ", ".join(f"{count} {code}" for code, count in self.failed.most_common())
        return f" ({codes})" if codes else ""


def read_promises(document: str, needed: Iterable[str]) -> dict[str, Promise]:
    """Return the promises that a document makes of the demo, by what is killed.

    Args:
        needed: what is going to be killed.

    Raises:
        NoPromises: it has none for some of that.
    """
    _, _, after = document.partition("<!-- make cluster-demo -->\n")
    table = after.partition("\n\n")[0]
    rows = ROW.findall(table)
    found = {what: Promise(what, goes_on, happens, float(s)) for what, goes_on, happens, s in rows}
    if missing := [what for what in needed if what not in found]:
        raise NoPromises(f"no row after <!-- make cluster-demo --> says: {', '.join(missing)}")
    return found


def judge(promise: Promise, spared: list[Group], touched: list[Group]) -> list[str]:
    """Return how what happened differs from the promise, each difference in words."""
    found = []
    for group in spared:
        if group.failed.total() or group.works_after_s is None:
            found.append(f"{group.who}: {group.words()}, and these calls should go on")
    for group in touched:
        took_s = group.works_after_s
        if took_s is None:
            found.append(f"{group.who}: {group.words()}, and all should work within {promise.within_s:g} s")
        elif group.failed.total() and took_s > promise.within_s:
            found.append(
                f"{group.who}: all work again after {took_s:.1f} s, and should within {promise.within_s:g} s"
            )
    return found


def judge_time(promise: Promise, what: str, took_s: float | None) -> list[str]:
    """Return how a time differs from the promise: nothing, or one difference.

    Args:
        took_s: None: it did not happen.
    """
    if took_s is None:
        return [f"{what}: not at all, and should within {promise.within_s:g} s"]
    if took_s > promise.within_s:
        return [f"{what}: after {took_s:.1f} s, and should within {promise.within_s:g} s"]
    return []
