"""The options of an endpoint: type checkers know each argument, and the options hide secrets."""

from __future__ import annotations

from dataclasses import fields

import pytest

import ringback
import ringback.aio
from ringback._runtime.options import BlockingArguments, BlockingOptions, EndpointArguments, EndpointOptions
from ringback.protocol.frames import Role

OWN = {"role", "address", "player_id", "keys"}
"""Fields that are no keyword argument of every constructor."""


@pytest.mark.parametrize(
    ("arguments", "options"), [(EndpointArguments, EndpointOptions), (BlockingArguments, BlockingOptions)]
)
def test_every_option_is_an_argument_that_type_checkers_know(
    arguments: type, options: type[EndpointOptions]
) -> None:
    assert {field.name for field in fields(options)} == set(arguments.__annotations__) | OWN


@pytest.mark.parametrize("module", [ringback, ringback.aio])
@pytest.mark.parametrize("role", ["Server", "Player", "Operator"])
def test_an_unknown_argument_is_named(module: object, role: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'limit'"):
        getattr(module, role)("tcp://127.0.0.1:1", limit=5)


def test_the_docstrings_describe_every_argument() -> None:
    for module, arguments in ((ringback, BlockingArguments), (ringback.aio, EndpointArguments)):
        for kind in (module.Server, module.Player, module.Operator):
            for name in ("address", "player_id", *arguments.__annotations__):
                assert f"\n        {name}: " in str(kind.__doc__), name


def test_the_token_is_not_in_the_repr() -> None:
    key = "x" * 40
    options = EndpointOptions(role=Role.PLAYER, address="tcp://127.0.0.1:1", broker_key=key, token="hush")
    assert options.keys is not None
    assert "hush" not in repr(options) and options.keys.secret not in repr(options)
