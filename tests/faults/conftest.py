"""Fixtures of the tests with faults, and the table of what they measured."""

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
    """Takes note of what was measured, a figure and its unit; `pytest -v` prints them all at the end."""
    return lambda what, figure, unit="s": record_property("measured", (what, figure, unit))


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network namespace, on Linux as root."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(Namespace())
        except NoNamespace as reason:
            pytest.skip(str(reason))
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "measured"
    ]
    if figures and terminalreporter.verbosity > 0:
        terminalreporter.section("measured")
        for what, figure, unit in figures:
            terminalreporter.write_line(f"{figure:9.3f} {unit:4} {what}")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A broker, and no worker yet."""
    with Cluster(tmp_path, [1, 2, "ann", "bob"]) as cluster:
        yield cluster
