"""`--sort`, `--invert`, `--filter` and `--limit` of `ringback players` and `ringback callbacks`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.harness import BrokerProcess

from ringback import Operator, Server
from ringback.protocol.limits import IDS_A_FRAME
from ringback_cli.choosing import Choice, find_chosen
from ringback_cli.commands.callbacks import COLUMNS
from ringback_cli.connection import Connection, TimeLimit
from ringback_cli.exits import Exit
from ringback_cli.rows import with_nodes


def players(shop: Any, *arguments: str, column: str = "player") -> list[Any]:
    code, output, errors = shop.run("players", "--json", *arguments)
    assert (code, errors) == (Exit.OK, "")
    return [row[column] for row in json.loads(output)]


def test_players_are_sorted_and_chosen(shop: Any) -> None:
    assert players(shop) == [7, "7", "other"]
    assert players(shop, "--sort", "callbacks", "--limit", "1") == [7]
    assert players(shop, "--sort", "player", "--invert") == ["other", "7", 7]
    ages = players(shop, "--sort", "connected_s", "--invert", column="connected_s")
    assert len(ages) == 3 and ages == sorted(ages)
    assert players(shop, "--invert") == ["other", "7", 7]
    assert players(shop, "--limit", "2") == [7, "7"]
    assert players(shop, "--filter", "OTH") == ["other"]
    assert players(shop, "--filter", "[!0-9]*") == ["other"], "no IP begins with another character"
    assert players(shop, "--filter", "?ther") == ["other"] and players(shop, "--filter", "THER*") == []
    assert players(shop, "--filter", "127.0.0.*", "--limit", "2", "--sort", "player") == [7, "7"]
    assert players(shop, "--filter", "nobody") == []


def test_callbacks_are_sorted_and_chosen(shop: Any) -> None:
    arguments = ("callbacks", "--json", "--filter", "player", "--sort", "endpoints")
    code, output, errors = shop.run(*arguments)
    assert (code, errors) == (Exit.OK, "")
    assert [(row["key"], row["side"]) for row in json.loads(output)] == [
        ("seven", "player"),
        ("where", "player"),
    ]


def test_a_table_has_the_column_that_sorts(shop: Any) -> None:
    code, output, _ = shop.run("players", "--sort", "heard_s", "--limit", "1")
    assert code == Exit.OK and output.count("\n") == 2


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--sort", "erors"], "not 'erors': did you mean 'errors'?"),
        (["--sort", "erors"], "--sort: the columns of players are player, connected_s, callbacks, ip"),
        (["--sort", ""], "--sort: the columns of players are"),
        (["--filter", "[a"], "--filter: a pattern must close each [ with a ]"),
        (["--filter", "[z-a]"], "--filter: a range in a pattern must ascend"),
        (["--filter", ""], "--filter: the text must not be empty"),
        (["--filter", "*" * 300], "--filter: a pattern must have 1 to 256 UTF-8 bytes"),
        (["--limit", "0"], "--limit: the number must be a whole one, 1 or more, not 0"),
        (["--limit", "x"], "--limit: the number must be a whole one, 1 or more, not 'x'"),
    ],
)
def test_wrong_use(usage: Callable[..., str], arguments: list[str], part: str) -> None:
    assert part in usage("players", *arguments)


def test_a_schema_is_no_row(usage: Callable[..., str]) -> None:
    assert "--schema: it prints no rows" in usage("callbacks", "--schema", "x", "--limit", "1")


def test_as_little_as_possible_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The callbacks of this server take two pages."""
    asked: list[Any] = []
    query = Operator.query_realm

    def query_realm(self: Operator, *given: Any, **named: Any) -> Any:
        asked.append(given)
        return query(self, *given, **named)

    monkeypatch.setattr(Operator, "query_realm", query_realm)
    keys = [f"{number:04}" for number in range(IDS_A_FRAME + 1)]
    with BrokerProcess() as broker:
        server = Server(broker.backend)
        for key in keys:
            server.register_server_callback(key, lambda source, payload: None)
        connection = Connection(TimeLimit(None), broker.backend)

        def rows(choice: Choice) -> tuple[int, list[Any]]:
            asked.clear()
            found = find_chosen(connection, "callbacks", None, choice)
            return len(asked), [row["key"] for row in choice.order(with_nodes("callbacks", found))]

        with server:
            pages, all_of_them = rows(Choice(COLUMNS))
            assert pages == 2 and all_of_them == keys
            assert rows(Choice(COLUMNS, limit=3)) == (1, keys[:3])
            assert rows(Choice(COLUMNS, wanted="000[1-5]", limit=3)) == (1, keys[1:4])
            by_key = Choice(COLUMNS, sort=COLUMNS[0], inverted=True, limit=2)
            assert rows(by_key) == (pages, [keys[-1], keys[-2]]), (
                "the protocol has no order, so all are asked for"
            )
