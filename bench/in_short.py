"""In short: where ringback is better than NATS, where the two are alike, and where NATS is better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from run import Rows, against, medians

OTHER, WORDS = "nats", "NATS"
ALIKE = 1.1
"""Within this factor, the two are alike: the drift of the machine does not let more be told apart."""

Results = dict[tuple[str, int], dict[str, Rows]]


class Comparison(NamedTuple):
    """One figure of one contender, beside that of NATS.

    Attributes:
        number: the calls in flight of a closed loop, or the calls per second of an open one; 0: neither.
        unit: how the figure is written, with a place for it.
        at_most: whether less is better.
    """

    words: str
    scenario: str
    number: int
    key: str
    unit: str
    at_most: bool
    contender: str = "ringback.aio"


RATE, US, MS = "{:,.0f}/s", "{:.0f} us", "{:.0f} ms"
ONE = {"up": "one player calls the server", "down": "the server calls one player"}
CLOSED = {**ONE, "down-100": "the server calls 100 players"}
OPEN = {"open-loop-down": "the server calls 200 players", "open-loop-up": "200 players call the server"}
BLOCKING = {
    "blocking face, 64 threads": "ringback",
    "blocking face, 64 in flight with callbacks": "ringback callbacks",
}
COMPARISONS = (
    *(
        Comparison(f"{words}, {number} in flight: calls", name, number, "calls_per_s", RATE, False)
        for name, words in CLOSED.items()
        for number in (64, 512)
    ),
    *(
        Comparison(f"{words}, 64 in flight: processor time a call", name, 64, "cpu_us", US, True)
        for name, words in CLOSED.items()
    ),
    Comparison("64 KiB each way, 64 in flight: calls", "blob", 64, "calls_per_s", RATE, False),
    *(
        Comparison(f"{words}, one call at a time: p50", name, 1, "p50_us", US, True)
        for name, words in ONE.items()
    ),
    *(
        Comparison(f"{words}, {number:,} calls a second: p99", name, number, "p99_us", US, True)
        for name, words in OPEN.items()
        for number in (1000, 5000, 10_000)
    ),
    Comparison("the server calls 1,000 players at once: time", "gather", 0, "median_ms", MS, True),
    Comparison("joins", "joins", 0, "joins_per_s", RATE, False),
    Comparison("memory of the broker for an idle player", "idle", 0, "kib_a_player", "{:.0f} KiB", True),
    Comparison(
        "processor time of the broker with 10,000 idle players",
        "idle",
        0,
        "idle_percent",
        "{:.1f} %",
        True,
    ),
    *(
        Comparison(f"{words}, {blocking}: calls", name, 64, "calls_per_s", RATE, False, contender)
        for blocking, contender in BLOCKING.items()
        for name, words in CLOSED.items()
    ),
)


class Line(NamedTuple):
    """A comparison that was measured.

    Attributes:
        ours, theirs: the medians of the rounds.
        ratio: the median of the ratios of each round. It is above 1 if ringback is better.
    """

    words: str
    ours: str
    theirs: str
    ratio: float


def lines(results: Results) -> Iterator[Line]:
    """Yield the comparisons that were measured."""
    for wanted in COMPARISONS:
        contenders = results.get((wanted.scenario, wanted.number), {})
        if wanted.contender in contenders and OTHER in contenders:
            ours, theirs = contenders[wanted.contender], contenders[OTHER]
            [ratio] = against(ours, theirs, wanted.key)
            figures = [wanted.unit.format(medians(rows)[wanted.key]) for rows in (ours, theirs)]
            yield Line(wanted.words, *figures, 1 / ratio if wanted.at_most else ratio)


def in_short(results: Results) -> dict[str, list[Line]]:
    """Return the comparisons under their titles, the best first."""
    found = sorted(lines(results), key=lambda line: line.ratio, reverse=True)
    return {
        f"ringback is better than {WORDS}": [line for line in found if line.ratio > ALIKE],
        "The two are alike": [line for line in found if 1 / ALIKE <= line.ratio <= ALIKE],
        f"{WORDS} is better than ringback": [line for line in found if line.ratio < 1 / ALIKE],
    }
