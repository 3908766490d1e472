"""Gather: the server asks all players at once, and waits for all replies."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from math import ceil
from statistics import median
from typing import Any, Protocol, cast

from ringback_cli.load import AsyncioEnd, End


class Gatherer(Protocol):
    """The server of a contender that can call all players at once."""

    async def gather(self, payload: Any) -> list[Any]:
        """Call all players with this payload, and return their results."""
        ...


def gather(end: End, asked: Mapping[str, Any], share: float) -> dict[str, float]:
    """Ask all players again and again, and return the figures.

    Args:
        end: the server.
        asked: `times`: how often; `players`: how many players must reply.
        share: how much of that to measure.
    """
    assert isinstance(end, AsyncioEnd)
    took_s = end.runner.run(_durations_s(end, ceil(asked["times"] * share), asked["players"]))
    return {
        "calls": len(took_s) * asked["players"],
        "median_ms": 1000 * median(took_s),
        "worst_ms": 1000 * max(took_s),
    }


async def _durations_s(end: AsyncioEnd, times: int, players: int) -> list[float]:
    server, durations = cast(Gatherer, end), []
    for number in range(times):
        started_at = time.perf_counter()
        results = await server.gather(end.work.payload(number))
        durations.append(time.perf_counter() - started_at)
        if len(results) != players:
            sys.exit(f"{len(results)} players replied, not {players}")
        for result in results:
            end.work.check(number, result)
    return durations
