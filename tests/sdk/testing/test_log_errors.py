"""Exceptions whose classes raise when they are looked at: they reach the test like all others."""

from __future__ import annotations

from typing import Any

import pytest

from ringback import Code
from ringback.testing import Endpoints
from ringback.testing.log_errors import Errors


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise KeyError


class Unhashable(Exception):
    __hash__ = None  # type: ignore[assignment]


class OddNotes(Exception):
    __notes__: Any = 7


class NoNotes(Exception):
    def add_note(self, _note: str, /) -> None:
        raise ValueError


KINDS = [Unspeakable, Unhashable, OddNotes, NoNotes]


def failed(endpoints: Endpoints, kind: type[Exception]) -> None:
    """Have a handler fail."""
    server, player = endpoints.server(), endpoints.player(7)

    @server.register_server_callback("fail")
    def fail(source: Any, payload: Any) -> None:
        raise kind

    error = player.trigger_server_callback("fail").error
    assert error is not None and error.code is Code.HANDLER_ERROR


@pytest.mark.parametrize("kind", KINDS)
def test_expected(ringback_endpoints: Endpoints, ringback_errors: Errors, kind: type[Exception]) -> None:
    ringback_errors.expect(kind, match="the handler of 'fail' failed")
    failed(ringback_endpoints, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_not_expected(ringback_endpoints: Endpoints, ringback_errors: Errors, kind: type[Exception]) -> None:
    failed(ringback_endpoints, kind)
    with pytest.raises(kind):
        ringback_errors.check()
