"""Those rows of the table in docs/reliability.md that no other test shows, with real processes."""

from __future__ import annotations

import ast
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from faults.cluster import Cluster, WorkerProcess
from faults.network import Namespace
from support.harness import ENVIRONMENT, PATIENCE_S, ROOT, BrokerProcess, eventually, ipc_addresses
from support.rawpeers import RawPeer

from ringback import Operator, Player, Refused, RejectCode, Server, ServerTaken
from ringback.core.remembered_calls import ON_THE_WAY_S
from ringback.protocol.envelopes import RESULT
from ringback.protocol.frames import HEADER_BYTES, FrameType, Role, header
from ringback.testing.proxy import NONE, STALLED, Faults, Proxy

Measure = Callable[..., None]

LONG_S = 25.0
"""A timeout that is too long to end a call in these tests."""

NOTICED_WITHIN_S = 1.0
SILENCE_NOTICED_WITHIN_S = 8.0
"""Heartbeats find a silent peer after about 2 s. The rest is for a busy machine. The lease is 60 s."""


STORM_ENDS = {"results", "SOLD_OUT", "UNKNOWN_PLAYER"}
"""How calls with retry end. The player "nobody" is called, too."""


def start_load(cluster: Cluster, *workers: WorkerProcess, callers: int = 2) -> None:
    """Let workers call each other. Wait until each of their lives has had a result."""
    since = time.monotonic()
    for worker in workers or cluster.alive:
        worker.tell("load", callers)
    cluster.wait_until_all_work(since)


def check_at_rest(cluster: Cluster, network_s: float = 0.0) -> None:
    """End the load. Check that all tables are empty and that all invariants hold."""
    cluster.rest()
    cluster.verdict(network_s=network_s)


def make_calls_without_reply(cluster: Cluster, *calls: tuple[WorkerProcess, Any, Any]) -> list[str]:
    """Make calls whose handlers never reply. Return the names of the calls once the handlers have run."""
    since = time.monotonic()
    for worker, name, to in calls:
        worker.tell("call", name, to, "never", LONG_S)
    names = []
    for worker, name, to in calls:
        who = worker.lives[worker.names.index(name)]
        made = cluster.histories.wait_for(since, who=who, what="invoke", to=to, timeout=LONG_S)["call"]
        cluster.histories.wait_for(since, what="exec_start", call=made)
        names.append(made)
    return names


def wait_for_ends(cluster: Cluster, calls: list[str], code: str, since: float) -> float:
    """Wait until these calls have ended with a code and "maybe". Return how long the last one took."""
    last = 0.0
    for call in calls:
        line = cluster.histories.wait_for(what="complete", call=call)
        assert (line["code"], line["executed"]) == (code, "maybe")
        last = max(last, line["t"] - since)
    return last


# -- the broker


@pytest.mark.faults
def test_a_broker_that_is_killed_amid_calls(cluster: Cluster, measure: Measure) -> None:
    server, operator = cluster.start("server"), cluster.start("operator")
    players = cluster.start("player", 1, 2, "ann")
    blocking = cluster.start("player", "bob", face="blocking")
    start_load(cluster)
    calls = make_calls_without_reply(
        cluster,
        (server, "server", 1),
        (operator, "operator", 2),
        (players, "ann", "server"),
        (blocking, "bob", "server"),
    )
    killed_at = cluster.kill_broker()
    noticed_s = wait_for_ends(cluster, calls, "CONNECTION_LOST", killed_at)
    assert noticed_s < NOTICED_WITHIN_S
    measure("broker killed: the last call of each endpoint ends after", noticed_s)
    back_at = cluster.start_broker()
    works_s = cluster.wait_until_all_work(back_at) - back_at
    assert works_s < 3.0
    measure("broker back: each endpoint has a result after", works_s)
    # Calls that were in flight when the broker died do not run once it is back.
    old = {line["call"] for line in cluster.histories.find(what="invoke") if line["t"] < killed_at}
    late = [line for line in cluster.histories.find(back_at, what="exec_start") if line["call"] in old]
    assert not late
    check_at_rest(cluster)


