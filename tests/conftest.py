"""Fixtures that all tests share."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.harness import BrokerProcess, ipc_addresses

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a job in the background of a shell may be started; processes of tests would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="rb"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    """A broker process of the test's own, on TCP."""
    with BrokerProcess() as process:
        yield process


@pytest.fixture(params=["tcp", "ipc"])
def any_broker(request: pytest.FixtureRequest, short_folder: Path) -> Iterator[BrokerProcess]:
    """A broker process of the test's own, on TCP and then on ipc."""
    if request.param == "tcp":
        with BrokerProcess() as process:
            yield process
    else:
        players, backend = ipc_addresses(short_folder)
        with BrokerProcess(players, backend) as process:
            yield process
