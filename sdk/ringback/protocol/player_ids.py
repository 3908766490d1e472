"""Player IDs: what is allowed, and how an ID is written on the wire."""

from __future__ import annotations

from typing import Any

import msgpack

from ringback.errors import ProtocolError
from ringback.protocol.limits import MAX_PLAYER_ID, MAX_PLAYER_ID_BYTES

PlayerID = int | str


def check_player_id(player_id: Any) -> PlayerID:
    """Gives the ID back, or says what is wrong with it.

    Raises:
        TypeError: it is neither an int nor a str.
        ValueError: an int outside 1 to 2**63-1, a str that is empty, over 64 bytes, or not UTF-8.
    """
    if type(player_id) is int:
        if 1 <= player_id <= MAX_PLAYER_ID:
            return player_id
        raise ValueError(f"a player ID that is an int is 1 to 2**63-1, not {player_id}")
    if type(player_id) is str:
        try:
            size = len(player_id.encode())
        except UnicodeEncodeError:
            raise ValueError(f"a player ID is valid Unicode, not {player_id!r}") from None
        if 1 <= size <= MAX_PLAYER_ID_BYTES:
            return player_id
        raise ValueError(f"a player ID that is a str is 1 to {MAX_PLAYER_ID_BYTES} UTF-8 bytes, not {size}")
    raise TypeError(f"a player ID is an int or a str, not {type(player_id).__name__}")


def encode_player_id(player_id: PlayerID) -> bytes:
    """Gives the address part of a trusted link: the ID in the shortest msgpack form."""
    address: bytes = msgpack.packb(player_id)
    return address


def decode_player_id(address: bytes) -> PlayerID:
    """Gives the player ID of an address.

    Raises:
        ProtocolError: it is not a player ID, or not in the shortest form.
    """
    try:
        player_id = check_player_id(msgpack.unpackb(address))
    except Exception as error:
        raise ProtocolError(f"an address that is not a player ID: {error}") from None
    if encode_player_id(player_id) != address:
        raise ProtocolError("an address that is not in the shortest msgpack form")
    return player_id