@pytest.mark.faults
def test_a_broker_that_restarts_ten_times_under_calls_with_retry(cluster: Cluster, measure: Measure) -> None:
    """The checker of the histories says that no handler ran twice, and that each call had one outcome."""
    cluster.start("server")
    cluster.start("operator")
    cluster.start("player", 1, 2, "ann")
    cluster.start("player", "bob", face="blocking")
    since = time.monotonic()
    for worker in cluster.alive:
        worker.tell("storm", 8)
    cluster.wait_until_all_work(since)
    for number in range(10):
        if number % 2:
            cluster.broker.process.signal(signal.SIGTERM)
            assert cluster.broker.process.wait() == 0
        else:
            cluster.kill_broker()
        cluster.wait_until_all_work(cluster.start_broker())
    check_at_rest(cluster)
    lines = cluster.histories.read_new()
    began = {line["name"]: line["t"] for line in lines if line["what"] == "start"}
    calls = {line["call"]: line for line in lines if line["what"] == "invoke"}
    ends = Counter(line["code"] or "results" for line in lines if line["what"] == "complete")
    assert ends["results"] > 1000 and set(ends) <= {*STORM_ENDS, "CONNECTION_LOST"}, ends
    for line in cluster.histories.find(what="complete", code="CONNECTION_LOST"):
        call = calls[line["call"]]
        # Only an endpoint that began shortly before the call cannot know. "nobody" never replies.
        young = call["to"] == "nobody" or call["t"] < began[call["to"]] + ON_THE_WAY_S + 1.0
        assert young and line["executed"] == "maybe", (call, line)
    measure("broker restarted 10 times: calls with retry", float(ends.total()), "")


@pytest.mark.faults
def test_a_broker_that_is_stopped_for_a_while(cluster: Cluster, measure: Measure) -> None:
    """The endpoints' own heartbeats find the silent broker. The endpoints come back when the broker does."""
    server, player = cluster.start("server"), cluster.start("player", 1, 2)
    start_load(cluster)
    calls = make_calls_without_reply(cluster, (server, "server", 1), (player, 2, "server"))
    stopped_at = time.monotonic()
    cluster.stop_broker()
    noticed_s = wait_for_ends(cluster, calls, "CONNECTION_LOST", stopped_at)
    assert noticed_s < SILENCE_NOTICED_WITHIN_S
    measure("broker stopped: the last call of each endpoint ends after", noticed_s)
    cluster.resume_broker()
    on_at = time.monotonic()
    measure("broker goes on: each endpoint has a result after", cluster.wait_until_all_work(on_at) - on_at)
    check_at_rest(cluster)


@pytest.mark.faults
def test_a_broker_that_is_told_to_stop_under_load(cluster: Cluster, measure: Measure) -> None:
    cluster.start("server")
    cluster.start("player", 1, 2)
    start_load(cluster)
    told_at = time.monotonic()
    cluster.broker.process.signal(signal.SIGTERM)
    assert cluster.broker.process.wait() == 0
    measure("broker told to stop under load: exit 0 after", time.monotonic() - told_at)
    found = cluster.histories.find(told_at, what="complete", code="DRAINING")
    assert all(line["executed"] == "no" for line in found)
    cluster.wait_until_all_work(cluster.start_broker())
    check_at_rest(cluster)


# -- the server


@pytest.mark.faults
def test_a_server_that_is_killed_and_started_again(cluster: Cluster, measure: Measure) -> None:
    server = cluster.start("server")
    player = cluster.start("player", 1, 2)
    start_load(cluster)
    calls = make_calls_without_reply(cluster, (player, 1, "server"), (player, 2, "server"))
    killed_at = time.monotonic()
    server.kill()
    noticed_s = wait_for_ends(cluster, calls, "SERVER_LOST", killed_at)
    assert noticed_s < NOTICED_WITHIN_S
    measure("server killed: each player's calls end after", noticed_s)
    cluster.histories.wait_for(killed_at, what="complete", code="NO_SERVER", executed="no")
    again = cluster.start("server")
    back_at = again.wait_for_lives("connected")
    start_load(cluster, again)
    measure("server back: each player has a result after", cluster.wait_until_all_work(back_at) - back_at)
    check_at_rest(cluster)


@pytest.mark.faults
def test_a_server_that_is_stopped(cluster: Cluster, measure: Measure) -> None:
    server = cluster.start("server")
    player = cluster.start("player", 1, 2)
    start_load(cluster)
    calls = make_calls_without_reply(cluster, (player, 1, "server"), (player, 2, "server"))
    stopped_at = server.stop()
    noticed_s = wait_for_ends(cluster, calls, "SERVER_LOST", stopped_at)
    assert noticed_s < SILENCE_NOTICED_WITHIN_S
    measure("server stopped: each player's calls end after", noticed_s)
    on_at = server.resume()
    measure("server goes on: each endpoint has a result after", cluster.wait_until_all_work(on_at) - on_at)
    check_at_rest(cluster)


