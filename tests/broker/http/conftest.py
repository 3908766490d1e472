"""Brokers with a dashboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.dashboards import OPTIONS, running
from support.harness import BrokerProcess


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    """Yield a broker with a dashboard, in a process of its own."""
    with BrokerProcess(options=OPTIONS) as broker:
        yield broker


@pytest.fixture(scope="module")
def calm() -> Iterator[str]:
    """Yield the URL of a broker with a dashboard that tests do not change."""
    with running(dashboard=True) as (_, url):
        yield url
