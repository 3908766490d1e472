"""`ringback ping` as a process, at a real broker."""

from __future__ import annotations

import json
from typing import Any

from ringback_cli.exits import Exit


def table(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_ping(shop: Any) -> None:
    code, output, errors = shop.run("ping", "--count", "20")
    assert (code, errors) == (Exit.OK, "")
    head, row = table(output)
    assert " ".join(head) == "broker round trips min ms p50 ms p90 ms p99 ms max ms"
    assert row[:2] == [shop.broker.backend, "20"]
    times = list(map(float, row[2:]))
    assert times == sorted(times) and times[0] > 0
    _, output, _ = shop.run("ping", "--count", "1", "--json")
    found = json.loads(output)
    assert found["broker"] == shop.broker.backend
    [only] = found["round_trips_ms"]
    assert [found[f"{name}_ms"] for name in ("min", "p50", "p90", "p99", "max")] == [only] * 5
    _, output, _ = shop.run("ping", "--count", "4", "--json")
    assert len(json.loads(output)["round_trips_ms"]) == 4
