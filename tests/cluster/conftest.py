"""Fixtures: realms of three nodes on one NATS server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.promises import promise as promise
from support.promises import timed as timed
from support.realm_processes import LEASE_S, RealmOfProcesses


@pytest.fixture
def realm() -> Iterator[RealmOfProcesses]:
    """Start a realm for this test alone. No lease ends in it, so nothing can wait for that."""
    with RealmOfProcesses() as realm:
        yield realm


@pytest.fixture
def short() -> Iterator[RealmOfProcesses]:
    """Start a realm with the shortest lease."""
    with RealmOfProcesses(lease_s=LEASE_S) as realm:
        yield realm


@pytest.fixture(scope="module")
def shared() -> Iterator[RealmOfProcesses]:
    """Start a realm for all tests of a module. No test may stop a part of it."""
    with RealmOfProcesses() as realm:
        yield realm
