"""The plugin of pytest. pytest finds it by its entry point, and loads it in each program that has ringback.

So it imports little here: the rest is loaded when a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ringback.testing.endpoints import AioEndpoints, Endpoints
    from ringback.testing.local_broker import LocalBroker
    from ringback.testing.log_errors import Errors
    from ringback.testing.network import Network
    from ringback.testing.recording import AioCalls, Calls

_ERRORS: pytest.StashKey[Errors] = pytest.StashKey()


@pytest.fixture
def ringback_settings() -> dict[str, Any]:
    """The settings of the broker, as for `BrokerSettings`. Override this fixture to change them."""
    return {}


@pytest.fixture
def ringback_errors(request: pytest.FixtureRequest) -> Iterator[Errors]:
    """The errors that ringback logs, as `Errors`. They fail the test unless it expects them."""
    from ringback.testing.log_errors import Errors

    errors = request.node.stash[_ERRORS] = Errors()
    with errors.watching():
        yield errors
    errors.check()


@pytest.fixture
def ringback_broker(
    request: pytest.FixtureRequest, ringback_errors: Errors, ringback_settings: dict[str, Any]
) -> Iterator[LocalBroker]:
    """A broker in this process, on free ports: a `LocalBroker`."""
    from ringback.testing.local_broker import LocalBroker

    proxied = "ringback_network" in request.fixturenames
    with LocalBroker(proxied=proxied, **ringback_settings) as broker:
        yield broker


@pytest.fixture
def ringback_network(ringback_broker: LocalBroker) -> Network:
    """The network between endpoints and the broker: a `Network`."""
    return ringback_broker.network


@pytest.fixture
def ringback_endpoints(ringback_broker: LocalBroker) -> Iterator[Endpoints]:
    """`Endpoints`: makes endpoints of the blocking face, and closes them at the end."""
    from ringback.testing.endpoints import Endpoints

    endpoints = Endpoints(ringback_broker)
    yield endpoints
    endpoints.close()


@pytest.fixture
def ringback_aio_endpoints(ringback_broker: LocalBroker) -> Iterator[AioEndpoints]:
    """`AioEndpoints`: makes endpoints of the asyncio face, and closes them at the end."""
    from ringback.testing.endpoints import AioEndpoints

    endpoints = AioEndpoints(ringback_broker)
    yield endpoints
    endpoints.close_all()


@pytest.fixture
def ringback_calls(ringback_broker: LocalBroker) -> Iterator[Calls]:
    """`Calls`: records the calls of the endpoints of this process, for tests that block."""
    from ringback.testing.recording import Calls, recording

    calls = Calls()
    with recording(calls, ringback_broker.has_address):
        yield calls


@pytest.fixture
def ringback_aio_calls(ringback_broker: LocalBroker) -> Iterator[AioCalls]:
    """`AioCalls`: records the calls of the endpoints of this process, for tests that await."""
    from ringback.testing.recording import AioCalls, recording

    calls = AioCalls()
    with recording(calls, ringback_broker.has_address):
        yield calls


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let a test fail with the errors that ringback logged meanwhile."""
    __tracebackhide__ = True
    try:
        result = yield
    except BaseException as failure:
        if (errors := item.stash.get(_ERRORS, None)) is not None:
            errors.explain(failure)
        raise
    if (errors := item.stash.get(_ERRORS, None)) is not None:
        errors.check()
    return result
