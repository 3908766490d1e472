"""`ringback players` as a process, at a real broker."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from support.harness import BrokerProcess
from support.keyring import KeyRing

from ringback import Player
from ringback.credentials import write_key_pair
from ringback_cli.exits import Exit


def test_players(shop: Any) -> None:
    code, output, errors = shop.run("players")
    assert (code, errors) == (Exit.OK, "")
    head, *rows = output.splitlines()
    assert head.split("  ")[0] == "player" and re.search(
        r"window used % +calls +errors +rtt ms +in flight$", head
    )
    assert [row.split()[0] for row in rows] == ["7", '"7"', "other"]
    code, output, _ = shop.run("players", "--json")
    found = json.loads(output)
    assert code == Exit.OK
    assert [list(row) for row in found] == [
        [
            *("player", "connected_s", "callbacks", "ip", "identity", "heard_s", "window_percent"),
            *("calls", "errors", "rtt_ms", "in_flight"),
        ]
    ] * 3
    assert [(row["player"], row["callbacks"]) for row in found] == [(7, 2), ("7", 1), ("other", 1)]
    for row in found:
        assert (row["ip"], row["identity"]) == ("127.0.0.1", None)
        assert 0 <= row["heard_s"] <= row["connected_s"] > 0 and 0 <= row["window_percent"] < 50
        assert 0 <= row["errors"] <= row["calls"] and 0 < row["rtt_ms"] < 1000


def test_players_with_keys(tmp_path: Path, command: Any) -> None:
    ring = KeyRing(tmp_path)
    anna = ring.add("anna", "player", 7)
    cli = write_key_pair(ring.add("cli", "operator"), tmp_path)
    with BrokerProcess(options=ring.options) as broker, Player(broker.players, key_file=anna):
        arguments = ("--backend", broker.backend, "--key-file", str(cli))
        _, output, _ = command("players", "--json", *arguments).end()
        [row] = json.loads(output)
        assert (row["player"], row["identity"]) == (7, "anna")
