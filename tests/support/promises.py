"""Times that the documents promise: measured where tests run alone, not enforced on a busy machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Promise = Callable[[str, float, float], None]


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.faults)], ids=["outcome", "time"])
def promise(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Promise:
    """Return a function that takes what was measured, how many seconds it took, and how many it may take.

    Each test with this fixture runs twice: in `make test` for its outcome, in `make faults` for its times.
    """
    return _promise(bool(request.param), record_property)


@pytest.fixture
def timed(record_property: Callable[[str, object], None]) -> Promise:
    """Return the same function for a test that runs in `make faults` alone."""
    return _promise(True, record_property)


def _promise(counts: bool, record_property: Callable[[str, object], None]) -> Promise:
    def kept(what: str, took_s: float, within_s: float) -> None:
        record_property("measured", (what, took_s, "s", within_s))
        assert not counts or took_s < within_s, (what, took_s, within_s)

    return kept
