"""Fixtures that all tests share, and the table of the figures that some tests measure."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.harness import BrokerProcess, ipc_addresses

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell may start a background job like this. The processes of tests would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_line_is_folded_into_another_test() -> None:
    """Let each test see the first line of each kind."""
    for name in ("ringback._runtime.log", "ringback_broker.daemon.containment"):
        if name in sys.modules:
            sys.modules[name].folding.reset()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for the path of a Unix socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="rb"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    """Start a broker process on TCP for this test alone."""
    with BrokerProcess() as process:
        yield process


@pytest.fixture(params=["tcp", "ipc"])
def any_broker(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[BrokerProcess]:
    """Start a broker process for this test alone: on TCP, then on ipc."""
    if request.param == "tcp":
        with BrokerProcess() as process:
            yield process
    else:
        players, backend = ipc_addresses(short_folder)
        with BrokerProcess(players, backend) as process:
            yield process


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests have measured."""
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
