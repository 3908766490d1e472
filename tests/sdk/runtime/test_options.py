"""The options of an endpoint: type checkers know each argument, and the options hide secrets."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import fields
from typing import Any

import pytest

import ringback
import ringback.aio
from ringback._runtime.options import (
    BlockingArguments,
    BlockingOptions,
    BlockingServerArguments,
    EndpointArguments,
    EndpointOptions,
    ServerArguments,
)
from ringback.protocol.frames import Role

OWN = {"role", "address", "addresses", "player_id", "keys", "standby"}
"""Fields that are no keyword argument of every constructor."""


@pytest.mark.parametrize(
    ("arguments", "options"), [(EndpointArguments, EndpointOptions), (BlockingArguments, BlockingOptions)]
)
def test_every_option_is_an_argument_that_type_checkers_know(
    arguments: type, options: type[EndpointOptions]
) -> None:
    assert {field.name for field in fields(options)} == set(arguments.__annotations__) | OWN


@pytest.mark.parametrize(
    ("arguments", "others"),
    [(ServerArguments, EndpointArguments), (BlockingServerArguments, BlockingArguments)],
)
def test_a_server_has_one_argument_more(arguments: type, others: type) -> None:
    assert arguments.__annotations__.keys() - others.__annotations__.keys() == {"standby"}


@pytest.mark.parametrize("module", [ringback, ringback.aio])
@pytest.mark.parametrize("role", ["Server", "Player", "Operator"])
def test_an_unknown_argument_is_named(module: object, role: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'limit'"):
        getattr(module, role)("tcp://127.0.0.1:1", limit=5)


@pytest.mark.parametrize(
    ("module", "role", "name", "advice"),
    [
        (ringback, "Server", "limit", "did you mean 'limits'?"),
        (ringback, "Server", "standbye", "did you mean 'standby'?"),
        (ringback.aio, "Player", "standby", "only a server has it"),
        (ringback, "Player", "worker", "did you mean 'workers'?"),
        (ringback.aio, "Player", "tokn", "did you mean 'token'?"),
        (ringback, "Player", "playerid", "did you mean 'player_id'?"),
        (ringback.aio, "Player", "playerid", "did you mean 'player_id'?"),
        (ringback.aio, "Player", "workers", "only the blocking face has it"),
        (ringback, "Server", "player_id", "only a player may have a player_id, not a server"),
        (ringback, "Operator", "zzz", "there are broker_key, connect_timeout, heartbeat, key_file, limits"),
        (ringback.aio, "Operator", "role", "there are broker_key"),
    ],
)
def test_an_unknown_argument_gets_advice(module: object, role: str, name: str, advice: str) -> None:
    with pytest.raises(TypeError) as raised:
        getattr(module, role)("tcp://127.0.0.1:1", **{name: 5})
    assert advice in str(raised.value)


def test_the_docstrings_describe_every_argument() -> None:
    for module, arguments in ((ringback, BlockingArguments), (ringback.aio, EndpointArguments)):
        for kind in (module.Server, module.Player, module.Operator):
            listed = str(kind.__doc__).partition("Args:")[2].partition("Raises:")[0]
            own = {module.Server: ["standby"], module.Player: ["player_id"]}.get(kind, [])
            names = ["address", *own, *arguments.__annotations__]
            assert sorted(re.findall(r"^        (\w+): ", listed, re.M)) == sorted(names)


def test_the_token_is_not_in_the_repr() -> None:
    key = "x" * 40
    options = EndpointOptions(role=Role.PLAYER, address="tcp://127.0.0.1:1", broker_key=key, token="hush")
    assert options.keys is not None
    assert "hush" not in repr(options) and options.keys.secret not in repr(options)


@pytest.mark.parametrize("module", [ringback, ringback.aio])
def test_the_repr_of_an_endpoint_names_it_and_hides_secrets(module: Any) -> None:
    player = module.Player("tcp://127.0.0.1:1", 7, token="hush", broker_key="x" * 40)
    name = module.__name__
    assert repr(player) == f"<{name}.Player('tcp://127.0.0.1:1', 7) not started, or closed>"
    assert repr(module.Player("tcp://127.0.0.1:1")).startswith(f"<{name}.Player('tcp://127.0.0.1:1') ")
    secret = player._options.keys.secret
    for text in (repr(player), f"{player}", f"{player._options}", f"{player._options.keys!s:>20}"):
        assert "hush" not in text and secret not in text

    class Bot(module.Player):  # type: ignore[misc, name-defined]
        pass

    assert f"{__name__}." in repr(Bot("tcp://127.0.0.1:1")) and "Bot(" in repr(Bot("tcp://127.0.0.1:1"))
    assert repr(Bot.__new__(Bot)) == f"<{name}.Bot whose constructor failed>"


@pytest.mark.parametrize("module", [ringback, ringback.aio])
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_endpoint_is_not_copied_or_pickled(module: Any, duplicate: Any) -> None:
    player = module.Player("tcp://127.0.0.1:1", token="hush", broker_key="x" * 40)
    with pytest.raises(TypeError, match=r"a Player cannot be copied or pickled: .*Construct one") as raised:
        duplicate(player)
    assert "hush" not in str(raised.value)
