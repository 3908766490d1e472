"""Fixtures of the core's tests: endpoints that are connected, with the test as their broker."""

from __future__ import annotations

import pytest
from support.corefakes import Desk, connected

from ringback.protocol.frames import Role


@pytest.fixture
def player() -> Desk:
    return connected(Role.PLAYER)


@pytest.fixture
def server() -> Desk:
    return connected(Role.SERVER)