def test_a_reply_to_an_earlier_server_is_dropped_and_counted(broker: BrokerProcess) -> None:
    context: zmq.Context[Any] = zmq.Context()
    with RawPeer(context, broker.players) as player:
        with Server(broker.backend) as first:
            player.join(Role.PLAYER, 7, ("x",))
            first.trigger_client_callback("x", 7, on_error=lambda error: None)
            while (frame := player.receive()[-1])[1] != FrameType.DATA:
                pass
        [[_, call_id, *_]] = msgpack.unpackb(frame[HEADER_BYTES:])
        with Server(broker.backend) as second:
            player.send(header(FrameType.DATA) + msgpack.packb([[RESULT, call_id, ["too late"]]]))
            eventually(lambda: second.counters.stray_replies == 1, "the reply is counted")
            assert second.counters.results == 0
    context.term()


@pytest.mark.faults
def test_a_second_server_is_refused_and_the_first_does_not_notice(cluster: Cluster) -> None:
    cluster.start("server")
    cluster.start("player", 1)
    start_load(cluster)
    since = time.monotonic()
    for _ in range(5):
        with pytest.raises(ServerTaken, match="another server is connected"):
            Server(cluster.broker.backend, connect_timeout=0.5).start()
    cluster.wait_until_all_work(time.monotonic())
    assert not cluster.histories.find(since, what="disconnected")
    assert not [
        line for line in cluster.histories.find(since, what="complete") if line["code"] == "NO_SERVER"
    ]
    check_at_rest(cluster)


# -- players


@pytest.mark.faults
def test_a_player_that_is_killed_and_one_that_is_stopped(cluster: Cluster, measure: Measure) -> None:
    server = cluster.start("server")
    killed, stopped, other = (cluster.start("player", name) for name in (1, 2, "ann"))
    start_load(cluster)
    to_killed = make_calls_without_reply(cluster, (server, "server", 1))
    to_stopped = make_calls_without_reply(cluster, (server, "server", 2))
    at = time.monotonic()
    killed.kill()
    noticed_s = wait_for_ends(cluster, to_killed, "PLAYER_LEFT", at)
    assert noticed_s < NOTICED_WITHIN_S
    measure("player killed: a call to it ends after", noticed_s)
    at = stopped.stop()
    noticed_s = wait_for_ends(cluster, to_stopped, "PLAYER_LEFT", at)
    assert noticed_s < SILENCE_NOTICED_WITHIN_S
    measure("player stopped: a call to it ends after", noticed_s)
    assert not cluster.histories.find(who=other.lives[0], what="disconnected")
    again = cluster.start("player", 1)
    on_at = stopped.resume()
    start_load(cluster, again)
    measure("player goes on: each endpoint has a result after", cluster.wait_until_all_work(on_at) - on_at)
    check_at_rest(cluster)


def test_too_many_players() -> None:
    """The broker refuses one player too many, and closes connections that send nothing at once. The connected
    players and the trusted side keep working."""
    with BrokerProcess(options=("--max-players", "20")) as broker, ExitStack() as stack:
        server = stack.enter_context(Server(broker.backend))
        server.register_server_callback("echo", lambda source, payload: payload)
        there = [stack.enter_context(Player(broker.players)) for _ in range(20)]
        with pytest.raises(Refused, match="the limit of 20 players is reached") as refused:
            Player(broker.players).start()
        assert refused.value.code is RejectCode.FULL
        host, port = broker.players.removeprefix("tcp://").split(":")
        silent = [socket.create_connection((host, int(port)), PATIENCE_S) for _ in range(300)]
        with Operator(broker.backend) as operator:

            def closed() -> int:
                return int(dict(operator.query("counters").result()[0])["connections_refused"])

            eventually(lambda: closed() > 100, "connections beyond the limit are closed")
            for number, player in enumerate(there):
                assert player.trigger_server_callback("echo", number).result() == number
        for connection in silent:
            connection.close()
        there[0].close()

        def one_more_is_in() -> bool:
            try:
                with Player(broker.players):
                    return True
            except Refused:
                return False

        eventually(one_more_is_in, "there is room for another player")


# -- the network


@pytest.fixture
def proxied(cluster: Cluster) -> Iterator[tuple[Cluster, Proxy, Proxy]]:
    """Start a server and players under load, each side behind a proxy."""
    with Proxy(cluster.broker.backend) as backend, Proxy(cluster.broker.players) as players:
        cluster.start("server", address=backend.address)
        cluster.start("player", 1, 2, address=players.address)
        cluster.start("player", "bob", address=players.address, face="blocking")
        start_load(cluster)
        yield cluster, backend, players


