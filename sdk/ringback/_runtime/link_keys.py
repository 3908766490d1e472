"""The arguments about keys and tokens of an endpoint: the checks, and the key pair that follows from them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from ringback.core.signatures import check_takes
from ringback.protocol.frames import Role
from ringback.protocol.names import check_public_key

if TYPE_CHECKING:
    from os import PathLike

    from ringback.credentials import KeyPair

    KeyFile: TypeAlias = str | PathLike[str] | KeyPair

Token = str | Callable[[], str | Awaitable[str]]


def link_keys(
    role: Role, key_file: KeyFile | None, broker_key: str | None, token: Token | None
) -> KeyPair | None:
    """Return the key pair of an encrypted link; None for a link without encryption.

    Raises:
        TypeError, ValueError: an argument is wrong, or the arguments do not fit together.
    """
    if broker_key is not None:
        try:
            check_public_key(broker_key)
        except (TypeError, ValueError) as error:
            text = f"broker_key must be the broker's public key, as in its .pub file: {error}"
            raise type(error)(text) from None
    if token is not None and role is not Role.PLAYER:
        raise TypeError(f"only a player may have a token, not a {role}")
    if token is not None and not isinstance(token, str) and not callable(token):
        raise TypeError(f"token must be a str, or a function that returns one, not {type(token).__name__}")
    if callable(token):
        check_takes(token, (), "token")
    if isinstance(token, str) and not token.isascii():
        raise ValueError("token must be ASCII")
    if key_file is None and broker_key is None:
        if token is not None:
            raise ValueError("a token needs broker_key, the broker's public key: the token is a secret")
        return None
    from ringback.credentials import KeyPair, load_key_pair, new_ephemeral_pair  # few programs need it

    if key_file is None:
        assert broker_key is not None
        return new_ephemeral_pair(broker_key)
    pair = key_file if isinstance(key_file, KeyPair) else load_key_pair(key_file)
    if pair.role != role:
        raise ValueError(f"the key pair {pair.name!r} has the role {pair.role}, not {role}")
    broker = broker_key or pair.broker
    if broker is None:
        raise ValueError(
            f"the key pair {pair.name!r} does not name the broker's public key: pass it as broker_key,"
            " or make the key pair with `ringback keys new --broker-key`"
        )
    return pair.with_broker(broker)


def check_token(token: object) -> str:
    """Return the token that a function for tokens returned.

    Raises:
        TypeError: it is not a str.
        ValueError: it is not ASCII. The text of a token is a secret, so no message has it.
    """
    if not isinstance(token, str):
        raise TypeError(f"the function for tokens returned {type(token).__name__}, not a str")
    if not token.isascii():
        raise ValueError("a token must be ASCII")
    return str.__str__(token)
