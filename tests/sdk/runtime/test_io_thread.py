"""The I/O thread of the blocking face: one for all endpoints, from the first start to the last close."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from support.faces import HereBroker, Seen
from support.harness import PATIENCE_S, eventually

import ringback
from ringback._runtime.io_thread import LONGEST_PAUSE_S, SPARE_TIMERS, IOThread
from ringback.errors import UsageError


def io_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ringback-io"]


@contextmanager
def echoing(here: HereBroker, players: int = 1) -> Iterator[tuple[ringback.Server, list[ringback.Player]]]:
    """Start a server and players that reply with what they get."""
    with ExitStack() as stack:
        server = stack.enter_context(ringback.Server(here.backend))
        server.register_server_callback("echo", lambda source, payload: payload)
        some = [stack.enter_context(ringback.Player(here.players)) for _ in range(players)]
        for player in some:
            player.register_client_callback("echo", lambda payload: payload)
        yield server, some


def check(server: ringback.Server, players: list[ringback.Player]) -> None:
    """Have each call the others."""
    for number, player in enumerate(players):
        assert player.trigger_server_callback("echo", number, timeout=PATIENCE_S).result() == number
        assert player.player_id is not None
        down = server.trigger_client_callback("echo", player.player_id, number, timeout=PATIENCE_S)
        assert down.result() == number


def test_all_endpoints_share_one_thread(here: HereBroker) -> None:
    with echoing(here, players=20) as (server, players):
        check(server, players)
        assert len(io_threads()) == 1
        players[0].close()
        check(server, players[1:])
    assert io_threads() == []
    with echoing(here) as (server, players):
        check(server, players)
        assert len(io_threads()) == 1


def test_endpoints_come_and_go_from_many_threads(here: HereBroker) -> None:
    """Each start may meet the end of a thread that has just lost its last endpoint."""
    failed = Seen()

    def come_and_go() -> None:
        try:
            for _ in range(10):
                with ringback.Player(here.players, connect_timeout=PATIENCE_S) as player:
                    assert player.trigger_server_callback("k").error is not None
        except BaseException as error:
            failed(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed.items == [] and io_threads() == []


def test_without_epoll(here: HereBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    with echoing(here, players=3) as (server, players):
        check(server, players)


def test_an_endpoint_cannot_be_started_on_the_thread(here: HereBroker) -> None:
    found = Seen()

    def start(_future: object) -> None:
        try:
            ringback.Player(here.players).start()
        except UsageError as error:
            found(str(error))

    with echoing(here) as (_, [player]):
        player.trigger_server_callback("echo").future().add_done_callback(start)
        eventually(lambda: len(found.items) == 1, "the start was refused")
    assert found.items[0].startswith("an endpoint cannot be started here: this is the thread that reads")


def test_an_endpoint_closed_on_the_thread_leaves(here: HereBroker) -> None:
    with echoing(here, players=2) as (server, [first, second]):
        server.trigger_client_callback("echo", second.player_id or 0).future().add_done_callback(
            lambda _: first.close()
        )
        eventually(lambda: server.players == [second.player_id], "the other one has left")
        check(server, [second])


def test_one_that_is_started_again_while_it_leaves(here: HereBroker) -> None:
    """It was closed on the thread, which does not wait for it. So the start does."""
    with echoing(here) as (server, [player]):
        player_id = player.player_id
        closed = threading.Event()

        def close(_future: object) -> None:
            player.close()
            closed.set()

        player.trigger_server_callback("echo").future().add_done_callback(close)
        assert closed.wait(PATIENCE_S)
        player.start()
        check(server, [player])
        assert player.player_id == player_id


def test_one_that_has_left_by_itself_is_started_again(here: HereBroker) -> None:
    """A command that was meant for its life before does not end it."""
    with echoing(here) as (server, [player]):
        shell = player._shell
        for _ in range(20):
            shell.left()
            assert shell.ended.wait(PATIENCE_S)
            shell.left()  # too late
            player.start()
            check(server, [player])


def test_a_start_that_fails_can_be_tried_again(here: HereBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    player = ringback.Player(here.players)
    with monkeypatch.context() as planted:
        planted.setattr(threading.Thread, "start", fail)
        with pytest.raises(UsageError, match="no thread left"):
            player.start()
    with player:
        assert player.connected and len(io_threads()) == 1


def test_a_function_on_the_thread_that_forks_ends_in_the_child(here: HereBroker) -> None:
    """Nothing of the parent runs there, and the parent goes on."""
    children: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child:
            children.append(child)

    with echoing(here, players=2) as (server, players):
        for _ in range(5):
            server._shell.submit(fork)
            for player in players:
                player.trigger_server_callback("echo", 1)
            check(server, players)
        for child in children:
            assert ends_within(child, PATIENCE_S)


def ends_within(child: int, seconds: float) -> bool:
    """Return whether a forked child has ended in time. If not, kill it."""
    descriptor = os.pidfd_open(child)
    ended = bool(select.select([descriptor], [], [], seconds)[0])
    os.close(descriptor)
    if not ended:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return ended


def test_a_call_may_have_years(here: HereBroker) -> None:
    with echoing(here) as (_, [player]):
        assert player.trigger_server_callback("echo", 1, timeout=3e8).result() == 1


class BrokenPoller:
    """The poller of a thread, that fails a number of times from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, thread: IOThread, times: int) -> None:
        self._poller = thread._poller
        self.left = times
        monkeypatch.setattr(thread, "_poller", self)

    def poll(self, timeout_s: float) -> list[tuple[int, int]]:
        if self.left:
            self.left -= 1
            raise OSError("planted")
        return self._poller.poll(timeout_s)

    def __getattr__(self, name: str) -> object:
        return getattr(self._poller, name)


