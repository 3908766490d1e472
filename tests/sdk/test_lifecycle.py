"""Starting and closing, in all orders and also in handlers, and the calls in flight meanwhile."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.faces import Asyncio, Blocking, HereBroker, Seen, Stage, played
from support.harness import ENVIRONMENT, PATIENCE_S, eventually

import ringback
import ringback.aio
from ringback import BrokerUnreachable, CallbackError, Code, UsageError


def test_blocking_with_and_start(here: HereBroker) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:
        server.register_server_callback("k", lambda source, payload: source)
        assert player.trigger_server_callback("k").result() == 7
    for endpoint in (server, player):
        assert not endpoint.connected
        endpoint.close()
    assert server.start() is server
    assert player.start() is player
    assert player.trigger_server_callback("k").result() == 7
    player.close()
    server.close()


def test_asyncio_with_and_start(here: HereBroker) -> None:
    server = ringback.aio.Server(here.backend)
    server.register_server_callback("k", lambda source, payload: source)

    async def run() -> None:
        async with server, ringback.aio.Player(here.players, 7) as player:
            assert await player.trigger_server_callback("k") == 7

    for _ in range(3):  # the same endpoint, each time on a new loop
        asyncio.run(run())


@played
async def test_closing_within_a_handler(stage: Stage) -> None:
    """A reply from before still leaves, and the handler finishes its work."""
    server, player = await stage.pair(workers=1)
    done = Seen()

    if stage.face.name == "blocking":

        def quit_now(source: Any, payload: Any, cb: Any) -> None:
            cb("bye")
            server.close()
            done("closed")
    else:

        async def quit_now(source: Any, payload: Any, cb: Any) -> None:
            cb("bye")
            await server.close()
            done("closed")

    server.register_server_callback("quit", quit_now)
    assert await stage.result(player.trigger_server_callback("quit")) == "bye"
    assert await done.count(1) == ["closed"]
    with pytest.raises(UsageError):
        server.trigger_callback("k", 1)


@played
async def test_every_call_in_flight_ends_when_its_endpoint_closes(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("silent", lambda source, payload, cb: None)
    seen = Seen()
    calls = [player.trigger_server_callback("silent", on_error=seen, timeout=None) for _ in range(500)]
    await stage.face.close(player)
    for call in calls:
        error = await stage.failure(call)
        assert error.code is Code.CONNECTION_LOST
    await seen.count(500)
    assert player._endpoint.load().pending == 0


@played
async def test_a_call_that_is_too_late_for_the_io_thread(stage: Stage) -> None:
    """A thread may see a running endpoint, but submit its call after the I/O thread has ended: it fails."""
    server, player = await stage.pair()
    server.register_server_callback("k", lambda source, payload: None)
    await stage.face.close(player)
    await stage.face.close(server)
    for endpoint in (server, player):
        endpoint._check_running = lambda: None
    ended = Seen()
    for call in (
        player.trigger_server_callback("k", None, on_error=ended, timeout=None),
        server.trigger_callback("k", 1, None, on_error=ended, timeout=None),
        server.trigger_client_callback("k", 7, None, on_error=ended, timeout=None),
    ):
        error = await stage.failure(call)
        assert error.code is Code.CONNECTION_LOST and error.executed == "no"
    await ended.count(3)


def test_no_call_is_lost_between_triggering_and_closing(here: HereBroker) -> None:
    """Threads keep triggering while the endpoint closes. Each call ends, or triggering raises UsageError."""
    server = ringback.Server(here.backend).start()
    server.register_server_callback("k", lambda source, payload: None)
    server.register_server_callback("silent", lambda source, payload, cb: None)

    def hammer(player: Any, calls: list[Any], ready: threading.Event) -> None:
        try:
            while True:
                calls.append(player.trigger_server_callback("silent", timeout=None))
                calls.append(server.trigger_callback("k", 1, timeout=None))
                ready.set()
        except UsageError:
            pass

    for _ in range(5):
        player = ringback.Player(here.players).start()
        calls: list[Any] = []
        ready = [threading.Event() for _ in range(3)]
        threads = [threading.Thread(target=hammer, args=(player, calls, event)) for event in ready]
        for thread in threads:
            thread.start()
        for event in ready:
            assert event.wait(PATIENCE_S)
        player.close()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        ends = Seen()
        for call in calls:
            call.add_waiter(lambda ends=ends: ends(None))
        asyncio.run(ends.count(len(calls)))
        for call in calls:
            _ = call.error
    server.close()


def test_local_calls_end_when_the_server_closes(here: HereBroker) -> None:
    server = ringback.Server(here.backend)
    server.register_server_callback("silent", lambda source, payload, cb: None)
    for _ in range(5):
        server.start()
        calls: list[Any] = []
        ready = threading.Event()

        def hammer(calls: list[Any] = calls, ready: threading.Event = ready) -> None:
            try:
                while True:
                    calls.append(server.trigger_callback("silent", 1, timeout=None))
                    ready.set()
            except UsageError:
                pass

        thread = threading.Thread(target=hammer)
        thread.start()
        assert ready.wait(PATIENCE_S)
        server.close()
        thread.join(PATIENCE_S)
        ends = Seen()
        for call in calls:
            call.add_waiter(lambda ends=ends: ends(None))
        asyncio.run(ends.count(len(calls)))
        assert {call.error.code for call in calls} <= {Code.CONNECTION_LOST, Code.OVERLOADED}


@played
async def test_a_start_that_failed_can_be_tried_again(stage: Stage) -> None:
    first = await stage.player(7)
    second = stage.make("Player", stage.broker.players, 7)
    for _ in range(3):
        with pytest.raises(ringback.IDTaken):
            await stage.face.start(second)
        with pytest.raises(UsageError):
            second.trigger_server_callback("k")
    left = Seen()
    server = await stage.server()
    server.on_player_left(left)
    await stage.face.close(first)
    await left.count(1)
    await stage._start(second)
    await stage.still_works(server, second)


@pytest.mark.parametrize("face", [Blocking(), Asyncio()], ids=lambda face: face.name)
def test_a_missing_broker_is_reported_within_the_timeout(face: Any) -> None:
    async def run() -> None:
        player = face.module.Player("tcp://127.0.0.1:1", connect_timeout=0.3)
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1.*ringback broker"):
            await face.start(player)
        assert 0.2 < time.monotonic() - began < 5

    asyncio.run(run())


@pytest.mark.parametrize("face", [Blocking(), Asyncio()], ids=lambda face: face.name)
@pytest.mark.parametrize("address", ["tcp://-:1", "tcp://no-such-host.invalid:1", "ipc:///no/such/folder/x"])
def test_an_address_without_a_broker(face: Any, address: str) -> None:
    async def run() -> None:
        player = face.module.Player(address, connect_timeout=0.3)
        with pytest.raises(BrokerUnreachable):
            await face.start(player)
        with pytest.raises(UsageError):
            player.trigger_server_callback("k")

    asyncio.run(run())


def test_a_start_that_is_cancelled() -> None:
    """A cancelled start leaves nothing behind. The endpoint may start again."""
    with HereBroker() as earlier:
        address = earlier.players

    async def run() -> None:
        player = ringback.aio.Player(address, connect_timeout=60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(player.start(), 0.1)
        with pytest.raises(UsageError):
            player.trigger_server_callback("k")
        with HereBroker(players=address):
            async with player:
                assert player.connected

    asyncio.run(run())


def test_a_blocking_start_that_is_closed_from_another_thread() -> None:
    player = ringback.Player("tcp://127.0.0.1:1", connect_timeout=60)
    errors = Seen()

    def start() -> None:
        try:
            player.start()
        except Exception as error:
            errors(error)

    thread = threading.Thread(target=start)
    thread.start()
    eventually(lambda: player._shell._to_stop, "the start began")
    player.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert isinstance(errors.items[0], CallbackError)


@pytest.fixture
def hurry() -> Iterator[None]:
    """Let threads take turns as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_an_endpoint_may_be_started_again_while_another_thread_closes_it(here: HereBroker) -> None:
    """The start waits until the endpoint has left. The close must not take the new start for its own."""
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:
        server.register_server_callback("k", lambda source, payload: payload)
        for number in range(100):
            closing = threading.Thread(target=player.close)
            closing.start()
            while True:
                try:
                    player.start()
                    break
                except UsageError as error:  # it is not closed yet
                    assert "already started" in str(error)
            closing.join(PATIENCE_S)
            assert not closing.is_alive() and player.connected
            assert player.trigger_server_callback("k", number).result() == number


