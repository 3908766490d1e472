"""The objects that each call uses: Python looks their attributes up faster if there are not too many."""

from __future__ import annotations

import asyncio

from support.harness import BrokerProcess

import ringback
import ringback.aio

MOST = 28
"""CPython 3.11 keeps the attributes of a class's only object without a dict if they are at most 29. One is
spare. With more, each call took 1,000 instructions more at a server."""


def check(endpoint: ringback.Server | ringback.aio.Server) -> None:
    core = endpoint._endpoint
    for part in (endpoint, endpoint._shell, core._state, core._calls_in, core._calls_out, core._outbox):
        assert len(getattr(part, "__dict__", {})) <= MOST, part  # none if it has slots


def test_asyncio(broker: BrokerProcess) -> None:
    async def main() -> None:
        async with ringback.aio.Server(broker.backend) as server:
            check(server)

    asyncio.run(main())


def test_blocking(broker: BrokerProcess) -> None:
    with ringback.Server(broker.backend) as server:
        check(server)