def test_all_links_are_opened_anew_if_the_thread_cannot_wait(
    here: HereBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with echoing(here, players=2) as (server, players):
        check(server, players)
        lost = Seen()
        server.on_disconnected(lost)
        poller = BrokenPoller(monkeypatch, server._shell._io, 1)
        server._shell.submit(lambda: None)
        eventually(lambda: poller.left == 0 and bool(lost.items), "the links were lost")
        assert lost.items[0] == "the socket failed: planted"
        eventually(lambda: all(one.connected for one in (server, *players)), "all are back")
        check(server, players)


def test_all_endpoints_end_if_the_thread_cannot_go_on(
    here: HereBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with echoing(here, players=2) as (server, players):
        check(server, players)
        BrokenPoller(monkeypatch, server._shell._io, 2)
        server._shell.submit(lambda: None)
        for endpoint in (server, *players):
            assert endpoint._shell.ended.wait(PATIENCE_S)
            assert not endpoint.connected
        with pytest.raises(UsageError):
            server.trigger_client_callback("echo", 1)
    assert io_threads() == []
    assert "the I/O thread failed; the endpoint is closed now" in caplog.text


@pytest.fixture
def thread() -> Iterator[IOThread]:
    thread = IOThread()
    yield thread
    thread._close()


def test_alarms_ring_in_their_order_unless_they_are_cancelled(thread: IOThread) -> None:
    rung: list[int] = []
    alarms = [thread.call_at(-float(number), partial(rung.append, number)) for number in range(4)]
    alarms[2].cancel()
    thread.call_at(1e9, lambda: rung.append(9))
    thread._ring()
    assert rung == [3, 1, 0]
    assert thread._pause() == LONGEST_PAUSE_S


def test_cancelled_alarms_are_not_kept(thread: IOThread) -> None:
    for _ in range(10 * SPARE_TIMERS):
        thread.call_at(1e9, lambda: None).cancel()
    assert len(thread._alarms) <= SPARE_TIMERS + 1
    assert thread._pause() == -1 and thread._alarms == []


def test_what_has_come_is_read_before_an_alarm_rings(thread: IOThread) -> None:
    """Otherwise, a thread that was held up would give up a link although the WELCOME had come in time."""
    order: list[str] = []
    source, sink = os.pipe()
    thread.add_reader(source, lambda: order.append("read"))
    thread.call_at(0.0, lambda: order.append("rung"))
    os.write(sink, b"x")
    thread._round()
    assert order == ["read", "rung"]
    thread.remove_reader(source)
    os.close(source)
    os.close(sink)


def test_a_reader_that_was_removed_in_this_round_does_not_run(thread: IOThread) -> None:
    ran: list[str] = []
    ends = [os.pipe(), os.pipe()]
    for (source, sink), name, other in zip(ends, "ab", (ends[1][0], ends[0][0]), strict=True):

        def run(name: str = name, other: int = other) -> None:
            ran.append(name)
            thread.remove_reader(other)

        thread.add_reader(source, run)
        os.write(sink, b"x")
    thread._round()
    assert len(ran) == 1
    for source, sink in ends:
        thread.remove_reader(source)
        os.close(source)
        os.close(sink)