def test_of_four_threads_that_start_an_endpoint_three_are_told(here: HereBroker, hurry: None) -> None:
    with ringback.Server(here.backend) as server:
        player = ringback.Player(here.players, 7)
        together, errors = threading.Barrier(4), list[str]()

        def start() -> None:
            together.wait(PATIENCE_S)
            try:
                player.start()
            except UsageError as error:
                errors.append(str(error))

        for count in range(1, 51):
            threads = [threading.Thread(target=start) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_S)
            assert errors == ["this endpoint is already started"] * 3 * count
            player.close()
            assert not player.connected
        eventually(lambda: not server.players, "it left")


def test_closed_endpoints_leave_nothing_behind(here: HereBroker) -> None:
    """Endpoints that start and close leave no thread and no descriptor, and memory does not grow."""
    from pathlib import Path

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def round_trip() -> None:
        with ringback.Server(here.backend) as server, ringback.Player(here.players) as player:
            server.register_server_callback("k", lambda source, payload: payload, replace=True)
            assert player.trigger_server_callback("k", 1).result() == 1

    round_trip()

    def settled() -> tuple[int, int]:
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("ringback")]
        return len(names), descriptors()

    eventually(lambda: settled()[0] == 0, "the first endpoints' threads ended")
    before = settled()[1]
    for _ in range(5):
        round_trip()
    gc.collect()
    # A closed socket stays open for a moment in libzmq's own thread.
    eventually(lambda: settled()[0] == 0 and settled()[1] <= before + 4, "threads and descriptors went")


