"""Brokers dialled by a name: where it is looked up, which address gets in, and what is said if none does."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.faces import Face, HereBroker, LogLines, Seen, Stage
from support.harness import PATIENCE_S, Process, eventually
from support.names import Names

from ringback import BrokerUnreachable, IDTaken
from ringback._runtime import resolver

NAMES = str(Path(__file__).parents[1] / "support" / "names.py")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    known = Names()
    monkeypatch.setattr(socket, "getaddrinfo", known.getaddrinfo)
    yield known
    known.released.set()
    eventually(lambda: not resolver.resolver._threads, "all lookups have ended")


def port_of(address: str) -> str:
    return address.rpartition(":")[2]


class Listener:
    """A program at 127.0.0.2 that listens on a port, and whose queue of connections is full.

    The kernel drops the SYN of any further connection: nothing comes back.
    """

    def __init__(self, port: str) -> None:
        self._listener = socket.create_server(("127.0.0.2", int(port)), backlog=0)
        self._queue = [socket.socket() for _ in range(4)]
        for waiting in self._queue:
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", int(port)))

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._queue):
            each.close()


async def error_of(face: Face, endpoint: Any) -> str:
    with pytest.raises(BrokerUnreachable) as caught:
        await asyncio.wait_for(face.start(endpoint), PATIENCE_S)
    return str(caught.value)


def test_a_name_with_an_ipv6_alone(face: Face, names: Names) -> None:
    async def run() -> None:
        with HereBroker(players="tcp://[::1]:0") as here:
            names.table["six.test"] = ["::1"]
            async with Stage(face, here) as stage:
                server = await stage.server()
                here.players = f"tcp://six.test:{port_of(here.players)}"
                await stage.still_works(server, await stage.player(7))

    asyncio.run(run())


def test_the_second_address_of_a_name_gets_in(face: Face, here: HereBroker, names: Names) -> None:
    async def run() -> None:
        names.table["two.test"] = ["127.0.0.2", "127.0.0.1"]
        async with Stage(face, here) as stage:
            server = await stage.server()
            here.players = f"tcp://two.test:{port_of(here.players)}"
            player = await stage.player(7)
            await stage.still_works(server, player)
            assert names.lookups == ["two.test"]
            assert player.link_address == f"tcp://127.0.0.1:{port_of(here.players)}"

    asyncio.run(run())


def test_an_address_that_drops_everything_takes_its_share_alone(
    face: Face, here: HereBroker, names: Names
) -> None:
    async def run() -> None:
        port = port_of(here.players)
        names.table["hole.test"] = ["127.0.0.2", "127.0.0.1"]
        with Listener(port):
            async with Stage(face, here) as stage:
                server = await stage.server()
                here.players = f"tcp://hole.test:{port}"
                await stage.still_works(server, await stage.player(7, connect_timeout=10.0))

    asyncio.run(run())


def test_each_new_link_is_looked_up_anew(
    face: Face, here: HereBroker, names: Names, sdk_log: LogLines
) -> None:
    """The broker moves to another address, and the name follows."""

    async def run() -> None:
        port = port_of(here.players)
        names.table["moves.test"] = ["127.0.0.1"]
        async with Stage(face, here) as stage:
            here.players = f"tcp://moves.test:{port}"
            player = await stage.player(7)
            connected = Seen()
            player.on_connected(connected)
            names.table["moves.test"] = ["127.0.0.2"]
            with HereBroker(players=f"tcp://127.0.0.2:{port}") as other:
                here.drain()
                await connected.count(1)
                other.players = f"tcp://127.0.0.1:{port}"
                async with Stage(face, other) as there:
                    await stage.still_works(await there.server(), player)

    asyncio.run(run())


def test_a_name_that_appears_while_the_start_waits(face: Face, here: HereBroker, names: Names) -> None:
    async def run() -> None:
        names.table["late.test"] = lambda: ["127.0.0.1"] if names.lookups.count("late.test") > 2 else []
        async with Stage(face, here) as stage:
            here.players = f"tcp://late.test:{port_of(here.players)}"
            assert (await stage.player(7)).player_id == 7

    asyncio.run(run())


def raise_unicode_error() -> list[str]:
    raise UnicodeError("label too long")


def raise_exit() -> list[str]:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("ips", "said"),
    [
        ([], "Name or service not known"),
        (raise_unicode_error, "UnicodeError: label too long"),
        (raise_exit, "SystemExit: 3"),
    ],
)
def test_the_error_names_a_name_that_cannot_be_resolved(
    face: Face, names: Names, ips: Any, said: str
) -> None:
    names.table["no.test"] = ips
    stage = Stage(face, None)
    error = asyncio.run(error_of(face, stage.make("Player", "tcp://no.test:5770", 7, connect_timeout=0.3)))
    assert f"the name 'no.test' cannot be resolved: {said}" in error and "DNS" in error


def test_an_answer_without_an_address(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    stage = Stage(face, None)
    error = asyncio.run(error_of(face, stage.make("Player", "tcp://no.test:5770", 7, connect_timeout=0.3)))
    assert "it has no address" in error


def test_the_error_says_what_happened_at_each_address(face: Face, names: Names) -> None:
    names.table["dead.test"] = ["127.0.0.1", "::1"]
    stage = Stage(face, None)
    error = asyncio.run(error_of(face, stage.make("Player", "tcp://dead.test:1", 7, connect_timeout=0.5)))
    assert "tcp://127.0.0.1:1: the connection was refused; tcp://[::1]:1: the connection was refused" in error


def test_a_lookup_that_hangs_holds_nothing_up(face: Face, here: HereBroker, names: Names) -> None:
    """The start ends in time and says why. Calls on another link go on. A close does not wait."""

    async def run() -> None:
        names.table["hangs.test"] = None
        async with Stage(face, here) as stage:
            server, player = await stage.pair()
            hangs = stage.make("Player", "tcp://hangs.test:5770", 8, connect_timeout=0.5)
            starting = asyncio.ensure_future(error_of(face, hangs))
            await asyncio.to_thread(names.asked.acquire)
            await stage.still_works(server, player)
            assert "its name is not resolved yet" in await starting
            await stage.within(face.close(hangs))
            assert names.lookups == ["hangs.test"]
            assert resolver.resolver._asked == {"hangs.test": {}}  # nothing is kept for who has closed
            assert names.threads == {"ringback-resolver"}

    asyncio.run(run())


def test_a_crowd_that_dials_one_name_looks_it_up_once(face: Face, here: HereBroker, names: Names) -> None:
    async def run() -> None:
        crowd = 20
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * crowd))
        waiting = resolver.resolver._asked
        all_ask = threading.Event()

        def ips() -> list[str]:
            assert all_ask.wait(PATIENCE_S)
            return ["127.0.0.1"]

        names.table["crowd.test"] = ips
        async with Stage(face, here) as stage:
            here.players = f"tcp://crowd.test:{port_of(here.players)}"
            starts = [asyncio.ensure_future(stage.player(number)) for number in range(1, crowd + 1)]
            await asyncio.to_thread(
                eventually, lambda: len(waiting.get("crowd.test", ())) == crowd, "all ask"
            )
            all_ask.set()
            await stage.within(asyncio.gather(*starts))
            assert names.lookups == ["crowd.test"]

    asyncio.run(run())


def test_slow_names_do_not_hold_up_another(face: Face, here: HereBroker, names: Names) -> None:
    async def run() -> None:
        async with Stage(face, here) as stage:
            many = ThreadPoolExecutor(2 * resolver.MAX_THREADS)
            asyncio.get_running_loop().set_default_executor(many)
            slow = []
            for number in range(resolver.MAX_THREADS - 1):
                names.table[f"slow{number}.test"] = None
                address = f"tcp://slow{number}.test:1"
                slow.append(stage.make("Player", address, number + 1, connect_timeout=PATIENCE_S))
            starts = [asyncio.ensure_future(error_of(face, player)) for player in slow]
            for _ in slow:
                await asyncio.to_thread(names.asked.acquire)
            names.table["quick.test"] = ["127.0.0.1"]
            here.players = f"tcp://quick.test:{port_of(here.players)}"
            assert (await stage.player(77)).player_id == 77
            for start, player in zip(starts, slow, strict=True):
                if face.name == "asyncio":
                    start.cancel()
                else:
                    await face.close(player)
            await stage.within(asyncio.gather(*starts, return_exceptions=True))

    asyncio.run(run())


def test_a_refusal_is_not_followed_by_the_next_address(face: Face, here: HereBroker, names: Names) -> None:
    async def run() -> None:
        port = port_of(here.players)
        names.table["two.test"] = ["127.0.0.1", "127.0.0.2"]
        with HereBroker(players=f"tcp://127.0.0.2:{port}"):
            async with Stage(face, here) as stage:
                await stage.player(7)
                here.players = f"tcp://two.test:{port}"
                with pytest.raises(IDTaken):
                    await stage.within(face.start(stage.make("Player", here.players, 7)))

    asyncio.run(run())


def test_an_address_with_an_ip_takes_no_lookup_and_no_thread(
    face: Face, here: HereBroker, names: Names
) -> None:
    async def run() -> None:
        async with Stage(face, here) as stage:
            await stage.still_works(*(await stage.pair()))

    asyncio.run(run())
    assert names.lookups == []


def test_an_interface_that_does_not_exist(face: Face) -> None:
    player = Stage(face, None).make("Player", "tcp://[fe80::1%nothing0]:5770", 7, connect_timeout=0.3)
    assert "this machine has no network interface 'nothing0'" in asyncio.run(error_of(face, player))


def test_without_a_thread_the_lookup_fails_and_is_tried_again(
    face: Face, here: HereBroker, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    names.table["one.test"] = ["127.0.0.1"]
    refused = Seen()

    class Refusing(threading.Thread):
        def start(self) -> None:
            if self.name == "ringback-resolver" and len(refused.items) < 2:
                refused(self.name)
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(threading, "Thread", Refusing)

    async def run() -> None:
        async with Stage(face, here) as stage:
            here.players = f"tcp://one.test:{port_of(here.players)}"
            assert (await stage.player(7)).player_id == 7

    asyncio.run(run())
    assert len(refused.items) == 2


# -- in processes of their own

HANGS = """
import sys
from ringback import BrokerUnreachable, Player
try:
    Player("tcp://hangs.test:5770", connect_timeout=0.3).start()
