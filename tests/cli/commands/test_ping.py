"""`ringback ping` as a process, at a real broker."""

from __future__ import annotations

import json
from typing import Any

from ringback_cli.exits import Exit


def table(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_ping_with_several_addresses(shop: Any) -> None:
    """It names the one that answered."""
    for backend in (f"tcp://127.0.0.1:1,{shop.broker.backend}", f"{shop.broker.backend}, tcp://127.0.0.1:1"):
        code, output, errors = shop.run("ping", "--backend", backend, "--count", "1", "--json")
        assert (code, errors) == (Exit.OK, "")
        assert json.loads(output)["broker"] == shop.broker.backend
    code, output, errors = shop.run(
        "ping", "--backend", "tcp://127.0.0.1:1,tcp://127.0.0.2:1", "--timeout", "0.5"
    )
    assert (code, output) == (Exit.NO_BROKER, "")
    for ip in ("127.0.0.1", "127.0.0.2"):
        assert f"tcp://{ip}:1: the connection was refused" in errors


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
