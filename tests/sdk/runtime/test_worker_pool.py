"""The pools of the blocking face and the worker threads that they share."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextlib import ExitStack
from contextvars import Context
from typing import Any

import pytest
from support.faces import HereBroker, LogLines
from support.harness import PATIENCE_S, eventually

from ringback import Player, Server
from ringback._runtime import worker_pool
from ringback._runtime.worker_pool import Lane, Pool, waiting
from ringback._runtime.worker_threads import WorkerThreads


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> WorkerThreads:
    """Give the pools of a test threads of their own. Endpoints of other tests keep none of them."""
    threads = WorkerThreads()
    monkeypatch.setattr(worker_pool, "workers", threads)
    return threads


def new_pool(size: int, max_threads: int) -> Pool:
    return Pool(size, max_threads, lambda: "a server")


class Gate:
    """Jobs that wait until the test opens the gate.

    Attributes:
        most: how many of them were there at one time.
        ended: one for each that has ended.
        threads: those that ran them.
    """

    def __init__(self) -> None:
        self.most = 0
        self.ended = threading.Semaphore(0)
        self.threads: set[threading.Thread] = set()
        self._began = threading.Semaphore(0)
        self._here = 0
        self._lock = threading.Lock()
        self._opened = threading.Event()

    def job(self) -> None:
        with self._lock:
            self._here += 1
            self.most = max(self.most, self._here)
            self.threads.add(threading.current_thread())
        self._began.release()
        self._opened.wait(PATIENCE_S)
        with self._lock:
            self._here -= 1
        self.ended.release()

    def fill(self, pool: Pool, jobs: int, begin: int) -> None:
        """Submit jobs to a pool, and wait until some have begun."""
        for _ in range(jobs):
            pool.submit(Context(), self.job)
        for _ in range(begin):
            assert self._began.acquire(timeout=PATIENCE_S)

    def open(self, jobs: int) -> None:
        """Let the jobs end, and wait until all have."""
        self._opened.set()
        for _ in range(jobs):
            assert self.ended.acquire(timeout=PATIENCE_S)


def runs(pool: Pool) -> bool:
    """Return whether a job that is submitted now runs."""
    done = threading.Event()
    pool.submit(Context(), done.set)
    return done.wait(PATIENCE_S)


# -- limits


def test_a_pool_uses_no_more_threads_than_needed() -> None:
    pool = new_pool(3, 10)
    pool.open()
    used = set()
    for _ in range(20):
        done = threading.Event()
        pool.submit(Context(), lambda done=done: (used.add(threading.get_ident()), done.set()))
        assert done.wait(PATIENCE_S)
    pool.close()
    assert 1 <= len(used) <= 4  # three, and one that may be on its way


def test_a_pool_never_has_more_busy_workers_than_its_size() -> None:
    pool, gate = new_pool(2, 10), Gate()
    gate.fill(pool, jobs=6, begin=2)
    assert runs(new_pool(1, 1))  # it became ready later than any of these
    assert pool.waiting_jobs() == 4
    gate.open(6)
    assert gate.most == 2


def test_the_log_says_that_all_workers_wait(here: HereBroker, sdk_log: LogLines) -> None:
    """Each handler waits for a call that no worker is left for."""
    together = threading.Barrier(2)
    with Server(here.backend, workers=2, max_threads=2) as server, Player(here.players, 7) as player:

        def nested(source: Any, payload: Any) -> Any:
            together.wait(PATIENCE_S)
            return server.trigger_callback("k", source, payload, timeout=1.0).result()

        server.register_server_callback("nested", nested)
        server.register_server_callback("k", lambda source, payload: payload)
        calls = [player.trigger_server_callback("nested") for _ in range(2)]
        line = asyncio.run(sdk_log.wait_for("server: all 2 workers .max_threads. wait for calls, and"))
        assert "max_threads" in line.getMessage()
        for call in calls:
            assert call.exception() is not None
        assert player.trigger_server_callback("k", 5).result() == 5


def test_workers_that_wait_while_others_may_come_are_not_in_the_log(sdk_log: LogLines) -> None:
    pool, met = new_pool(1, 3), threading.Barrier(3)

    def job() -> None:
        with waiting():
            met.wait(PATIENCE_S)

    for _ in range(2):
        pool.submit(Context(), job)
    pool.submit(Context(), met.wait)
    eventually(lambda: met.n_waiting == 0 and pool._threads == 0, "all have met")
    assert not sdk_log.seen.items


def test_each_pool_has_limits_of_its_own() -> None:
    """At the barrier, all workers of all pools meet: no fewer can pass it, and no pool has more."""
    sizes, rounds = (1, 2, 3), 3
    barrier = threading.Barrier(sum(sizes))
    ended, lock, busy, most = threading.Semaphore(0), threading.Lock(), [0, 0, 0], [0, 0, 0]

    def job(number: int) -> None:
        with lock:
            busy[number] += 1
            most[number] = max(most[number], busy[number])
        barrier.wait(PATIENCE_S)
        with lock:
            busy[number] -= 1
        ended.release()

    pools = [new_pool(size, 10) for size in sizes]
    for number, pool in enumerate(pools):
        for _ in range(rounds * sizes[number]):
            pool.submit(Context(), job, number)
    for _ in range(rounds * sum(sizes)):
        assert ended.acquire(timeout=PATIENCE_S)
    assert tuple(most) == sizes


def test_a_pool_has_no_more_threads_than_its_maximum() -> None:
    pool, may_end, done = new_pool(1, 3), threading.Event(), threading.Semaphore(0)
    began = threading.Semaphore(0)

    def job() -> None:
        began.release()
        with waiting():
            may_end.wait(PATIENCE_S)
        done.release()

    for _ in range(5):
        pool.submit(Context(), job)
    for _ in range(3):
        assert began.acquire(timeout=PATIENCE_S)
    assert pool.waiting_jobs() == 2
    may_end.set()
    for _ in range(5):
        assert done.acquire(timeout=PATIENCE_S)


# -- no job waits for another pool's


def test_jobs_that_come_at_once_do_not_wait_for_each_other(threads: WorkerThreads) -> None:
    """One thread is called for both. It calls another one before it runs the first job."""
    pool, second = new_pool(2, 10), threading.Event()
    done = threading.Event()
    with threads.lock:  # no thread takes a job before both are there
        pool.submit(Context(), lambda: (second.wait(PATIENCE_S), done.set()))
        pool.submit(Context(), second.set)
    assert second.wait(PATIENCE_S / 2), "the second job waits behind the first, which waits for it"
    assert done.wait(PATIENCE_S)


def test_blocked_pools_do_not_delay_another(threads: WorkerThreads) -> None:
    blocked, gate = [new_pool(1, 1) for _ in range(20)], Gate()
    for pool in blocked:
        gate.fill(pool, jobs=3, begin=1)
    assert runs(new_pool(1, 1))
    gate.open(60)


def test_a_blocked_endpoint_does_not_delay_another(here: HereBroker) -> None:
    go, blocked = threading.Event(), threading.Semaphore(0)

    def block(payload: Any) -> Any:
        blocked.release()
        go.wait(PATIENCE_S)
        return payload

    with ExitStack() as stack:
        server = stack.enter_context(Server(here.backend))
        for number in range(1, 6):
            player = stack.enter_context(Player(here.players, number, workers=1))
            player.register_client_callback("block", block)
            player.register_client_callback("echo", lambda payload: payload)
        calls = [server.trigger_client_callback("block", 1 + number % 4, number) for number in range(8)]
        for _ in range(4):
            assert blocked.acquire(timeout=PATIENCE_S)
        assert server.trigger_client_callback("echo", 5, "free").result(PATIENCE_S) == "free"
        go.set()
        assert [call.result(PATIENCE_S) for call in calls] == list(range(8))


# -- waits in workers


def nest(pools: list[Pool], depth: int) -> bool:
    """Return whether jobs end of which each waits for the next, in one pool after the other."""
    events = [threading.Event() for _ in range(depth)]

    def job(number: int) -> None:
        if number + 1 < len(events):
            pools[(number + 1) % len(pools)].submit(Context(), job, number + 1)
            with waiting():
                assert events[number + 1].wait(PATIENCE_S)
        events[number].set()

    pools[0].submit(Context(), job, 0)
    return events[0].wait(PATIENCE_S)


def test_workers_that_wait_are_replaced() -> None:
    assert nest([new_pool(1, 50)], 20)


def test_workers_of_several_pools_that_wait_for_each_other_are_replaced() -> None:
    assert nest([new_pool(1, 10), new_pool(1, 10), new_pool(2, 10)], 20)


def test_after_a_wait_no_more_workers_are_busy_than_the_size() -> None:
    pool, gate = new_pool(1, 10), Gate()
    waits, may_go_on = threading.Event(), threading.Event()

    def job() -> None:
        with waiting():
            waits.set()
            may_go_on.wait(PATIENCE_S)
        gate.job()

    pool.submit(Context(), job)
    assert waits.wait(PATIENCE_S)
    gate.fill(pool, jobs=3, begin=1)  # a replacement
    may_go_on.set()
    gate.open(4)
    assert gate.most <= 2, "the one that waited, and its replacement"
    again = Gate()
    again.fill(pool, jobs=3, begin=1)
    assert runs(new_pool(1, 1))  # it became ready later than any of these
    assert pool.waiting_jobs() == 2
    again.open(3)
    assert again.most == 1


# -- threads come and go


def test_threads_sleep_for_open_pools_alone() -> None:
    kept, other, gate = new_pool(2, 2), new_pool(10, 10), Gate()
    kept.open()
    gate.fill(other, jobs=10, begin=10)
    gate.open(10)
    assert len(gate.threads) == 10
    eventually(lambda: alive(gate) == 2, "all but two threads ended")
    assert runs(kept) and alive(gate) == 2
    kept.close()
    eventually(lambda: alive(gate) == 0, "all threads ended")


def alive(gate: Gate) -> int:
    return sum(thread.is_alive() for thread in gate.threads)


def test_endpoints_share_threads(here: HereBroker) -> None:
    """Calls one after another need few threads, however many endpoints. These end with the last endpoint."""
    used: set[threading.Thread] = set()
    with ExitStack() as stack:
        server = stack.enter_context(Server(here.backend))
        for number in range(1, 21):
            player = stack.enter_context(Player(here.players, number))
            player.register_client_callback("k", lambda payload: used.add(threading.current_thread()))
        for number in range(1, 21):
            server.trigger_client_callback("k", number).result(PATIENCE_S)
        assert 1 <= len(used) <= 10  # one, and more if a reply is faster than the end of its thread's work
        assert any(thread.is_alive() for thread in used)
    eventually(lambda: not any(thread.is_alive() for thread in used), "all threads ended")


def test_jobs_that_wait_at_the_close_run() -> None:
    pool, gate = new_pool(1, 1), Gate()
    pool.open()
    gate.fill(pool, jobs=3, begin=1)
    pool.close()
    assert pool.waiting_jobs() == 2
    gate.open(3)
    eventually(lambda: alive(gate) == 0, "all threads ended")


def test_a_pool_that_is_closed_while_workers_wait_ends_all_threads() -> None:
    pool, gate = new_pool(2, 50), Gate()
    pool.open()

    def job() -> None:
        with waiting():
            gate.job()

    for _ in range(2):
        pool.submit(Context(), job)
    gate.fill(pool, jobs=0, begin=2)
    pool.close()
    gate.open(2)
    eventually(lambda: alive(gate) == 0, "all threads ended")


def test_a_closed_pool_still_runs_callbacks() -> None:
    pool = new_pool(1, 1)
    pool.open()
    pool.close()
    assert runs(pool)


def test_a_server_starts_again_while_a_handler_of_before_blocks(here: HereBroker) -> None:
    go, blocked, ended = threading.Event(), threading.Event(), threading.Event()

    def block(source: Any, payload: Any) -> None:
        blocked.set()
        go.wait(PATIENCE_S)
        ended.set()

    server = Server(here.backend, workers=1)
    server.register_server_callback("block", block)
    server.register_server_callback("echo", lambda source, payload: payload)
    with Player(here.players) as player:
        with server:
            player.trigger_server_callback("block", on_error=lambda error: None)
            assert blocked.wait(PATIENCE_S)
        with server:
            assert player.trigger_server_callback("echo", 2).result(PATIENCE_S) == 2
            go.set()
            assert ended.wait(PATIENCE_S)


def test_a_thread_that_sleeps_holds_no_pool(threads: WorkerThreads) -> None:
    pool = new_pool(1, 1)
    threads.keep(1)
    assert runs(pool)
    gone = weakref.ref(pool)
    del pool
    eventually(lambda: gc.collect() >= 0 and gone() is None, "the pool is collected")
    threads.keep(-1)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_thread_that_cannot_start(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next job calls a thread again. It runs the job that waits, too."""
    pool, done = new_pool(1, 1), threading.Event()

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                pool.submit(Context(), done.set)
        else:
            pool.submit(Context(), done.set)
            assert "a server: the system has no thread left for another worker" in caplog.text
    assert runs(pool) and done.is_set()


def test_a_job_runs_although_no_thread_can_be_called_for_the_next_one(
    threads: WorkerThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, done = new_pool(1, 1), threading.Event()
    call = threads.call

    def fail_in_a_worker() -> None:
        if threading.current_thread().name == "ringback-worker":
            raise MemoryError
        call()

    with monkeypatch.context() as patched:
        patched.setattr(threads, "call", fail_in_a_worker)
        pool.submit(Context(), done.set)
        assert done.wait(PATIENCE_S)
    assert runs(pool)


def test_a_job_that_fails_does_not_end_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    pool = new_pool(1, 1)
    for failure in (ValueError, SystemExit):
        pool.submit(Context(), fail, failure)
    assert runs(pool)
    assert "a server: a handler or callback failed" in caplog.text


def fail(error: type[BaseException]) -> None:
    raise error


# -- order


def test_a_lane_keeps_the_order() -> None:
    pool = new_pool(8, 8)
    lane = Lane(pool)
    items: list[int] = []
    done = threading.Event()
    for number in range(500):
        lane.submit(Context(), items.append, number)
    lane.submit(Context(), done.set)
    assert done.wait(PATIENCE_S)
    assert items == list(range(500))
