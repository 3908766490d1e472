"""Fixtures: a realm of three nodes on one NATS server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.realm_processes import RealmOfProcesses


@pytest.fixture
def realm() -> Iterator[RealmOfProcesses]:
    """Start a realm for this test alone."""
    with RealmOfProcesses() as realm:
        yield realm


@pytest.fixture(scope="module")
def shared() -> Iterator[RealmOfProcesses]:
    """Start a realm for all tests of a module. No test may stop a part of it."""
    with RealmOfProcesses() as realm:
        yield realm
