"""A process forks while it has endpoints: the child is told, and the parent's endpoints go on."""

from __future__ import annotations

import textwrap

import pytest
from support.faces import HereBroker
from support.harness import Process

QUIET = ("-W", "ignore:This process:DeprecationWarning")
"""Python warns of a fork with threads, from 3.12 on. These tests are about such forks."""

PRELUDE = """
import asyncio, multiprocessing, os, signal, sys, threading
signal.alarm(25)  # ends a process that hangs
os.register_at_fork(after_in_child=lambda: signal.alarm(15))  # a child does not inherit it
import ringback, ringback.aio
from ringback import UsageError
players, backend = sys.argv[1:]

def forked(work):
    # Run a function in a forked child. Return its exit code, or None if it hangs.
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            print("child:", type(error).__name__, error, flush=True)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def refused(function, *arguments, **keywords):
    # Check that a function raises the UsageError about forks.
    try:
        function(*arguments, **keywords)
    except UsageError as error:
        assert f"started in process {os.getppid()}" in str(error) and "post_worker_init" in str(error), error
    else:
        raise AssertionError(f"{function} does not refuse")
"""

BLOCKING = """
server = ringback.Server(backend).start()
player = ringback.Player(players, 7).start()
operator = ringback.Operator(backend).start()
go = threading.Event()
server.register_server_callback("echo", lambda source, payload: payload)
server.register_server_callback("later", lambda source, payload: go.wait() and payload)
player.register_client_callback("name", lambda payload: "seven")
assert player.trigger_server_callback("echo", 1).result() == 1

def parent_goes_on():
    assert player.trigger_server_callback("echo", 3).result() == 3
    assert server.trigger_client_callback("name", 7).result() == "seven"
    assert operator.ping().result() is None and server.players == [7]
    print("parent goes on", flush=True)
"""


def run(body: str, here: HereBroker) -> list[str]:
    """Run a script in a process of its own. Return its lines, if it ended well."""
    with Process(*QUIET, "-c", PRELUDE + textwrap.dedent(body), here.players, here.backend) as process:
        lines = process.output()
        assert process.wait() == 0, lines
    return lines


def test_each_function_of_the_blocking_face_refuses_in_the_child(here: HereBroker) -> None:
    lines = run(
        BLOCKING
        + """
def work():
    for endpoint in (player, server, operator):
        assert not endpoint.connected and "of the parent process" in repr(endpoint)
        refused(endpoint.start)
        refused(endpoint.close)
        refused(endpoint.run_forever)
        refused(endpoint.on_connected, print)
    refused(player.trigger_server_callback, "echo")
    refused(player.register_client_callback, "more", lambda payload: None)
    refused(server.register_server_callback, "more")
    refused(registration.unregister)
    refused(lambda: server.players)
    for trusted in (server, operator):
        refused(trusted.trigger_client_callback, "name", 7)
        refused(trusted.trigger_callback, "echo", 7)
        refused(trusted.trigger_all_client_callbacks, "name")
    for order in (lambda: operator.query("players"), lambda: operator.kick(7), operator.drain,
                  operator.watch, operator.ping):
        refused(order)
    for wait in (call.result, lambda: call.results, lambda: call.error, call.cancel,
                 group.all, lambda: list(group), group.cancel):
        refused(wait)

registration = player.register_client_callback("gone", lambda payload: None)
player.register_client_callback("slow", lambda payload: go.wait() and payload)
call = player.trigger_server_callback("later", 5)
group = server.trigger_all_client_callbacks("slow", 6, players=[7])
assert forked(work) == 0
go.set()
assert call.result() == 5 and group.all()[7].result() == 6
parent_goes_on()
""",
        here,
    )
    assert lines == ["parent goes on"]


def test_each_function_of_the_asyncio_face_refuses_in_the_child(here: HereBroker) -> None:
    lines = run(
        """
async def refused_to_await(make):
    async def inner():
        return await make()
    try:
        await inner()
    except UsageError as error:
        assert f"started in process {os.getppid()}" in str(error), error
    else:
        raise AssertionError(f"{make} does not refuse")

async def main():
    server = await ringback.aio.Server(backend).start()
    player = await ringback.aio.Player(players, 7).start()
    go = asyncio.Event()
    async def later(source, payload):
        await go.wait()
        return payload
    server.register_server_callback("later", later)
    player.register_client_callback("slow", lambda payload: later(7, payload))
    call = player.trigger_server_callback("later", 5)
    group = server.trigger_all_client_callbacks("slow", 6, players=[7])

    async def in_child():
        assert not player.connected
        for function in (player.trigger_server_callback, server.register_server_callback):
            refused(function, "echo")
        refused(lambda: server.players)
        refused(server.trigger_all_client_callbacks, "slow")
        refused(call.cancel)
        async def iterate():
            async for _ in group:
                pass
        async def wait():
            return await call
        for make in (player.start, player.close, player.run_forever, group.all, iterate, wait):
            await refused_to_await(make)

    def work():
        asyncio.set_event_loop(None)
        asyncio.run(in_child())

    assert forked(work) == 0
    go.set()
    assert await call == 5 and (await group.all())[7].result() == 6
    await player.close()
    await server.close()
    print("parent goes on", flush=True)

asyncio.run(main())
""",
        here,
    )
    assert lines == ["parent goes on"]


