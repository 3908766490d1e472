"""Three nodes act as one broker: joins, calls up and down across nodes, presence, operators."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.harness import PATIENCE_S, eventually
from support.realm_processes import RealmOfProcesses, outcome

from ringback import BrokerUnreachable, CallbackError, IDTaken, Player, Server, ServerTaken
from ringback.protocol.control import Subject, named


@pytest.fixture(scope="module")
def server(shared: RealmOfProcesses) -> Server:
    """A server at node a, for all tests."""
    return shared.server("a")


@pytest.fixture(scope="module")
def players(shared: RealmOfProcesses, server: Server) -> dict[int, Player]:
    """Two players at each node."""
    found = {number: shared.player("abc"[number % 3], number) for number in range(1, 7)}
    eventually(lambda: set(found) <= set(server.players), "the server knows all players")
    return found


def test_calls_up_and_down(server: Server, players: dict[int, Player]) -> None:
    for number, player in players.items():
        assert outcome(lambda: player.trigger_server_callback("echo", "up")) == [number, "up"]  # noqa: B023
        assert outcome(lambda: server.trigger_client_callback("echo", number, "down")) == "down"  # noqa: B023
        node = outcome(lambda: server.trigger_client_callback("node", number))  # noqa: B023
        assert node == "abc"[number % 3]


def test_payloads_of_all_sizes(server: Server, players: dict[int, Player]) -> None:
    """The largest call fits into a message of NATS with `max_payload: 2MB`."""
    for size in (0, 1, 8000, 9000, 70_000, 500_000, 1_000_000):
        payload = b"x" * size
        for number in (1, 2):
            up = players[number].trigger_server_callback("echo", payload)
            down = server.trigger_client_callback("echo", number, payload)
            assert up.result(timeout=PATIENCE_S) == [number, payload]
            assert down.result(timeout=PATIENCE_S) == payload


def test_many_calls_each_have_one_outcome(server: Server, players: dict[int, Player]) -> None:
    up = [
        (number, step, player.trigger_server_callback("echo", step))
        for step in range(300)
        for number, player in players.items()
    ]
    down = [
        (step, server.trigger_client_callback("echo", number, step))
        for step in range(300)
        for number in players
    ]
    assert [call.result(timeout=PATIENCE_S) for _, _, call in up] == [[n, step] for n, step, _ in up]
    assert [call.result(timeout=PATIENCE_S) for _, call in down] == [step for step, _ in down]


def test_a_call_to_all_players_reaches_all_nodes(server: Server, players: dict[int, Player]) -> None:
    group = server.trigger_all_client_callbacks("node")
    results = group.all(timeout=PATIENCE_S)
    assert {number: results[number].result() for number in players} == {n: "abc"[n % 3] for n in players}


def test_an_id_is_taken_in_the_whole_realm(shared: RealmOfProcesses, players: dict[int, Player]) -> None:
    for node in "abc":
        with pytest.raises(IDTaken), Player(shared.brokers[node].players, 1):
            pass


def test_of_players_that_join_with_one_id_at_one_moment_one_does(
    shared: RealmOfProcesses, server: Server
) -> None:
    for round_ in range(10):
        name = f"rival {round_}"
        barrier, joined, refused = threading.Barrier(3), [], []

        def join(node: str, name: str = name, barrier: Any = barrier, joined: Any = joined) -> None:
            player = Player(shared.brokers[node].players, name)
            barrier.wait(PATIENCE_S)
            try:
                player.start()
                joined.append(player)
            except IDTaken:
                refused.append(node)  # noqa: B023

        threads = [threading.Thread(target=join, args=(node,)) for node in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert (len(joined), len(refused)) == (1, 2)
        eventually(lambda: name in server.players, "the server knows the player")  # noqa: B023
        joined[0].close()
        eventually(lambda: name not in server.players, "the server knows that it left")  # noqa: B023


def test_ids_that_nodes_choose_differ(shared: RealmOfProcesses, server: Server) -> None:
    found = [shared.player(node) for _ in range(3) for node in "abc"]
    ids = {player.player_id for player in found}
    assert len(ids) == 9
    eventually(lambda: ids <= set(server.players), "the server knows all")
    for player in found:
        player.close()
    eventually(lambda: not ids & set(server.players), "the server knows that they left")


def test_a_player_that_leaves_ends_the_calls_to_it(shared: RealmOfProcesses, server: Server) -> None:
    player = shared.player("c", "leaver")
    eventually(lambda: "leaver" in server.players, "the server knows the player")
    call = server.trigger_client_callback("never", "leaver", timeout=60)
    assert outcome(lambda: server.trigger_client_callback("echo", "leaver", 1)) == 1
    player.close()
    assert outcome(lambda: call) == "PLAYER_LEFT"
    assert outcome(lambda: server.trigger_client_callback("echo", "leaver")) == "UNKNOWN_PLAYER"
    # Its ID is free in the whole realm.
    again = shared.player("b", "leaver")
    eventually(lambda: outcome(lambda: server.trigger_client_callback("node", "leaver")) == "b", "a call")
    again.close()


def test_only_one_server_acts_in_the_realm(shared: RealmOfProcesses, server: Server) -> None:
    def is_refused(node: str) -> bool:
        try:
            with Server(shared.brokers[node].backend, connect_timeout=1):
                pytest.fail(f"a second server acts, at node {node}")
        except ServerTaken:
            return True
        except BrokerUnreachable:  # the machine is busy
            return False

    for node in "abc":
        eventually(lambda: is_refused(node), f"a second server is refused at node {node}")  # noqa: B023


def test_operators_at_any_node_call_the_server(shared: RealmOfProcesses, server: Server) -> None:
    for node in "abc":
        operator = shared.operator(node)
        assert outcome(lambda: operator.trigger_callback("echo", 5, 1)) == [5, 1]  # noqa: B023
        operator.close()


def test_an_operator_at_the_server_s_node_calls_players_at_all_nodes(
    shared: RealmOfProcesses, players: dict[int, Player]
) -> None:
    operator = shared.operator("a")
    for number in players:
        found = outcome(lambda: operator.trigger_client_callback("node", number))  # noqa: B023
        assert found == "abc"[number % 3]
    operator.close()


def test_the_node_of_a_player_counts_its_calls(shared: RealmOfProcesses, server: Server) -> None:
    player, caller, looking = shared.player("b", 7), shared.operator("c"), shared.operator("a")
    may_end = threading.Event()

    def hold(payload: Any, cb: Any) -> None:
        may_end.wait(PATIENCE_S)
        cb(payload)

    player.register_client_callback("hold", hold)
    eventually(lambda: 7 in server.players, "the server knows the player")

    def counts() -> dict[str, Any]:
        rows, _ = looking.query("players", node="b", player_id=7).result(timeout=PATIENCE_S)
        row = named(Subject.PLAYERS, rows[0])
        return {name: row[name] for name in ("calls", "errors", "in_flight")}

    calls = [endpoint.trigger_client_callback("hold", 7, 1, timeout=60) for endpoint in (server, caller)]
    eventually(lambda: counts() == {"calls": 0, "errors": 0, "in_flight": 2}, "both calls are in flight")
    may_end.set()
    assert [call.result(timeout=PATIENCE_S) for call in calls] == [1, 1]
    assert player.trigger_server_callback("echo", 2).result(timeout=PATIENCE_S) == [7, 2]
    with pytest.raises(CallbackError):
        server.trigger_client_callback("nothing", 7, 1).result(timeout=PATIENCE_S)
    eventually(lambda: counts() == {"calls": 4, "errors": 1, "in_flight": 0}, "all calls have ended")
    for endpoint in (player, caller, looking):
        endpoint.close()
