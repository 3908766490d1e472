"""The thread that watches descriptors for loops without readers."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from support.faces import HereBroker
from support.harness import PATIENCE_S, Process, eventually
from support.loops import NoReaders

from ringback import BrokerUnreachable
from ringback._runtime.readers import add_reader, reader_thread
from ringback.aio import Player, Server

NAME = "ringback-readers"


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=NoReaders) as runner:
        return runner.run(asyncio.wait_for(main, PATIENCE_S))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == NAME]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    gc.collect()
    eventually(lambda: not threads(), "the thread has ended")


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    first, second = socket.socketpair()
    with first, second:
        yield first, second


def test_a_function_runs_on_the_loop_in_its_context(pair: Pair) -> None:
    said: contextvars.ContextVar[str] = contextvars.ContextVar("said")

    async def main() -> None:
        heard: asyncio.Queue[Any] = asyncio.Queue()

        def hear() -> None:
            heard.put_nowait((pair[0].recv(1), said.get(), threading.current_thread()))

        said.set("then")
        assert add_reader(asyncio.get_running_loop(), pair[0].fileno(), hear) is reader_thread
        said.set("now")
        pair[1].send(b"abc")  # it is called again while there is more
        got = [await heard.get() for _ in range(3)]
        assert got == [(byte, "then", threading.current_thread()) for byte in (b"a", b"b", b"c")]
        reader_thread.remove_reader(pair[0].fileno())

    run(main())


def test_a_function_that_was_told_is_not_told_again_before_it_ran(pair: Pair) -> None:
    """A descriptor stays readable until the function has run. The thread must not spin meanwhile."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        scheduled: list[Any] = []
        schedule = loop.call_soon_threadsafe

        def count(*arguments: Any, **options: Any) -> Any:
            scheduled.append(arguments)
            return schedule(*arguments, **options)

        loop.call_soon_threadsafe = count  # type: ignore[method-assign]
        heard = asyncio.Event()

        def hear() -> None:
            pair[0].recv(1)
            heard.set()

        reader_thread.add_reader(pair[0].fileno(), hear)
        pair[1].send(b"a")
        eventually(lambda: bool(scheduled), "the thread tells the loop")
        other, another = socket.socketpair()
        with other, another:  # wake the thread, so that it polls again
            reader_thread.add_reader(other.fileno(), lambda: None)
            another.send(b"x")
            eventually(lambda: len(scheduled) > 1, "the thread has polled again")
            reader_thread.remove_reader(other.fileno())
        assert [arguments[1].descriptor for arguments in scheduled].count(pair[0].fileno()) == 1
        await heard.wait()
        reader_thread.remove_reader(pair[0].fileno())

    run(main())


def test_a_removed_function_does_not_run(pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        told = threading.Event()
        schedule = loop.call_soon_threadsafe

        def tell(*arguments: Any, **options: Any) -> Any:
            handle = schedule(*arguments, **options)
            told.set()
            return handle

        loop.call_soon_threadsafe = tell  # type: ignore[method-assign]
        ran: list[str] = []
        reader_thread.add_reader(pair[0].fileno(), lambda: ran.append("it was removed"))
        pair[1].send(b"a")
        assert told.wait(PATIENCE_S)
        reader_thread.remove_reader(pair[0].fileno())
        reader_thread.remove_reader(pair[0].fileno())  # a second time does no harm
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ran == []

    run(main())


def test_a_function_that_fails_is_called_again(pair: Pair) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        problems: list[Any] = []
        loop.set_exception_handler(lambda _, context: problems.append(context["exception"]))
        heard = asyncio.Event()

        def fail() -> None:
            if pair[0].recv(1) == b"b":
                heard.set()
            raise RuntimeError("so it fails")

        reader_thread.add_reader(pair[0].fileno(), fail)
        pair[1].send(b"ab")
        await heard.wait()
        await asyncio.sleep(0)
        assert len(problems) == 2
        reader_thread.remove_reader(pair[0].fileno())

    run(main())


def test_a_closed_loop_lets_go_of_its_functions(pair: Pair) -> None:
    class Held:
        def hear(self) -> None: ...

    loop = NoReaders()

    async def add() -> weakref.ref[Held]:
        held = Held()
        reader_thread.add_reader(pair[0].fileno(), held.hear)
        return weakref.ref(held)

    gone = loop.run_until_complete(add())
    gc.collect()
    assert gone() is not None
    loop.close()
    gc.collect()
    assert gone() is None
    pair[1].send(b"a")  # nobody is told, and the thread ends


def test_a_closed_descriptor_stops_no_other(pair: Pair) -> None:
    """A link may be closed while the thread polls."""

    async def main() -> None:
        heard = asyncio.Event()

        def hear() -> None:
            pair[0].recv(1)
            heard.set()

        one, two = socket.socketpair()
        number = one.fileno()
        reader_thread.add_reader(number, lambda: None)
        reader_thread.add_reader(pair[0].fileno(), hear)
        one.close()  # before it is removed, which no link does
        two.close()
        pair[1].send(b"a")
        await heard.wait()
        reader_thread.remove_reader(number)
        reader_thread.remove_reader(pair[0].fileno())

    run(main())


def test_without_a_thread_a_start_says_so(here: HereBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(BrokerUnreachable, match="no thread left to watch the link"):
            await Player(here.players, 7, connect_timeout=0.3).start()
        monkeypatch.undo()
        async with Player(here.players, 7):
            assert threads() == [NAME]

    run(main())


def test_one_thread_watches_for_all_loops(here: HereBroker) -> None:
    both = threading.Barrier(2, timeout=PATIENCE_S)
    seen: list[Any] = []

    async def main(make: Callable[[], Any]) -> None:
        async with make():
            await asyncio.to_thread(both.wait)
            seen.append(threads())
            await asyncio.to_thread(both.wait)

    def serve() -> None:
        run(main(lambda: Server(here.backend)))

    thread = threading.Thread(target=serve)
    thread.start()
    run(main(lambda: Player(here.players, 7)))
    thread.join(PATIENCE_S)
    assert seen == [[NAME], [NAME]]


def test_a_forked_child_has_a_thread_of_its_own(here: HereBroker) -> None:
    script = f"""
import asyncio, os, sys, threading
from support.loops import NoReaders
from ringback.aio import Player, Server

async def work(player_id):
    async with Player({here.players!r}, player_id) as player:
        return await player.trigger_server_callback("echo", player_id)

async def main():
    async with Server({here.backend!r}) as server:
        server.register_server_callback("echo", lambda source, payload: payload)
        assert await work(1) == 1
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio._set_running_loop(None)  # the parent's loop
                assert "{NAME}" not in [thread.name for thread in threading.enumerate()]
                assert asyncio.Runner(loop_factory=NoReaders).run(work(2)) == 2
                code = 0
            finally:
                os._exit(code)
        # The loop must go on, for it serves the child.
        assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1]) == 0
        assert await work(3) == 3

asyncio.Runner(loop_factory=NoReaders).run(main())
"""
    with Process("-W", "ignore:This process:DeprecationWarning", "-c", script) as process:
        assert (process.output(), process.wait()) == ([], 0)