except BrokerUnreachable as error:
    print(error)
"""

FORKS = """
import os, sys, threading
from ringback import BrokerUnreachable, Player
hangs = Player("tcp://hangs.test:5770", connect_timeout=30.0)
threading.Thread(target=hangs.start, daemon=True).start()
names.asked.acquire()
if (child := os.fork()) == 0:
    names.table["hangs.test"] = ["127.0.0.1"]
    with Player(sys.argv[1], 7) as player:
        print("in", player.player_id)
    os._exit(0)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)
"""


def test_a_process_ends_while_a_lookup_hangs(tmp_path: Path) -> None:
    program = tmp_path / "hangs.py"
    program.write_text(HANGS)
    with Process(NAMES, json.dumps({"hangs.test": None}), str(program)) as process:
        process.wait_for("its name is not resolved yet")
        assert process.wait() == 0


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python warns of a fork of a process with threads")
def test_a_fork_while_a_lookup_hangs(tmp_path: Path, here: HereBroker) -> None:
    """The child looks the same name up itself: the parent's thread does not exist there."""
    program = tmp_path / "forks.py"
    program.write_text(f"from support.names import names_of_this_process as names\n{FORKS}")
    address = f"tcp://hangs.test:{port_of(here.players)}"
    with Process(NAMES, json.dumps({"hangs.test": None}), str(program), address) as process:
        process.wait_for("^in 7$")
        process.wait_for("^child 0$")


def test_an_endpoint_that_is_collected_while_another_asks_for_a_name() -> None:
    """The collector may run at any point of a thread, also within the resolver's own code."""
    answered = threading.Event()

    class Other:
        log_name = "forgotten"

    class Asker:
        log_name = "asker"

        def __hash__(self) -> int:  # called while the resolver holds its lock
            resolver.resolver.forget("tcp://localhost:1", Other())
            return 1

    def ask() -> None:
        resolver.resolver.find("tcp://localhost:1", Asker(), lambda found: answered.set())

    threading.Thread(target=ask, daemon=True).start()
    assert answered.wait(PATIENCE_S)
