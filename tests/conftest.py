"""Fixtures that all tests share, and the table of the figures that some tests measure."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from support import summary
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


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(summary)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--runs",
        type=int,
        default=1,
        help="how often to run each test that measures a promised time",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests that measure a promised time several times, if that was asked for."""
    runs = metafunc.config.getoption("--runs")
    if runs > 1 and {"promise", "timed"} & set(metafunc.fixturenames):
        metafunc.fixturenames.append("run")
        metafunc.parametrize("run", range(runs))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the run for the outcome of tests that `make faults` alone runs: the other run sees it."""
    twice = [
        item
        for item in items
        if isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and item.callspec.params.get("promise") is False
        and item.get_closest_marker("faults")
    ]
    if twice:
        config.hook.pytest_deselected(items=twice)
        items[:] = [item for item in items if item not in set(twice)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests have measured. Of several runs: the worst, the median and how many."""
    found: dict[str, list[tuple[float, str, float | None]]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "measured" and report.when == "call":
                    what, figure, unit, *bound = value
                    found.setdefault(what, []).append((figure, unit, *(bound or [None])))
    if found and terminalreporter.verbosity > 0:
        terminalreporter.section("measured")
        for what, figures in found.items():
            terminalreporter.write_line(_row(what, figures))


def _row(what: str, figures: list[tuple[float, str, float | None]]) -> str:
    """Return a line with a figure, or with what is worst of several ones."""
    values = [figure for figure, _, _ in figures]
    _, unit, bound = figures[0]
    row = f"{max(values):9.3f} {unit:4} {what}"
    if bound is not None:
        row += f" (at most {bound:g})"
    return row if len(values) == 1 else f"{row}: the worst of {len(values)}; median {median(values):.3f}"