SCRIPT = """
import sys, ringback
server = ringback.Server(sys.argv[1])
server.on_connected(lambda address: print("connected", flush=True))
server.run_forever()
print("left", flush=True)
"""

ASYNC_SCRIPT = """
import asyncio, sys, ringback.aio
async def main():
    server = ringback.aio.Server(sys.argv[1])
    server.on_connected(lambda address: print("connected", flush=True))
    await server.run_forever()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("left", flush=True)
"""


@pytest.mark.parametrize("script", [SCRIPT, ASYNC_SCRIPT], ids=["blocking", "asyncio"])
def test_run_forever_until_ctrl_c(here: HereBroker, script: str) -> None:
    import signal

    with subprocess.Popen(
        [sys.executable, "-c", script, here.backend], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "left\n"
        assert process.wait(PATIENCE_S) == 0
    # The server has sent BYE, so another server may start at once.
    with ringback.Server(here.backend):
        pass


def test_a_process_that_forgets_to_close_ends(here: HereBroker) -> None:
    script = "import sys, ringback; ringback.Player(sys.argv[1]).start(); print('end')"
    ended = subprocess.run(
        [sys.executable, "-c", script, here.players],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=ENVIRONMENT,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end\n", "")


def test_sizes_of_the_pool_that_are_refused() -> None:
    for settings in ({"workers": 0}, {"workers": True}, {"workers": 5, "max_threads": 4}, {"workers": 1.0}):
        with pytest.raises(ValueError, match="workers"):
            ringback.Server("tcp://127.0.0.1:1", **settings)


def test_the_loggers_are_quiet_by_default() -> None:
    assert logging.getLogger("ringback.sdk").level == logging.NOTSET
    assert logging.getLogger("ringback.sdk").handlers == []


def test_run_forever_returns_when_it_is_closed(here: HereBroker) -> None:
    server = ringback.Server(here.backend)
    returned = threading.Event()
    thread = threading.Thread(target=lambda: (server.run_forever(), returned.set()))
    thread.start()
    eventually(lambda: server.connected, "the server has started")
    server.close()
    assert returned.wait(PATIENCE_S)
    thread.join()