@pytest.mark.parametrize("how", ["exit", "exception", "collect"])
def test_the_child_leaves_a_block_and_the_parent_stays_connected(here: HereBroker, how: str) -> None:
    leave = {
        "exit": "sys.exit(3)",
        "exception": "raise ValueError('of the program')",
        "collect": "del player; import gc; gc.collect(); sys.exit(3)",
    }[how]
    lines = run(
        f"""
lost = []
with ringback.Server(backend) as server:
    server.register_server_callback("echo", lambda source, payload: payload)
    with ringback.Player(players, 7) as player:
        server.on_player_left(lost.append)
        pid = os.fork()
        if pid == 0:
            {leave}
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert player.trigger_server_callback("echo", 4).result() == 4
        assert player.connected and lost == [], lost
        print("code", code, flush=True)
""",
        here,
    )
    assert lines[-1] == ("code 1" if how == "exception" else "code 3"), lines
    assert not any("UsageError" in line for line in lines)
    assert how != "exception" or any("ValueError: of the program" in line for line in lines)


def test_a_child_starts_endpoints_of_its_own(here: HereBroker) -> None:
    lines = run(
        BLOCKING
        + """
made = ringback.Player(players, 9)  # as a module of a pre-fork server makes it
def work():
    with made, ringback.Player(players, 10) as other:
        assert made.trigger_server_callback("echo", 9).result() == 9
        assert other.trigger_server_callback("echo", 10).result() == 10
    async def main():
        async with ringback.aio.Player(players, 11) as third:
            return await third.trigger_server_callback("echo", 11)
    assert asyncio.run(main()) == 11
    # a grandchild: each process has endpoints of its own
    with ringback.Player(players, 12) as mine:
        def deeper():
            refused(mine.trigger_server_callback, "echo")
            with ringback.Player(players, 13) as deepest:
                assert deepest.trigger_server_callback("echo", 13).result() == 13
        assert forked(deeper) == 0
        assert mine.trigger_server_callback("echo", 12).result() == 12
for _ in range(3):
    assert forked(work) == 0
parent_goes_on()
""",
        here,
    )
    assert lines == ["parent goes on"]


def test_children_end_while_other_threads_hold_locks(here: HereBroker) -> None:
    """Fork many times while threads trigger, wait, log and close."""
    lines = run(
        BLOCKING
        + """
import logging
logging.getLogger("ringback.sdk").addHandler(logging.NullHandler())
over = threading.Event()
def busy():
    while not over.is_set():
        player.trigger_server_callback("echo", 1).result()
        server.trigger_all_client_callbacks("name").all()
        player.trigger_server_callback("nothing", on_error=lambda error: None)
def restless():
    while not over.is_set():
        with ringback.Player(players):
            pass
threads = [threading.Thread(target=busy) for _ in range(3)] + [threading.Thread(target=restless)]
for thread in threads:
    thread.start()
def work():
    refused(player.trigger_server_callback, "echo")
    refused(server.trigger_all_client_callbacks, "name")
    refused(player.close)
for _ in range(40):
    assert forked(work) == 0
over.set()
for thread in threads:
    thread.join()
parent_goes_on()
""",
        here,
    )
    assert lines == ["parent goes on"]


def test_a_handler_that_forks_and_returns_in_the_child(here: HereBroker) -> None:
    """The child is a copy of a worker. It ends, and says nothing to the caller."""
    lines = run(
        BLOCKING
        + """
ends = os.pipe()
def fork(source, payload):
    pid = os.fork()
    if pid == 0:
        os.close(ends[0])  # the other end closes with the child
    return "parent" if pid else "child"
server.register_server_callback("fork", fork)
assert player.trigger_server_callback("fork").result() == "parent"
os.close(ends[1])
assert os.read(ends[0], 1) == b""  # the child has ended
assert player.counters.stray_replies == 0
parent_goes_on()
""",
        here,
    )
    assert lines[-1] == "parent goes on", lines


