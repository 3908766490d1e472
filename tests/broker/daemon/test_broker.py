"""The broker as a process: how it starts, fails to start, stops, and finds peers that are gone."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess, Process, eventually, ipc_addresses
from support.rawpeers import RawPeer

from ringback import Draining, Operator, Player, PlayerLeft, Refused, Server
from ringback.protocol.envelopes import CALL
from ringback.protocol.frames import FrameType, Role, header
from ringback_broker import BindError, Broker, BrokerSettings
from ringback_cli.exits import Exit

ANY_PORT = "tcp://127.0.0.1:0"


def run_broker(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ringback_cli", "broker", *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=ENVIRONMENT,
    )


def expect_refusal(options: tuple[str, ...], code: Exit, *words: str) -> None:
    """Check that the broker ends with a code, and with one line on standard error that has the words."""
    ended = run_broker(*options)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"{code.name}: ")
    for word in words:
        assert word in line


# -- starting


def test_the_ready_line_has_the_ports_that_the_system_chose(broker: BrokerProcess) -> None:
    ports = {int(address.rpartition(":")[2]) for address in (broker.players, broker.backend)}
    assert len(ports) == 2 and 0 not in ports
    with Operator(broker.backend) as operator:
        operator.ping().result()


@pytest.mark.parametrize("option", ["--players", "--backend"])
def test_a_name_that_is_no_name_of_this_machine(option: str) -> None:
    address = "tcp://no-such-broker.invalid:0"
    options = (*BOTH_FREE, "--insecure", option, address)
    expect_refusal(options, Exit.BIND_FAILED, address, "no IP and no network interface of that name")


@pytest.mark.parametrize("option", ["--players", "--backend"])
def test_a_port_in_use(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        expect_refusal((*BOTH_FREE, option, address), Exit.BIND_FAILED, address, "in use")


BOTH_FREE = ("--players", ANY_PORT, "--backend", ANY_PORT)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--players", "here"), Exit.USAGE, ["--players", "tcp://HOST:PORT or ipc://PATH", "'here'"]),
        (("--backend", "tcp://127.0.0.1:99999"), Exit.USAGE, ["--backend", "99999"]),
        (
            ("--players", "tcp://127.0.0.1:5", "--backend", "tcp://127.0.0.1:5"),
            Exit.USAGE,
            ["--backend", "must differ from players"],
        ),
        (("--players", "tcp://192.0.2.1:0"), Exit.USAGE, ["--players", "keys new", "insecure"]),
        (("--insecure", "--players", "tcp://192.0.2.1:0"), Exit.BIND_FAILED, ["tcp://192.0.2.1:0"]),
        (("--insecure", "--backend", "tcp://nowhere.invalid:0"), Exit.BIND_FAILED, ["nowhere.invalid"]),
        (("--players", "ipc:///proc/nowhere/socket"), Exit.BIND_FAILED, ["/proc/nowhere"]),
        (("--lease", "0"), Exit.USAGE, ["--lease", "above 0"]),
        (("--grace", "nan"), Exit.USAGE, ["--grace"]),
        (("--max-players", "-1"), Exit.USAGE, ["--max-players"]),
    ],
)
def test_a_wrong_option(options: tuple[str, ...], code: Exit, words: list[str]) -> None:
    expect_refusal((*BOTH_FREE, *options), code, *words)


@pytest.mark.parametrize("options", [("--lease", "soon"), ("--nonsense",)])
def test_an_option_that_does_not_exist_or_has_no_number(options: tuple[str, ...]) -> None:
    ended = run_broker(*options)
    assert ended.returncode == Exit.USAGE
    assert options[0] in ended.stderr and "Traceback" not in ended.stderr


# -- ipc


def test_only_the_owner_can_use_ipc_sockets(short_folder: Path) -> None:
    folder = short_folder / "new" / "deep"
    players, backend = ipc_addresses(folder)
    with BrokerProcess(players, backend) as broker:
        assert (broker.players, broker.backend) == (players, backend)
        for path in (folder, folder.parent, folder / "p", folder / "b"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        with Server(backend) as server, Player(players, player_id=7) as player:
            server.register_server_callback("echo", lambda source, payload: [source, payload])
            assert player.trigger_server_callback("echo", 1).result() == [7, 1]
            with Operator(backend) as operator:
                players_rows, _ = operator.query("players").result()
                assert [row[3] for row in players_rows] == [""]  # no IP
                event_rows, _ = operator.query("events").result()
                assert {row[6] for row in event_rows} == {""}
            broker.process.signal(signal.SIGTERM)
            assert broker.process.wait() == Exit.OK


def test_a_second_broker_at_the_same_path_is_refused(short_folder: Path) -> None:
    players, backend = ipc_addresses(short_folder)
    with BrokerProcess(players, backend):
        options = ("--players", players, "--backend", ANY_PORT)
        expect_refusal(options, Exit.BIND_FAILED, players, "in use")
        with Operator(backend) as operator, Player(players):
            assert len(operator.query("players").result()[0]) == 1


def test_a_broker_starts_over_what_a_killed_one_left(short_folder: Path) -> None:
    players, backend = ipc_addresses(short_folder)
    with BrokerProcess(players, backend) as broker:
        broker.process.kill()
        assert (short_folder / "p").is_socket()
        broker.start()
        with Operator(backend) as operator:
            operator.ping().result()


def test_a_file_at_the_path_is_not_deleted(short_folder: Path) -> None:
    precious = short_folder / "p"
    precious.write_text("precious")
    expect_refusal(("--players", f"ipc://{precious}", "--backend", ANY_PORT), Exit.BIND_FAILED, str(precious))
    assert precious.read_text() == "precious"


# -- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it(broker: BrokerProcess, number: signal.Signals) -> None:
    broker.process.signal(number)
    assert broker.process.wait() == Exit.OK
    assert not [line for line in broker.process.output() if "Traceback" in line]


class Held:
    """A server that handles a call of a player until the test lets it go."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.server, self.player = Server(broker.backend), Player(broker.players)
        self._begun, self.let_go = threading.Event(), threading.Event()
        self.server.register_server_callback("hold", self._hold)
        self.server.register_server_callback("echo", lambda source, payload: payload)

    def _hold(self, source: Any, payload: Any) -> Any:
        self._begun.set()
        assert self.let_go.wait(PATIENCE_S)
        return payload

    def __enter__(self) -> Held:
        self.server.start()
        self.player.start()
        self.call = self.player.trigger_server_callback("hold", "held")
        assert self._begun.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        self.player.close()
        self.server.close()


