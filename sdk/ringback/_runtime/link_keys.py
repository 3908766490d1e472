"""What an endpoint is told of keys and tokens, checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ringback.protocol.frames import Role
from ringback.protocol.names import check_public_key

if TYPE_CHECKING:
    from os import PathLike

    from ringback.credentials import KeyPair

Token = str | Callable[[], str | Awaitable[str]]


def link_keys(
    role: Role, key_file: str | PathLike[str] | KeyPair | None, broker_key: str | None, token: Token | None
) -> KeyPair | None:
    """Gives the keys of an encrypted link; None for a plain one.

    Raises:
        TypeError, ValueError: something is wrong, or they do not go together.
    """
    if broker_key is not None:
        check_public_key(broker_key)
    if token is not None and role is not Role.PLAYER:
        raise TypeError(f"only a player has a token, not a {role}")
    if token is not None and not isinstance(token, str) and not callable(token):
        raise TypeError(f"token is a str, or a function that gives one, not {type(token).__name__}")
    if key_file is None and broker_key is None:
        if token is not None:
            raise ValueError("a token needs broker_key, the broker's public key: it is a secret")
        return None
    from ringback.credentials import KeyPair, load_key_pair, new_ephemeral_pair  # few need it

    if key_file is None:
        assert broker_key is not None
        return new_ephemeral_pair(broker_key)
    pair = key_file if isinstance(key_file, KeyPair) else load_key_pair(key_file)
    if pair.role != role:
        raise ValueError(f"the key {pair.name!r} has the role {pair.role}, not {role}")
    broker = broker_key or pair.broker
    if broker is None:
        raise ValueError(
            f"the key {pair.name!r} does not name the broker's public key: give it as broker_key,"
            " or make the key with `ringback keys new --broker-key`"
        )
    return pair.with_broker(broker)


def check_token(token: object) -> str:
    """Gives what a function for tokens has given, or raises TypeError."""
    if not isinstance(token, str):
        raise TypeError(f"the function for tokens gave {type(token).__name__}, not a str")
    return token
