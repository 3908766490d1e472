"""Commands at a realm of two nodes, and `ringback nodes` at a broker alone."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.harness import BrokerProcess, eventually
from support.realm_processes import RealmOfProcesses

from ringback import Operator, Player, Server
from ringback_cli import app
from ringback_cli.exits import Exit


def run(node: BrokerProcess, *arguments: str) -> tuple[int, str, str]:
    """Run a command at a node, in this process. Return exit code, output and errors."""
    output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = app.run([*arguments, "--backend", node.backend])
        output.flush()
        errors.flush()
    printed, complained = (stream.buffer.getvalue().decode() for stream in (output, errors))  # type: ignore[attr-defined]
    return code, printed, complained


def rows_of(node: BrokerProcess, *arguments: str) -> list[dict[str, Any]]:
    """Return the JSON that a command prints: an array, or one line for each row."""
    code, output, errors = run(node, *arguments, "--json")
    assert (code, errors) == (Exit.OK, "")
    found = [json.loads(line) for line in output.splitlines()]
    return found[0] if len(found) == 1 and isinstance(found[0], list) else found


def all_linked(realm: RealmOfProcesses, node: str) -> None:
    def linked() -> bool:
        with Operator(realm.brokers[node].backend, connect_timeout=60) as operator:
            rows, _ = operator.query("nodes").result()
            return [row[5] for row in rows] == [True, True]

    eventually(linked, "the nodes are linked")


class World:
    """Two nodes; a server and player 2 at b, player 1 at a."""

    def __init__(self, realm: RealmOfProcesses) -> None:
        self.realm = realm
        self.a, self.b = realm.brokers["a"], realm.brokers["b"]
        self.server: Server = realm.server("b")
        self.players: dict[int, Player] = {1: realm.player("a", 1), 2: realm.player("b", 2)}
        eventually(lambda: {1, 2} <= set(self.server.players), "the server knows the players")
        all_linked(realm, "a")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with RealmOfProcesses("ab") as realm:
        yield World(realm)


def test_nodes(world: World) -> None:
    code, output, errors = run(world.a, "nodes")
    assert (code, errors) == (Exit.OK, "")
    head, *lines = output.splitlines()
    assert head.split()[:3] == ["node", "boot", "software"] and head.endswith("renewed s ago")
    assert [line.split()[0] for line in lines] == ["a", "b"]
    own, other = rows_of(world.b, "nodes")
    assert (own["node"], other["node"], own["linked"], other["draining"]) == ("b", "a", True, False)
    eventually(lambda: rows_of(world.a, "nodes")[1]["acting"] == 1, "a knows that the server acts at b")


def test_players(world: World) -> None:
    code, output, _ = run(world.a, "players")
    head, *lines = output.splitlines()
    assert code == Exit.OK and head.split()[:2] == ["node", "player"]
    assert [line.split()[:2] for line in lines] == [["a", "1"], ["b", "2"]]
    assert [(row["node"], row["player"]) for row in rows_of(world.b, "players")] == [("b", 2), ("a", 1)]
    assert [row["player"] for row in rows_of(world.a, "players", "--node", "b")] == [2]
    code, output, errors = run(world.a, "players", "--node", "c")
    assert (code, output) == (Exit.UNKNOWN_NODE, "")
    assert errors == "UNKNOWN_NODE: the realm has no node 'c'\n"
    code, _, errors = run(world.a, "players", "--node", "a.b")
    assert code == Exit.USAGE and errors.startswith("USAGE: --node: the name of a node must be 1 to 64 of")


def test_callbacks(world: World) -> None:
    found = {
        (row["node"], row["side"])
        for row in rows_of(world.a, "callbacks")
        if row["key"] == "echo" and row["endpoints"]
    }
    assert found == {("a", "player"), ("b", "player"), ("b", "server")}
    assert {row["node"] for row in rows_of(world.a, "callbacks", "--node", "a")} == {"a"}
    assert run(world.a, "callbacks", "--schema", "echo")[:2] == (Exit.OK, "null\n")
    assert run(world.a, "callbacks", "--schema", "ecco")[0] == Exit.UNKNOWN_CALLBACK


def test_stats(world: World) -> None:
    code, output, _ = run(world.a, "stats", "--json")
    found = json.loads(output)
    assert code == Exit.OK and list(found["nodes"]) == ["a", "b"]
    begun = "sessions_begun"
    assert found["counters"][begun] == sum(found["nodes"][node][begun] for node in "ab")
    code, output, _ = run(world.a, "stats")
    assert output.splitlines()[0].split("  ")[0] == "counter" and output.splitlines()[0].endswith("node b")
    code, output, _ = run(world.a, "stats", "--node", "b", "--json")
    assert list(json.loads(output)["nodes"]) == ["b"]
    code, output, _ = run(world.a, "stats", "--interval", "0.1", "--count", "2", "--json")
    first, second = map(json.loads, output.splitlines())
    assert code == Exit.OK and "a_second" in second and "a_second" not in first


def test_events(world: World) -> None:
    found = rows_of(world.a, "events", "--last", "1000")
    joined = {(row["node"], row["player"]) for row in found if row["event"] == "joined"}
    assert {("a", 1), ("b", 2)} <= joined
    assert [row["unix_s"] for row in found] == sorted(row["unix_s"] for row in found)
    assert {row["node"] for row in rows_of(world.a, "events", "--player", "2")} == {"b"}
    assert {row["node"] for row in rows_of(world.b, "events", "--node", "a")} == {"a"}
    code, output, _ = run(world.a, "events")
    assert code == Exit.OK and output.splitlines()[0].split()[0] == "node"
    code, output, _ = run(world.a, "events", "--follow", "--timeout", "1", "--json")
    assert code == Exit.OK and {json.loads(line)["node"] for line in output.splitlines()} == {"a", "b"}
    assert run(world.a, "events", "--follow", "--node", "c")[0] == Exit.UNKNOWN_NODE


def test_explain(world: World) -> None:
    code, output, _ = run(world.a, "explain", "player", "2")
    assert code == Exit.OK and "to node 'b'" in output.splitlines()[0] and "at node 'b'" in output
    code, output, _ = run(world.a, "explain", "player", "99")
    assert code == Exit.UNKNOWN_PLAYER and "no node remembers an event of this player" in output
    code, output, _ = run(world.a, "explain", "callback", "echo")
    assert code == Exit.OK and "the server has registered 'echo' (at node 'b')" in output
    assert run(world.a, "explain", "callback", "echo", "--node", "b")[0] == Exit.OK


def test_top(world: World) -> None:
    code, output, _ = run(world.a, "top", "--count", "2", "--interval", "0.1", "--json", "--sort", "node")
    first, second = map(json.loads, output.splitlines())
    assert code == Exit.OK and first["players"] == second["players"] == 2 and second["server"]
    assert [(row["node"], row["player"]) for row in second["rows"]] == [("a", 1), ("b", 2)]
    assert second["frames_up_s"] is not None and "missing" not in second
    code, output, _ = run(world.a, "top", "--count", "1", "--node", "b", "--view", "callbacks")
    assert code == Exit.OK and output.splitlines()[1].split()[:2] == ["key", "node"]


def test_tap(world: World) -> None:
    stop = threading.Event()

    def call() -> None:
        while not stop.wait(0.05):
            world.players[1].trigger_server_callback("echo", 5)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        arguments = ("tap", "--key", "echo", "--count", "2")
        code, output, errors = run(world.a, *arguments, "--json", "--payloads", "--timeout", "60")
        assert (code, errors) == (Exit.OK, "")
        for call_seen in map(json.loads, output.splitlines()):
            assert (call_seen["node"], call_seen["player"], call_seen["reply"]) == ("b", 1, [[1, 5]])
        code, output, _ = run(world.a, *arguments, "--node", "b", "--timeout", "60")
        assert code == Exit.OK and all(line.split("  ")[1] == "b" for line in output.splitlines())
        assert run(world.a, *arguments, "--node", "c")[0] == Exit.UNKNOWN_NODE
    finally:
        stop.set()
        caller.join()
    assert run(world.a, "tap", "--log", "0")[:2] == (Exit.OK, '{"logged_s": 0.0}\n')


def test_kick(world: World) -> None:
    player = world.realm.player("b", 3)
    assert run(world.a, "kick", "3", "--node", "a")[0] == Exit.UNKNOWN_PLAYER
    assert player.connected
    assert run(world.a, "kick", "3", "--node", "b")[0] == Exit.OK
    eventually(lambda: not player.connected, "the player was kicked")
    player = world.realm.player("b", 4)
    assert run(world.a, "kick", "4")[0] == Exit.OK
    eventually(lambda: not player.connected, "the player of another node was kicked")
    assert run(world.a, "kick", "5")[0] == Exit.UNKNOWN_PLAYER


@pytest.mark.faults
def test_a_node_that_is_stopped_and_then_drains() -> None:
    with RealmOfProcesses("ab") as realm:
        a, b = realm.brokers["a"], realm.brokers["b"]
        realm.player("a", 1)
        all_linked(realm, "a")
        b.process.signal(signal.SIGSTOP)
        for command in ("players", "stats", "events"):
            code, output, errors = run(a, command, "--json")
            assert code == Exit.SOME_FAILED and json.loads(output.splitlines()[0])
            fault = json.loads(errors)["error"]
            assert fault["code"] == "SOME_FAILED"
            assert fault["message"].startswith("the rows of node 'b' are missing: ")
        code, output, _ = run(a, "explain", "player", "2")
        assert code == Exit.UNKNOWN_PLAYER and "it may be at node 'b'" in output
        code, output, _ = run(a, "top", "--count", "1", "--json")
        assert code == Exit.OK and json.loads(output)["missing"] == ["b"]
        code, _, errors = run(a, "nodes", "drain", "b")
        assert code in (Exit.TIMEOUT, Exit.CONNECTION_LOST, Exit.UNKNOWN_NODE) and "'b'" in errors
        b.process.signal(signal.SIGCONT)
        all_linked(realm, "a")
        assert run(a, "nodes", "drain", "b", "--grace", "30") == (Exit.OK, '{"draining": "b"}\n', "")
        assert b.process.wait() == 0
        eventually(lambda: [row["node"] for row in rows_of(a, "nodes")] == ["a"], "it has left the realm")


def test_a_broker_alone_is_the_one_node(shop: Any) -> None:
    [row] = rows_of(shop.broker, "nodes")
    assert (row["node"], row["boot"], row["players"], row["acting"]) == (None, None, 3, 1)
    assert abs(row["since_unix_s"] - time.time()) < 3600
    code, output, _ = run(shop.broker, "nodes")
    assert code == Exit.OK and output.splitlines()[1].split()[:2] == ["-", "-"]
    code, _, errors = run(shop.broker, "nodes", "drain", "b")
    assert code == Exit.UNKNOWN_NODE
    assert errors == "UNKNOWN_NODE: there is no node 'b': this broker is alone\n"
    assert run(shop.broker, "nodes", "drain", "b.c")[0] == Exit.USAGE
    assert all("node" not in row for row in rows_of(shop.broker, "players"))