def test_calls_in_flight_end_and_new_ones_fail(broker: BrokerProcess) -> None:
    with Held(broker) as held:
        broker.process.signal(signal.SIGTERM)
        broker.process.wait_for("draining")

        def drains() -> bool:
            try:
                return held.player.trigger_server_callback("echo", 1).result() != 1
            except Draining as error:
                assert error.executed == "no"
                return True

        eventually(drains, "the player knows that the broker drains")
        assert not held.call.done()
        held.let_go.set()
        assert held.call.result() == "held"
        assert broker.process.wait() == Exit.OK


def test_a_second_signal_stops_it_at_once() -> None:
    with BrokerProcess(options=("--grace", "1000")) as broker, Held(broker):
        broker.process.signal(signal.SIGTERM)
        broker.process.wait_for("draining for at most 1000 s")
        broker.process.signal(signal.SIGINT)
        assert broker.process.wait() == Exit.FORCED


def test_peers_that_are_left_after_the_grace_are_cut_off() -> None:
    with BrokerProcess(options=("--grace", "0.2")) as broker, Held(broker):
        broker.process.signal(signal.SIGTERM)
        broker.process.wait_for("what they had in flight is lost")
        assert broker.process.wait() == Exit.OK


def test_nobody_joins_while_it_drains() -> None:
    with BrokerProcess(options=("--grace", "1000")) as broker, Held(broker):
        broker.process.signal(signal.SIGTERM)
        broker.process.wait_for("draining")
        with pytest.raises(Refused, match="DRAINING"):
            Player(broker.players, connect_timeout=0.5).start()


# -- peers that are gone

PLAYER = """
import sys, ringback
player = ringback.Player(sys.argv[1], player_id="victim")
player.register_client_callback("asked", lambda payload, cb: print("asked", flush=True))  # never replies
player.start()
print("here", flush=True)
sys.stdin.read()
"""