@pytest.mark.faults
def test_connections_that_are_reset(proxied: tuple[Cluster, Proxy, Proxy], measure: Measure) -> None:
    cluster, backend, players = proxied
    [server] = [worker for worker in cluster.workers if worker.role == "server"]
    for proxy, code in ((players, "PLAYER_LEFT"), (backend, "CONNECTION_LOST")):
        calls = make_calls_without_reply(cluster, (server, "server", 1), (server, "server", "bob"))
        at = time.monotonic()
        proxy.cut(reset=True)
        noticed_s = wait_for_ends(cluster, calls, code, at)
        assert noticed_s < NOTICED_WITHIN_S
        measure(f"{'players' if proxy is players else 'server'} reset: calls end after", noticed_s)
        on_at = time.monotonic()
        works_s = cluster.wait_until_all_work(on_at) - on_at
        measure("and each endpoint has a result after", works_s)
    assert players.accepted == 2 * 3 and backend.accepted == 2  # one new connection, one new session
    check_at_rest(cluster)


@pytest.mark.faults
def test_a_network_that_stalls(proxied: tuple[Cluster, Proxy, Proxy], measure: Measure) -> None:
    cluster, _, players = proxied
    [server] = [worker for worker in cluster.workers if worker.role == "server"]
    calls = make_calls_without_reply(cluster, (server, "server", 1), (server, "server", "bob"))
    at = time.monotonic()
    players.set_faults(STALLED)
    noticed_s = wait_for_ends(cluster, calls, "PLAYER_LEFT", at)
    assert noticed_s < SILENCE_NOTICED_WITHIN_S
    measure("players' network stalls: calls to them end after", noticed_s)
    on_at = time.monotonic()
    players.set_faults(NONE)
    measure(
        "players' network is back: each endpoint has a result after",
        cluster.wait_until_all_work(on_at) - on_at,
    )
    # The delayed frames arrive now. There is no common clock, so the budgets of their calls count from now.
    check_at_rest(cluster, network_s=on_at - at)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(delay_s=0.3), id="delay", marks=pytest.mark.faults),
        pytest.param(Faults(slice_bytes=1), id="slice", marks=pytest.mark.faults),
        pytest.param(Faults(bytes_per_s=30_000), id="throttle", marks=pytest.mark.faults),
        pytest.param(Faults(0.1, slice_bytes=7, bytes_per_s=50_000), id="all", marks=pytest.mark.faults),
    ],
)
def test_a_network_that_is_slow(proxied: tuple[Cluster, Proxy, Proxy], faults: Faults) -> None:
    """Deadlines hold, and each call has one outcome. No link is lost, unless the network is so slow that a
    frame takes longer than a heartbeat waits: libzmq counts whole messages."""
    cluster, backend, players = proxied
    since = time.monotonic()
    backend.set_faults(faults)
    players.set_faults(faults)
    cluster.histories.wait_until(
        lambda: len(cluster.histories.find(since, what="complete")) > 100, "a hundred outcomes"
    )
    if not faults.bytes_per_s:
        assert not cluster.histories.find(since, what="disconnected")
    backend.set_faults(NONE)
    players.set_faults(NONE)
    delay_s = 5.0 if faults.bytes_per_s else 1.0  # the time that the frames on their way take to arrive
    check_at_rest(cluster, network_s=delay_s)


def test_a_link_that_is_cut_without_a_word(namespace: Namespace, tmp_path: Path, measure: Measure) -> None:
    with Cluster(tmp_path, [1, 2, "ann"], host=namespace.host) as cluster:
        server = cluster.start("server")
        far = cluster.start("player", 1, 2, prefix=namespace.prefix)
        near = cluster.start("player", "ann")
        start_load(cluster)
        down, up = make_calls_without_reply(cluster, (server, "server", 1), (far, 2, "server"))
        cut_at = time.monotonic()
        namespace.down()
        noticed_s = wait_for_ends(cluster, [down], "PLAYER_LEFT", cut_at)
        measure("link cut: a call to a player beyond it ends after", noticed_s)
        noticed_there_s = wait_for_ends(cluster, [up], "CONNECTION_LOST", cut_at)
        measure("link cut: a call of a player beyond it ends after", noticed_there_s)
        assert max(noticed_s, noticed_there_s) < SILENCE_NOTICED_WITHIN_S
        up_at = time.monotonic()
        namespace.up()
        measure("link back: each endpoint has a result after", cluster.wait_until_all_work(up_at) - up_at)
        assert not cluster.histories.find(who=near.lives[0], what="disconnected")
        check_at_rest(cluster, network_s=2 * (up_at - cut_at))  # TCP's waits between tries double


