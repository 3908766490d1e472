"""The watch for messages without an end, with a memory and a clock that the test sets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.switchboards import Desk

from ringback.protocol import control
from ringback.protocol.frames import Role
from ringback_broker.admission.unfinished import MAX_UNFINISHED_BYTES
from ringback_broker.daemon import unfinished_watch
from ringback_broker.daemon.unfinished_watch import (
    ALERT_S,
    GROWTH_BYTES,
    LOOK_AGAIN_S,
    LOOK_S,
    PATIENCE_S,
    UnfinishedWatch,
)
from ringback_broker.peers.connection import Side


class Scene:
    """A player whose connection is a real one, and a watch that sees the memory that the test sets."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.desk = Desk()
        self.memory = 100 * GROWTH_BYTES
        self.waiting = False
        routers: Any = dict.fromkeys(Side, self)
        self.watch = UnfinishedWatch(self.desk.switchboard, routers, lambda: self.memory, lambda: 0.0)
        self.peer = self.desk.connect(descriptor=near.fileno())

    def has_more(self) -> bool:
        return self.waiting

    def comes(self, size: int) -> None:
        """Have bytes sent and read."""
        content = bytes(65536)
        while size > 0:
            sent = self.far.send(content[:size])
            size -= sent
            self.near.recv(sent, socket.MSG_WAITALL)

    def look(self, after_s: float = LOOK_S) -> float:
        self.desk.now += after_s
        return self.watch.look(self.desk.now) - self.desk.now

    @property
    def closed(self) -> int:
        return len(self.desk.wire.closed)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    with near, far:
        yield Scene(near, far)


def test_nothing_is_asked_while_the_memory_stays(scene: Scene) -> None:
    scene.comes(MAX_UNFINISHED_BYTES + 1)
    scene.memory += GROWTH_BYTES - 1
    assert [scene.look() for _ in range(3)] == [pytest.approx(LOOK_S)] * 3 and scene.closed == 0


def test_a_connection_that_fills_the_memory_is_closed_at_the_second_look(scene: Scene) -> None:
    scene.comes(MAX_UNFINISHED_BYTES + 1)
    scene.memory += GROWTH_BYTES
    assert scene.look() == pytest.approx(LOOK_AGAIN_S) and scene.closed == 0
    scene.look()
    assert scene.desk.wire.closed == [(Side.PLAYERS, scene.peer.connection)]
    assert scene.desk.counters.messages_unfinished == 1


def test_one_byte_less_is_let_pass(scene: Scene) -> None:
    scene.comes(MAX_UNFINISHED_BYTES)
    scene.memory += GROWTH_BYTES
    for _ in range(20):
        scene.look(ALERT_S / 2)
    assert scene.closed == 0


def test_a_message_that_was_whole_clears_the_connection(scene: Scene) -> None:
    scene.comes(MAX_UNFINISHED_BYTES + 1)
    scene.memory += GROWTH_BYTES
    scene.look()
    scene.peer.say(control.Hello(Role.PLAYER, 7))
    scene.look()
    assert scene.closed == 0 and scene.desk.counters.messages_unfinished == 0


def test_it_judges_when_nothing_waits_or_after_some_time(scene: Scene) -> None:
    scene.comes(MAX_UNFINISHED_BYTES + 1)
    scene.memory += GROWTH_BYTES
    scene.waiting = True
    scene.look()
    scene.look(PATIENCE_S / 2)
    assert scene.closed == 0
    scene.look(PATIENCE_S)
    assert scene.closed == 1


def test_what_came_after_the_last_growth_is_found_at_the_end_of_the_alert(scene: Scene) -> None:
    scene.memory += GROWTH_BYTES
    scene.look()
    scene.comes(MAX_UNFINISHED_BYTES + 1)
    scene.look(ALERT_S)
    scene.look()
    assert scene.closed == 1


def test_memory_that_was_freed_counts_anew(scene: Scene) -> None:
    scene.memory -= 10 * GROWTH_BYTES
    scene.look()
    scene.comes(MAX_UNFINISHED_BYTES + 1)
    scene.memory += GROWTH_BYTES
    scene.look()
    scene.look()
    assert scene.closed == 1


def test_memory_goes_back_to_the_system_once_after_a_connection_was_closed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """glibc would keep it, and the watch would not see how the next flood fills it."""
    given: list[int] = []
    monkeypatch.setattr(unfinished_watch, "_malloc_trim", given.append)
    scene.memory += GROWTH_BYTES
    scene.look()
    scene.look(ALERT_S)
    assert given == []  # nothing was closed
    scene.comes(MAX_UNFINISHED_BYTES + 1)
    scene.memory += GROWTH_BYTES
    scene.look()
    scene.look()
    assert scene.closed == 1
    scene.desk.switchboard.disconnected(Side.PLAYERS, scene.peer.connection, "")
    scene.look(ALERT_S)
    scene.look(ALERT_S)
    scene.look(ALERT_S)
    assert given == [0]
