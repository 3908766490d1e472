"""Operators see and order the whole realm, whatever node they are connected to."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from support.harness import ENVIRONMENT, PATIENCE_S, eventually
from support.keyring import KeyRing
from support.realm_processes import RealmOfProcesses, until_works

from ringback import CallbackError, Code, ConnectionLost, Forbidden, Operator, UnknownNode, UnknownPlayer, aio
from ringback.credentials import KeyPair
from ringback.protocol.control import Subject, named


def nodes(operator: Operator) -> dict[str, dict[str, Any]]:
    rows, _ = operator.query("nodes").result(timeout=PATIENCE_S)
    found = [named(Subject.NODES, row) for row in rows]
    return {row["node"]: row for row in found}


def players_by_node(operator: Operator) -> tuple[dict[str, set[Any]], dict[str, str], int]:
    """Return the players of each node, the nodes that are missing, and how many pages that took."""
    found: dict[str, set[Any]] = {}
    missing: dict[str, str] = {}
    after: dict[str, int] | None = None
    pages = 0
    while pages == 0 or after is not None:
        rows, after, without = operator.query_realm("players", after=after).result(timeout=PATIENCE_S)
        for node, player, *_ in rows:
            assert player not in found.setdefault(node, set())
            found[node].add(player)
        missing |= without
        pages += 1
    return found, missing, pages


def all_linked(operator: Operator, names: str = "abc") -> None:
    """Wait until the node of an operator has links to all others."""
    linked = dict.fromkeys(names, True)
    eventually(lambda: {name: row["linked"] for name, row in nodes(operator).items()} == linked, "all links")


# -- nothing ends here: one realm for all


def test_all_nodes_are_listed_the_own_one_first(shared: RealmOfProcesses) -> None:
    for name in "abc":
        operator = shared.operator(name)
        assert operator.node == name
        all_linked(operator)
        found = nodes(operator)
        assert list(found) == sorted("abc", key=lambda other: (other != name, other))
        assert {len(row["boot"]) for row in found.values()} == {16}
        assert {row["software"].partition("/")[0] for row in found.values()} == {"ringback"}
        assert all(abs(row["since_unix_s"] - time.time()) < 3600 for row in found.values())
        assert not any(row["draining"] for row in found.values())
        assert all(row["renewed_s"] < 60 for row in found.values())


def test_players_callbacks_counters_and_events_of_the_realm(shared: RealmOfProcesses) -> None:
    server = shared.server("b")
    for number, node in enumerate("aabbcc", 101):
        shared.player(node, number)
    eventually(lambda: set(range(101, 107)) <= set(server.players), "the server knows all players")
    operator = shared.operator("a")
    all_linked(operator)
    found, missing, _ = players_by_node(operator)
    assert not missing
    assert {name: found[name] & set(range(101, 107)) for name in "abc"} == {
        "a": {101, 102},
        "b": {103, 104},
        "c": {105, 106},
    }
    for node in "abc":
        rows, _ = operator.query("players", node=node).result(timeout=PATIENCE_S)
        assert {row[0] for row in rows} == found[node]
    rows, after, missing = operator.query_realm("callbacks").result(timeout=PATIENCE_S)
    at = {(node, side) for node, key, side, endpoints, *_ in rows if key == "echo" and endpoints}
    assert at == {("a", "player"), ("b", "player"), ("c", "player"), ("b", "server")}
    rows, after, missing = operator.query_realm("counters").result(timeout=PATIENCE_S)
    assert {row[0] for row in rows} == set("abc") and after is None and not missing
    rows, _, _ = operator.query_realm("events").result(timeout=PATIENCE_S)
    joined = {(row[0], row[5]) for row in rows if row[3] == "joined"}
    assert {("a", 101), ("b", 103), ("c", 105)} <= joined
    eventually(
        lambda: (nodes(operator)["b"]["acting"], nodes(operator)["c"]["players"]) == (1, len(found["c"])),
        "the record of the node says what is there",
    )


def test_a_shell_completes_players_of_all_nodes(shared: RealmOfProcesses) -> None:
    for node in "abc":
        shared.player(node, f"completed-{node}")
    asked = {
        "RINGBACK_BACKEND": shared.brokers["a"].backend,
        "_RINGBACK_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": "ringback kick compl",
    }

    def completed() -> list[str]:
        command = [sys.executable, "-m", "ringback_cli"]
        environment = {**ENVIRONMENT, **asked}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return sorted(done.stdout.split())

    expected = [f"completed-{node}" for node in "abc"]
    eventually(lambda: completed() == expected, "a shell completes the players of all nodes")


def test_the_other_face(shared: RealmOfProcesses) -> None:
    async def run() -> None:
        async with aio.Operator(shared.brokers["c"].backend, connect_timeout=60) as operator:
            assert operator.node == "c"
            rows, after, missing = await operator.query_realm("counters", timeout=PATIENCE_S)
            assert {row[0] for row in rows} == set("abc") and after is None and not missing
            rows, _ = await operator.query("counters", node="a", timeout=PATIENCE_S)
            assert rows
            with pytest.raises(UnknownNode, match="'d'"):
                await operator.query("counters", node="d", timeout=PATIENCE_S)
        assert operator.node is None

    asyncio.run(run())


def test_orders_to_another_node(shared: RealmOfProcesses) -> None:
    operator, player = shared.operator("a"), shared.player("b", 201)
    all_linked(operator)
    with pytest.raises(UnknownPlayer):
        operator.kick(201, node="c").result(timeout=PATIENCE_S)
    assert player.connected
    operator.kick(201, "for a test", node="b").result(timeout=PATIENCE_S)
    eventually(lambda: not player.connected, "the player was kicked")
    rows, _ = operator.query("events", node="b").result(timeout=PATIENCE_S)
    orders = [named(Subject.EVENTS, row)["reason"] for row in rows if row[2] == "ordered"]
    assert any(text.startswith("kick player 201 (for a test), by operator") for text in orders)
    assert any(text.endswith("of node a") for text in orders)


def test_watched_calls_of_another_node(shared: RealmOfProcesses) -> None:
    server = shared.server("b", standby=True)
    operator, player = shared.operator("a"), shared.player("c", 202)
    all_linked(operator)
    for node in "abc":
        operator.watch(key="echo", payloads=True, for_s=60, node=node).result(timeout=PATIENCE_S)

    def watched() -> bool:
        player.trigger_server_callback("echo", "seen").result(timeout=PATIENCE_S)
        rows, _, missing = operator.query_realm("calls").result(timeout=PATIENCE_S)
        assert not missing
        return any((row[4], row[5], row[6]) == (202, "echo", "OK") for row in rows)

    eventually(watched, "a call that was watched")
    server.close()


def test_a_name_that_is_nobody_s(shared: RealmOfProcesses) -> None:
    operator = shared.operator("a")
    for order in (
        lambda: operator.query("players", node="nowhere"),
        lambda: operator.drain(node="nowhere"),
        lambda: operator.kick(7, node="nowhere"),
        lambda: operator.watch(node="nowhere"),
    ):
        error = order().error
        assert isinstance(error, UnknownNode) and "'nowhere'" in error.message and error.executed == "no"
    for wrong in ("a.b", "", "x" * 65):
        with pytest.raises(ValueError, match="name of a node"):
            operator.query("players", node=wrong)
    assert operator.connected


def test_the_program_of_the_page(shared: RealmOfProcesses, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(from ringback import Operator\n.*?)```", page, re.DOTALL)
    shared.player("c", 203)
    all_linked(shared.operator("b"))
    exec(program.replace("tcp://127.0.0.1:5771", shared.brokers["b"].backend), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "connected to node b" and "c 203" in printed


# -- nodes end


@pytest.mark.faults
def test_a_stopped_node_is_missing_and_nothing_hangs(short: RealmOfProcesses) -> None:
    operator = short.operator("a")
    short.player("b", 1)
    short.player("c", 2)
    all_linked(operator)
    stopped = short.brokers["c"].process
    stopped.signal(signal.SIGSTOP)
    rows, _, missing = operator.query_realm("players", timeout=60).result(timeout=PATIENCE_S)
    assert [row[:2] for row in rows] == [["b", 1]]
    assert list(missing) == ["c"] and "'c'" in missing["c"]
    error = operator.query("players", node="c", timeout=60).error
    assert isinstance(error, CallbackError) and "'c'" in error.message
    assert error.code in (Code.TIMEOUT, Code.CONNECTION_LOST, Code.UNKNOWN_NODE)
    eventually(lambda: not nodes(operator)["c"]["linked"], "the link to a node that is stopped ends")
    error = operator.drain(node="c", timeout=60).error
    assert isinstance(error, UnknownNode) and error.executed == "no"
    stopped.signal(signal.SIGCONT)
    eventually(lambda: nodes(operator).get("c", {"linked": False})["linked"], "it is linked again")
    _, missing, _ = players_by_node(operator)
    assert not missing


def test_a_node_is_killed_while_it_is_asked(realm: RealmOfProcesses) -> None:
    operator = realm.operator("a")
    all_linked(operator)
    stopped = realm.brokers["b"].process
    stopped.signal(signal.SIGSTOP)  # so that the question certainly has no answer yet
    calls = [operator.query("players", node="b", timeout=60) for _ in range(20)]
    whole = operator.query_realm("players", timeout=60)
    realm.kill("b")
    codes = {call.error.code for call in calls if call.error is not None}
    assert len([call for call in calls if call.error is not None]) == 20
    assert codes <= {Code.TIMEOUT, Code.CONNECTION_LOST, Code.OVERLOADED, Code.UNKNOWN_NODE}
    assert all(call.error is not None and "'b'" in call.error.message for call in calls)
    _, _, missing = whole.result(timeout=PATIENCE_S)
    assert list(missing) == ["b"]


@pytest.mark.faults
def test_the_node_of_the_operator_is_killed_while_it_asks(realm: RealmOfProcesses) -> None:
    operator = realm.operator("a")
    all_linked(operator)
    realm.brokers["b"].process.signal(signal.SIGSTOP)
    calls = [operator.query("players", node="b", timeout=60), operator.query_realm("players", timeout=60)]
    realm.kill("a")
    assert all(isinstance(call.error, ConnectionLost) for call in calls)


def test_a_node_drains_on_the_order_of_another_one(realm: RealmOfProcesses) -> None:
    operator, player = realm.operator("a"), realm.player("b", 1)
    all_linked(operator)
    first, second = realm.server("b", standby=True), realm.server("c", standby=True)
    until_works(lambda: operator.trigger_callback("node", 1), "b")
    eventually(lambda: operator.hand_over().error is None, "its node knows that one stands by")
    eventually(lambda: second.acting and not first.acting, "the server at another node acts")
    operator.drain(30.0, node="b").result(timeout=PATIENCE_S)
    assert realm.brokers["b"].process.wait() == 0
    assert not player.connected and operator.connected
    eventually(lambda: list(nodes(operator)) == ["a", "c"], "it has left the realm")


# -- the dashboard and the metrics


def test_the_dashboard_shows_the_realm_and_metrics_one_node() -> None:
    with RealmOfProcesses("ab", options=("--http", "127.0.0.1:0", "--dashboard")) as realm:
        realm.server("b")
        players = [realm.player("a", 1), realm.player("b", 2)]
        found = re.search(r"http=(\S+)", "\n".join(realm.brokers["a"].process.lines))
        assert found is not None

        def fetch(path: str) -> str:
            with urlopen(f"{found[1]}{path}", timeout=PATIENCE_S) as response:
                text: str = response.read().decode()
                return text

        def state() -> dict[str, Any]:
            loaded: dict[str, Any] = json.loads(fetch("/api/state"))
            return loaded

        def listed() -> list[tuple[Any, ...]]:
            rows = json.loads(fetch("/api/players?sort=node"))["rows"]
            return [(row["node"], row["player"]) for row in rows]

        eventually(lambda: listed() == [("a", 1), ("b", 2)], "the players of both nodes")
        eventually(lambda: state()["sessions"]["server"] == 1, "the server of the other node")
        at = state()
        assert [row["node"] for row in at["nodes"]] == ["a", "b"] and at["missing"] == {}
        assert {("a", 1), ("b", 2)} <= {(row["node"], row["player"]) for row in at["events"]}
        before = state()["counters"]["frames_up"]

        def rates_are_there() -> bool:
            assert players[0].trigger_server_callback("echo").result() == [1, None]
            now = state()
            return now["rates"].get("frames_up", 0) > 0 and now["counters"]["frames_up"] > before

        eventually(rates_are_there, "frames of the whole realm are counted")
        after: int | None = None
        seen: list[dict[str, Any]] = []

        def taps() -> bool:
            nonlocal after
            body = json.dumps({"key": "echo", "player_id": 1, "after": after}).encode()
            request = Request(f"{found[1]}/api/tap", body, {"Content-Type": "application/json"})
            with urlopen(request, timeout=PATIENCE_S) as response:
                answer = json.load(response)
            seen.extend(answer["calls"])
            if after is None or not seen:
                assert players[0].trigger_server_callback("echo").result() == [1, None]
            after = answer["after"]
            return bool(seen)

        eventually(taps, "a call that the server at the other node has reported")
        assert (seen[0]["node"], seen[0]["player"], seen[0]["outcome"]) == ("b", 1, "OK")
        [player] = json.loads(fetch("/api/player?id=2"))["rows"]
        assert (player["node"], player["player"]) == ("b", 2)
        assert any(json.loads(fetch("/api/history?key=echo&side=server"))["age_s"])
        eventually(lambda: 'ringback_realm_nodes{state="linked"} 1.0' in fetch("/metrics"), "linked nodes")
        metrics = fetch("/metrics")
        for line in (
            "ringback_realm_member 1.0",
            "ringback_realm_seat 0.0",
            'realm_nodes{state="alive"} 1.0',
        ):
            assert line in metrics
        assert 'ringback_sessions{role="player"} 1.0' in metrics


# -- rights


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[RealmOfProcesses, dict[str, KeyPair]]]:
    """Start two nodes with an access list, and return the key pairs of those who may join."""
    ring = KeyRing(tmp_path)
    keys = {
        "boss": ring.add("boss", "operator"),
        "looker": ring.add("looker", "operator", more="orders = false"),
        "anna": ring.add("anna", "player", 7),
    }
    with RealmOfProcesses("ab", options=ring.options) as realm:
        yield realm, keys


def test_the_access_list_holds_across_nodes(locked: tuple[RealmOfProcesses, dict[str, KeyPair]]) -> None:
    realm, keys = locked
    player = realm.player("b", 7, key_file=keys["anna"])
    looker, boss = (realm.operator("a", key_file=keys[name]) for name in ("looker", "boss"))
    all_linked(looker, "ab")
    rows, _, _ = looker.query_realm("players").result(timeout=PATIENCE_S)
    assert [row[:2] for row in rows] == [["b", 7]]
    for order in (
        lambda: looker.kick(7, node="b"),
        lambda: looker.drain(node="b"),
        lambda: looker.watch(node="b"),
        lambda: looker.query("calls", node="b"),
        lambda: looker.query_realm("calls"),
    ):
        assert isinstance(order().error, Forbidden)
    assert player.connected
    assert boss.query_realm("calls").result(timeout=PATIENCE_S) == ([], None, {})
    boss.kick(7, node="b").result(timeout=PATIENCE_S)
    eventually(lambda: not player.connected, "the player was kicked")
    rows, _ = boss.query("events", node="b").result(timeout=PATIENCE_S)
    assert named(Subject.EVENTS, rows[-2])["identity"] == "boss"


# -- many players


@pytest.mark.faults
def test_a_thousand_players_page_by_page(realm: RealmOfProcesses) -> None:
    """One node has more players than a page."""
    where = {number: "a" if number <= 1100 else "bc"[number % 2] for number in range(1, 1401)}

    async def run() -> None:
        players = [
            aio.Player(realm.brokers[node].players, n, connect_timeout=60) for n, node in where.items()
        ]
        for begin in range(0, len(players), 100):
            await asyncio.gather(*(player.start() for player in players[begin : begin + 100]))
        operator = realm.operator("b")
        found, missing, pages = await asyncio.to_thread(players_by_node, operator)
        assert not missing and pages == 2
        assert {n: node for node, ids in found.items() for n in ids} == where
        await asyncio.gather(*(player.close() for player in players))

    asyncio.run(run())
