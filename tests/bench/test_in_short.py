"""All measurements in short, with planted ones."""

from __future__ import annotations

import in_short
import report
from run import Rows


def rows(key: str, *figures: float) -> Rows:
    return [{key: figure} for figure in figures]


def test_each_comparison_is_under_its_title_with_the_best_first() -> None:
    found = in_short.in_short(
        {
            ("up", 512): {
                "ringback.aio": rows("calls_per_s", 2000.0, 900.0, 4000.0),
                "nats": rows("calls_per_s", 1000.0, 900.0, 1000.0),
            },
            ("open-loop-up", 5000): {"ringback.aio": rows("p99_us", 300.0), "nats": rows("p99_us", 900.0)},
            ("blob", 64): {"ringback.aio": rows("calls_per_s", 109.0), "nats": rows("calls_per_s", 100.0)},
            ("joins", 0): {"ringback.aio": rows("joins_per_s", 50.0), "nats": rows("joins_per_s", 100.0)},
            ("idle", 0): {"ringback.aio": rows("kib_a_player", 50.0), "proxy": rows("kib_a_player", 60.0)},
        }
    )
    assert list(found.values()) == [
        [
            ("200 players call the server, 5,000 calls a second: p99", "300 us", "900 us", 3.0),
            ("one player calls the server, 512 in flight: calls", "2,000/s", "1,000/s", 2.0),
        ],
        [("64 KiB each way, 64 in flight: calls", "109/s", "100/s", 1.09)],
        [("joins", "50/s", "100/s", 0.5)],
    ]


def test_the_page_says_what_its_tables_say() -> None:
    page = report.DOCUMENT.read_text()
    results = report.service_levels.by_situation(report.read_rows(report.DOCS / "service-levels.jsonl")[1])
    results |= report.read(report.DOCS / "performance.jsonl").results
    assert report.short_text(results) in page
    assert len(list(in_short.lines(results))) == len(in_short.COMPARISONS)
    assert page.index("## In short") < page.index("## Service levels")


def test_what_was_not_measured_is_nowhere() -> None:
    assert report.short_text({}).count("Nowhere.") == 3
