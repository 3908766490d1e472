"""An event loop in turns: it never waits, and says when it has something to do."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from support.harness import PATIENCE_S

from ringback_broker.nats.turns import ROUNDS, Turns


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns()
    yield turns
    turns.close()


def test_a_turn_without_anything_to_do_ends_at_once(turns: Turns) -> None:
    turns.run()
    assert turns.due == float("inf")


def test_a_turn_does_all_that_is_ready(turns: Turns) -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)
        await asyncio.sleep(0)
        done.append(2)

    turns.loop.create_task(work())
    turns.run()
    assert done == [1, 2] and turns.due == float("inf")


def test_a_turn_ends_even_if_there_is_more_to_do(turns: Turns) -> None:
    rounds: list[None] = []

    def again() -> None:
        rounds.append(None)
        turns.loop.call_soon(again)

    again()
    for turn in range(1, 4):
        turns.run()
        assert len(rounds) == 1 + turn * ROUNDS
        assert turns.due <= time.monotonic()


def test_a_timer_makes_it_due(turns: Turns) -> None:
    done: list[str] = []
    turns.loop.call_later(1000.0, done.append, "late")
    before = time.monotonic()
    turns.loop.call_later(0.05, done.append, "soon")
    turns.run()
    assert before <= turns.due <= time.monotonic() + 0.05
    deadline = time.monotonic() + PATIENCE_S
    while not done and time.monotonic() < deadline:
        select.select([turns], [], [], max(0.0, turns.due - time.monotonic()))
        turns.run()
    assert done == ["soon"] and time.monotonic() - before >= 0.05
    assert turns.due >= before + 999.0


def test_what_comes_makes_its_descriptor_readable(turns: Turns) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        came: list[bytes] = []
        ours.setblocking(False)
        turns.loop.add_reader(ours, lambda: came.append(ours.recv(100)))
        turns.run()
        assert not select.select([turns], [], [], 0)[0]
        theirs.send(b"hello")
        assert select.select([turns], [], [], PATIENCE_S)[0]
        turns.run()
        assert came == [b"hello"]
        assert not select.select([turns], [], [], 0)[0]
        turns.loop.remove_reader(ours)


def test_another_thread_can_wake_it(turns: Turns) -> None:
    """A name is looked up in a thread."""
    done: list[object] = []
    go = threading.Event()
    turns.loop.run_in_executor(None, go.wait).add_done_callback(done.append)
    turns.run()
    assert not done and turns.due == float("inf")
    go.set()
    assert select.select([turns], [], [], PATIENCE_S)[0]
    turns.run()
    assert done


def test_the_end_waits_for_the_main_task_and_cancels_the_others() -> None:
    turns = Turns()
    done: list[str] = []

    async def other() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            done.append("other")

    async def main() -> None:
        await asyncio.sleep(0.01)
        done.append("main")

    task = turns.loop.create_task(main())
    turns.loop.create_task(other())
    turns.run()
    turns.end(task, PATIENCE_S)
    assert done == ["main", "other"]
    assert turns.loop.is_closed() and turns.fileno() == -1


def test_the_end_does_not_wait_for_ever() -> None:
    turns = Turns()
    task = turns.loop.create_task(asyncio.sleep(1000))
    turns.end(task, 0.01)
    assert task.cancelled() and turns.loop.is_closed()
