"""Fixtures for the tests with faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from faults.cluster import Cluster
from faults.network import Namespace, NoNamespace

Measure = Callable[..., None]


@pytest.fixture
def measure(record_property: Callable[[str, object], None]) -> Measure:
    """Return a function that records a figure and its unit. `pytest -v` prints all of them at the end."""
    return lambda what, figure, unit="s": record_property("measured", (what, figure, unit))


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """Make a network namespace. Skip the test if that is not possible: it needs Linux and root."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(Namespace())
        except NoNamespace as reason:
            pytest.skip(str(reason))
        yield made


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Start a broker, without workers."""
    with Cluster(tmp_path, [1, 2, "ann", "bob"]) as cluster:
        yield cluster
