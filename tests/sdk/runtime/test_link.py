"""The options of the socket of a link are those in docs/protocol.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import zmq

from ringback._runtime.link import Link
from ringback.protocol.limits import PLAYER_HEARTBEAT_S, TRUSTED_HEARTBEAT_S

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()


@pytest.mark.parametrize("trusted", [False, True])
def test_heartbeats_are_as_documented_and_find_a_silent_broker_within_two_seconds(trusted: bool) -> None:
    heartbeat_s = TRUSTED_HEARTBEAT_S if trusted else PLAYER_HEARTBEAT_S
    link = Link("tcp://127.0.0.1:1", trusted, int(1000 * heartbeat_s))
    try:
        for name in ("HEARTBEAT_IVL", "HEARTBEAT_TIMEOUT", "HEARTBEAT_TTL", "MAXMSGSIZE", "RECONNECT_IVL"):
            [row] = re.findall(rf"^\| `{name}` \| (\S+) \| (\S+) \|", DOCUMENT, re.MULTILINE)
            assert link.socket.getsockopt(getattr(zmq, name)) == int(row[trusted]), name
        silent_ms = link.socket.getsockopt(zmq.HEARTBEAT_IVL) + link.socket.getsockopt(zmq.HEARTBEAT_TIMEOUT)
        assert silent_ms <= 2000
    finally:
        link.close()