# -- the machine


def test_a_log_on_a_full_disk(short_folder: Path) -> None:
    """The broker keeps routing. It loses the lines that it cannot write, and nothing else."""
    players, backend = ipc_addresses(short_folder)
    arguments = ("-m", "ringback_cli", "broker", "--players", players, "--backend", backend)
    with Path("/dev/full").open("w") as full:
        broker = subprocess.Popen([sys.executable, *arguments], stderr=full, stdout=full, env=ENVIRONMENT)
    try:
        with Server(backend, connect_timeout=PATIENCE_S) as server:
            server.register_server_callback("echo", lambda source, payload: payload)
            for number in range(20):
                with Player(players, player_id=number + 1) as player:  # a line for each that comes and goes
                    assert player.trigger_server_callback("echo", number).result() == number
        broker.send_signal(signal.SIGTERM)
        assert broker.wait(PATIENCE_S) == 0
    finally:
        broker.kill()
        broker.wait()


JUMPING_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile long *offset_s;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("JUMPING_CLOCK"), O_RDONLY);
    offset_s = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (clock == CLOCK_REALTIME && offset_s) now->tv_sec += *offset_s;
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    int failed = clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return failed;
}
time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
"""


class WallClock:
    """A wall clock that the test sets, for all processes with its `environment`."""

    def __init__(self, folder: Path) -> None:
        self._file, source, library = (folder / name for name in ("offset", "clock.c", "clock.so"))
        self._file.write_bytes(bytes(8))
        source.write_text(JUMPING_CLOCK)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "JUMPING_CLOCK": str(self._file)}

    def jump(self, seconds: int) -> None:
        with self._file.open("r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


@pytest.mark.faults
@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
def test_a_wall_clock_that_jumps(tmp_path: Path) -> None:
    """A jump by a week, forward or back, has no effect on the broker, the server and players. The kernel and
    libzmq wait by the monotonic clock."""
    clock = WallClock(tmp_path)
    with Cluster(tmp_path, [1, "bob"], environment=clock.environment) as cluster:
        ask = [sys.executable, "-c", "import time; print(time.time())"]
        clock.jump(-5000)
        now = subprocess.check_output(ask, env={**ENVIRONMENT, **clock.environment})
        assert 4900 < time.time() - float(now) < 5100  # the clock can be set
        cluster.start("server", environment=clock.environment)
        cluster.start("player", 1, environment=clock.environment)
        cluster.start("player", "bob", face="blocking", environment=clock.environment)
        start_load(cluster)
        since = time.monotonic()
        for jump_s in (7 * 86400, -7 * 86400, 1, 0):
            clock.jump(jump_s)
            cluster.wait_until_all_work(time.monotonic())
        assert not cluster.histories.find(since, what="disconnected")
        check_at_rest(cluster)


WALL_CLOCK = {
    ROOT / "sdk" / "ringback" / "tokens.py": 1,
    ROOT / "broker" / "ringback_broker" / "daemon" / "broker.py": 1,
    ROOT / "broker" / "ringback_broker" / "nats" / "bucket.py": 1,
}
"""The files that ask the wall clock, and in how many places. A token expires at a wall clock time: its signer
and the broker have no other clock in common. The broker asks when a token comes, and never again. No endpoint
imports `ringback.tokens` (see tests/test_imports.py). The first revision of a bucket is a time: the command
that makes it asks for that, and no broker does."""


def test_no_code_asks_the_wall_clock() -> None:
    """Check the source of the SDK and of the broker. Only log lines have other times."""
    asked: Counter[Path] = Counter()
    for path in (*ROOT.glob("sdk/**/*.py"), *ROOT.glob("broker/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                # `date` may be imported as a type. `date.today` asks the wall clock.
                assert node.value.id not in ("date", "datetime"), path
                if node.value.id == "time":
                    if path in WALL_CLOCK and node.attr == "time":
                        asked[path] += 1
                        continue
                    if path.name == "logs.py" and node.attr == "gmtime":  # formats the time that a record has
                        continue
                    assert node.attr in ("monotonic", "thread_time"), path  # the second counts processor time
            if isinstance(node, ast.ImportFrom):
                assert node.module != "time", path
                asks = {alias.name for alias in node.names} & {"*", "datetime"}
                assert node.module != "datetime" or not asks, path
            if isinstance(node, ast.Import):
                assert "datetime" not in {alias.name for alias in node.names}, path
    assert asked == WALL_CLOCK
