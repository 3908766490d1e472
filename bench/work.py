"""The work that is measured, the same for every contender: a key, a small payload, a checked result."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

KEY = "shop:items"
_ITEMS = {
    category: [{"name": f"{category}-{i}", "price": 10 * i, "stock": i} for i in range(3)]
    for category in ("food", "tools", "books", "toys")
}
CATEGORIES = tuple(_ITEMS)


def payload_of(number: int) -> dict[str, Any]:
    """Gives what call number n asks: about 30 bytes encoded."""
    return {"category": CATEGORIES[number % len(CATEGORIES)], "number": number}


def handle(payload: dict[str, Any]) -> dict[str, Any]:
    """What the handler does: about 100 bytes encoded."""
    return {"number": payload["number"], "items": _ITEMS[payload["category"]]}


def check(number: int, result: Any) -> None:
    """Ends the benchmark if a result is not the one of its call."""
    if result["number"] != number or result["items"][0]["name"] != f"{CATEGORIES[number % 4]}-0":
        sys.exit(f"call {number} got the result {result!r}")


class Stopwatch:
    """Latencies of the calls between `start` and `report`; the driver reads its two lines."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []

    def start(self) -> None:
        print("START", flush=True)
        # The driver has read the processor times of all processes when it answers.
        sys.stdin.readline()
        self._started = time.perf_counter()

    def report(self) -> None:
        elapsed_s = time.perf_counter() - self._started
        latencies = sorted(self.latencies_s)
        figures = {
            "calls": len(latencies),
            "elapsed_s": elapsed_s,
            "p50_us": 1e6 * latencies[len(latencies) // 2],
            "p99_us": 1e6 * latencies[len(latencies) * 99 // 100],
        }
        print(json.dumps(figures), flush=True)
        sys.stdin.readline()