class WatchedPlayer:
    """A player in a process of its own, and a server that notices when the player has left."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.server = Server(broker.backend)
        self.left = threading.Event()
        self.server.on_player_left(lambda player_id: self.left.set())
        self.process = Process("-c", PLAYER, broker.players, stdin=subprocess.PIPE)

    def __enter__(self) -> WatchedPlayer:
        self.server.start()
        self.process.wait_for("here")
        eventually(lambda: self.server.players == ["victim"], "the player has joined")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.server.close()

    def seconds_until_left(self) -> float:
        started = time.monotonic()
        assert self.left.wait(PATIENCE_S)
        return time.monotonic() - started


def test_a_killed_player_leaves_at_once(any_broker: BrokerProcess) -> None:
    with WatchedPlayer(any_broker) as watched:
        call = watched.server.trigger_client_callback("asked", "victim")
        watched.process.wait_for("asked")
        watched.process.signal(signal.SIGKILL)
        assert watched.seconds_until_left() < 1.5  # 0.01 here; heartbeats would take 2
        with pytest.raises(PlayerLeft):
            call.result()


def test_a_stopped_player_is_found_by_heartbeats(broker: BrokerProcess) -> None:
    with WatchedPlayer(broker) as watched:
        watched.process.signal(signal.SIGSTOP)
        assert watched.seconds_until_left() < 15  # 1 to 2 here; the lease would take 30
        watched.process.signal(signal.SIGCONT)
        eventually(lambda: watched.server.players == ["victim"], "the player comes back by itself")


def test_the_last_messages_of_a_player_that_leaves_arrive(any_broker: BrokerProcess) -> None:
    """They arrive even if the connection is closed, or its descriptor has another connection, before they are
    read."""
    context: zmq.Context[Any] = zmq.Context()
    with Server(any_broker.backend) as server:
        # It never replies: unread replies at a peer that closes would make the kernel reset the connection.
        server.register_server_callback("note", lambda source, payload, cb: None)
        for turn in range(20):
            peer = RawPeer(context, any_broker.players)
            peer.join(Role.PLAYER)
            for number in range(50):
                envelope = [CALL, number, "note", [turn, number], None]
                peer.send(header(FrameType.DATA) + msgpack.packb([envelope]))
            peer.socket.disable_monitor()
            peer.monitor.close(0)
            peer.socket.close(int(PATIENCE_S * 1000))
        eventually(lambda: server.counters.executions == 1000, "all calls have arrived")
    context.term()


# -- inside a program


@pytest.fixture
def here() -> Iterator[Broker]:
    broker = Broker(BrokerSettings(players=ANY_PORT, backend=ANY_PORT, grace=1000.0))
    yield broker
    broker.close()


def test_a_broker_in_a_thread_is_stopped_from_another(here: Broker) -> None:
    left: list[bool] = []
    thread = threading.Thread(target=lambda: left.append(here.run()))
    thread.start()
    with Operator(here.backend) as operator:
        operator.ping().result()
        here.stop()
        thread.join(PATIENCE_S)  # the operator leaves when the broker drains
    assert left == [True]
    here.stop()  # too late, but it does no harm


def test_a_broker_that_is_stopped_twice_does_not_wait(here: Broker) -> None:
    left: list[bool] = []
    thread = threading.Thread(target=lambda: left.append(here.run()))
    thread.start()
    context: zmq.Context[Any] = zmq.Context()
    with RawPeer(context, here.players) as peer:
        peer.join(Role.PLAYER)
        here.stop()
        peer.told()  # DRAINING, which this peer ignores
        here.stop()
        thread.join(PATIENCE_S)
        assert left == [False]
    context.term()


def test_a_broker_that_is_stopped_before_it_runs(here: Broker) -> None:
    here.stop()
    assert here.run()


def test_a_broker_that_never_runs_can_be_closed(here: Broker) -> None:
    address = here.players
    here.close()
    here.close()
    again = Broker(BrokerSettings(players=address, backend=ANY_PORT))
    assert again.players == address
    again.close()


def test_a_broker_whose_second_address_is_taken_frees_the_first(here: Broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = f"tcp://127.0.0.1:{other.getsockname()[1]}"
    with pytest.raises(BindError, match="in use"):
        Broker(BrokerSettings(players=free, backend=here.backend))
    Broker(BrokerSettings(players=free, backend=ANY_PORT)).close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_it_runs(here: Broker, number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    here.handle_signals()
    os.kill(os.getpid(), number)
    assert here.run()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_signals_of_the_program_around_it_do_not_stop_it(
    here: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """If they counted, two of them would stop it at once."""
    before = signal.signal(signal.SIGUSR1, lambda *_: here.stop())
    try:
        here.handle_signals()
        os.kill(os.getpid(), signal.SIGUSR1)
        with caplog.at_level(logging.INFO, "ringback.broker"):
            assert here.run()
        assert "draining" in caplog.text and "stopping at once" not in caplog.text
    finally:
        signal.signal(signal.SIGUSR1, before)


# -- descriptors


def test_too_few_descriptors_lower_the_number_of_players() -> None:
    """A limit applies to a whole process, so this test has a process of its own."""
    script = f"""
import logging, resource, sys
sys.path[:0] = {sys.path!r}
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, (500, 3000))
from ringback_broker import Broker, BrokerSettings
for wanted in (1000, 100_000):
    broker = Broker(BrokerSettings(players={ANY_PORT!r}, backend={ANY_PORT!r}, max_players=wanted))
    print(broker.settings.max_players, *resource.getrlimit(resource.RLIMIT_NOFILE))
    broker.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    enough, warning, lowered = done.stdout.splitlines()
    players, soft, hard = map(int, enough.split())
    assert players == 1000 and players < soft <= hard
    players, soft, hard = map(int, lowered.split())
    if soft < 100_000:  # not allowed to raise the hard limit
        assert soft == hard == 3000 and 1500 < players < 2500
        assert warning.startswith(f"max_players is {players}, not 100000: that takes 11")


def test_a_broker_without_a_free_descriptor_says_so() -> None:
    """libzmq accepts nobody then, and says nothing. Connected peers keep working."""
    with BrokerProcess() as broker, Server(broker.backend) as server, Player(broker.players, 1) as player:
        server.register_server_callback("echo", lambda source, payload: payload)
        pid = broker.process.popen.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
        free = next(number for number in range(limits[0]) if number not in taken)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, limits[1]))
        broker.process.wait_for("ERROR .*: Too many open files: nobody can connect; .*ulimit -n")
        assert player.trigger_server_callback("echo", 1).result() == 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        broker.process.wait_for("INFO .* there are descriptors again")
        with Player(broker.players, 2):
            eventually(lambda: sorted(server.players) == [1, 2], "the other player joins")
