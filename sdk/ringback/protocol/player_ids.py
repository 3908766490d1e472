"""Player IDs: which values are allowed, and how they are encoded on the wire."""

from __future__ import annotations

from typing import Any

import msgpack

from ringback.errors import ProtocolError
from ringback.protocol.limits import MAX_PLAYER_ID, MAX_PLAYER_ID_BYTES

PlayerID = int | str
"""The ID of a player: an int from 1 to 2**63-1, or a str of 1 to 64 UTF-8 bytes."""


def check_player_id(player_id: Any) -> PlayerID:
    """Return the player ID if it is allowed.

    Raises:
        TypeError: it is neither an int nor a str.
        ValueError: it is an int outside 1 to 2**63-1, or a str that is empty, longer than 64 UTF-8 bytes,
            or not valid Unicode.
    """
    if type(player_id) is int:
        if 1 <= player_id <= MAX_PLAYER_ID:
            return player_id
        raise ValueError(f"a player ID must be from 1 to 2**63-1, not {player_id}")
    if type(player_id) is str:
        try:
            size = len(player_id.encode())
        except UnicodeEncodeError:
            raise ValueError(f"a player ID must be valid Unicode, not {player_id!r}") from None
        if 1 <= size <= MAX_PLAYER_ID_BYTES:
            return player_id
        raise ValueError(f"a player ID must have 1 to {MAX_PLAYER_ID_BYTES} UTF-8 bytes, not {size}")
    raise TypeError(f"a player ID must be an int or a str, not {type(player_id).__name__}")


def is_same_id(one: object, other: object) -> bool:
    """Return whether two values are the same player ID. 7 and "7" are two IDs, and True is not the ID 1."""
    return type(one) is type(other) and one == other


def encode_player_id(player_id: PlayerID) -> bytes:
    """Return the ID part of a player: the ID in the shortest msgpack form."""
    encoded_id: bytes = msgpack.packb(player_id)
    return encoded_id


def decode_player_id(encoded_id: bytes) -> PlayerID:
    """Return the player ID in an ID part.

    Raises:
        ProtocolError: it is not a player ID, or not in the shortest msgpack form.
    """
    try:
        player_id = check_player_id(msgpack.unpackb(encoded_id))
    except Exception as error:
        raise ProtocolError(f"an ID part must be a player ID: {error}") from None
    if encode_player_id(player_id) != encoded_id:
        raise ProtocolError("an ID part must have the shortest msgpack form")
    return player_id
