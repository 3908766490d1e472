"""Owners: what the records of names say. The names are player IDs and the indexes of nodes."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

import msgpack

HASH_BYTES = 16


@dataclass(slots=True)
class Owner:
    """What a record says of the owner of a name.

    Attributes:
        ticket: the hash of the ticket of whoever uses the name; empty if it has none.
    """

    node: str
    boot: bytes
    ticket: bytes = b""


def encode_owner(owner: Owner) -> bytes:
    """Return the value of a record."""
    value: bytes = msgpack.packb([owner.node, owner.boot, owner.ticket])
    return value


def decode_owner(value: bytes) -> Owner:
    """Return the owner that a record names. One that cannot be read names a node that never lived."""
    try:
        node, boot, ticket = msgpack.unpackb(value)[:3]
        if (type(node), type(boot), type(ticket)) == (str, bytes, bytes):
            return Owner(node, boot, ticket)
    except Exception:  # only nodes may write here, but one of another version may
        return Owner("", b"")
    return Owner("", b"")


def player_key(encoded_id: bytes) -> str:
    """Return the key of the record of a player ID."""
    return "p." + urlsafe_b64encode(encoded_id).decode().rstrip("=")


def player_of(key: str) -> bytes:
    """Return the encoded ID that the key of a record names; empty if it names none."""
    kind, _, text = key.partition(".")
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4)) if kind == "p" else b""
    except ValueError:
        return b""


def hash_of(secret: bytes) -> bytes:
    """Return what a record says of a ticket or an identity; nothing of an empty one."""
    return hashlib.sha256(secret).digest()[:HASH_BYTES] if secret else b""
