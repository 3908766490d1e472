"""Fixtures of the SDK's tests: a face, and a broker for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.faces import FACES, Face, HereBroker, sdk_log

__all__ = ["sdk_log"]


@pytest.fixture(params=FACES, ids=lambda face: face.name)
def face(request: pytest.FixtureRequest) -> Face:
    """The blocking face, and then the asyncio one."""
    chosen: Face = request.param
    return chosen


@pytest.fixture
def here() -> Iterator[HereBroker]:
    """A broker in this process, on TCP."""
    with HereBroker() as broker:
        yield broker