def test_the_child_of_a_handler_has_workers_of_its_own(here: HereBroker) -> None:
    """Other workers of the parent sleep, are busy and hold locks meanwhile. None of them is in the child."""
    lines = run(
        BLOCKING
        + """
def work(number):
    own = ringback.Player(players, number).start()
    own.register_client_callback("pid", lambda payload: os.getpid())
    assert own.trigger_server_callback("echo", number).result() == number
    told = threading.Event()
    own.trigger_server_callback("echo").add_done_callback(lambda call: told.set())
    assert told.wait(10)
    own.close()
server.register_server_callback("fork", lambda source, payload: forked(lambda: work(payload)))
busy = [player.trigger_server_callback("later", number) for number in range(2)]
assert [player.trigger_server_callback("fork", 20 + number).result() for number in range(5)] == [0] * 5
go.set()
assert [call.result() for call in busy] == [0, 1]
parent_goes_on()
""",
        here,
    )
    assert lines == ["parent goes on"]


def test_jobs_that_wait_run_in_the_parent_alone(here: HereBroker) -> None:
    """The worker that has forked returns in the child, while another call waits for a worker."""
    lines = run(
        BLOCKING
        + """
ends, marks = os.pipe(), os.pipe()
alone = ringback.Player(players, 8, workers=1).start()
forks, waits = threading.Event(), threading.Event()
def fork(payload):
    forks.set()
    waits.wait()
    pid = os.fork()
    if pid:
        os.close(ends[1])
        os.read(ends[0], 1)  # the child has ended
    return pid
alone.register_client_callback("fork", fork)
alone.register_client_callback("mark", lambda payload: os.write(marks[1], b"m"))
calls = [server.trigger_client_callback(key, 8) for key in ("fork", "mark")]
assert forks.wait(10)
while not alone._shell.jobs_waiting():
    server.trigger_client_callback("name", 7).result()
waits.set()
for call in calls:
    call.result()
os.close(marks[1])
assert os.read(marks[0], 10) == b"m"
print("parent goes on")
""",
        here,
    )
    assert lines[-1] == "parent goes on", lines


def test_an_allow_function_that_forks_and_returns_in_the_child(here: HereBroker) -> None:
    """The child is a copy of the I/O thread. It must not use the link."""
    lines = run(
        BLOCKING
        + """
ends = os.pipe()
def allow(source):
    pid = os.fork()
    if pid == 0:
        os.close(ends[0])
    return True
server.register_server_callback("guarded", lambda source, payload: "yes", allow=allow)
assert player.trigger_server_callback("guarded").result() == "yes"
os.close(ends[1])
assert os.read(ends[0], 1) == b""
parent_goes_on()
""",
        here,
    )
    assert lines[-1] == "parent goes on", lines


def test_a_signal_handler_forks_while_a_call_is_awaited(here: HereBroker) -> None:
    lines = run(
        BLOCKING
        + """
pids = []
def on_signal(*_):
    pids.append(os.fork())
    if pids[-1]:
        go.set()
signal.signal(signal.SIGUSR1, on_signal)
def interrupt(source, payload):
    os.kill(os.getpid(), signal.SIGUSR1)
    go.wait()
    return 8
server.register_server_callback("signal", interrupt)
try:
    result = player.trigger_server_callback("signal").result()
except UsageError:
    os._exit(5 if pids == [0] else 6)
assert result == 8
assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 5
parent_goes_on()
""",
        here,
    )
    assert lines == ["parent goes on"]


def test_multiprocessing(here: HereBroker) -> None:
    lines = run(
        BLOCKING
        + """
def work(queue):
    for function in (player.trigger_server_callback, server.trigger_all_client_callbacks):
        try:
            function("echo")
        except UsageError as error:
            queue.put(str(error))
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
process = context.Process(target=work, args=(queue,))
process.start()
assert f"process {os.getpid()}" in queue.get() and "forked child" in queue.get()
process.join()
assert process.exitcode == 0
parent_goes_on()
""",
        here,
    )
    assert lines == ["parent goes on"]


def test_a_done_callback_of_a_call_of_a_closed_endpoint_runs_in_the_child(here: HereBroker) -> None:
    lines = run(
        BLOCKING
        + """
call = player.trigger_server_callback("echo", 5)
assert call.result() == 5
player.close()

def work():
    told = threading.Event()
    call.add_done_callback(lambda ended: told.set())
    assert told.wait(10)
    print("told", flush=True)

assert forked(work) == 0
""",
        here,
    )
    assert "told" in lines
