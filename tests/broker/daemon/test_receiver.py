"""Receiving from strangers, in a case that cannot be brought about from outside."""

from __future__ import annotations

from typing import Any

import zmq
from support.switchboards import FakeWire

from ringback_broker.daemon.stranger_receiver import StrangerReceiver
from ringback_broker.peers.connection import Side
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard.switchboard import Switchboard


class Nowhere:
    """A socket whose messages come from a connection that libzmq does not know any more."""

    side = Side.PLAYERS
    address = "tcp://127.0.0.1:1"
    socket = events = property(lambda self: self)

    def recv(self, flags: int, copy: bool) -> zmq.Frame:
        return zmq.Frame(b"hello")

    def receive_parts(self, first: bytes) -> list[bytes]:
        return [first]

    def note(self, now: float) -> None: ...

    def take(self, descriptor: int) -> list[Any]:
        return []


def test_a_message_whose_origin_is_unknown_is_dropped() -> None:
    switchboard = Switchboard(BrokerSettings(), FakeWire())
    nowhere: Any = Nowhere()
    strangers = StrangerReceiver(nowhere, switchboard, has_keys=False)
    strangers.receive(b"somebody")
    strangers.deliver(0.0)
    assert switchboard.counters.stranger_messages == 1
    assert strangers.kept == []
