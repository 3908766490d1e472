"""Tokens: what whoever mints them and the broker that checks them must agree on.

A token is a JWT (RFC 7519), signed with Ed25519 (RFC 8037), that says which player its bearer is.
"""

from __future__ import annotations

import base64
import re
from typing import Any

ALGORITHM = "EdDSA"
"""The one algorithm of tokens. A token's header is never asked for it: RFC 8725, section 3.1."""

DEFAULT_AUDIENCE = "ringback"

KEY_ROLE = "token"
"""What a file of such a key gives as its role."""

INSTALL = "tokens need PyJWT and cryptography: pip install 'ringback[tokens]'"
"""What is said where they are missing."""

_KEY = re.compile(r"[A-Za-z0-9_-]{43}")


def check_audience(audience: Any) -> str:
    """Gives the audience back.

    Raises:
        TypeError: it is not a str.
        ValueError: it is empty, or not UTF-8.
    """
    if type(audience) is not str:
        raise TypeError(f"an audience is a str, not {type(audience).__name__}")
    try:
        size = len(audience.encode())
    except UnicodeEncodeError:
        raise ValueError(f"an audience is valid Unicode, not {audience!r}") from None
    if not size:
        raise ValueError("an audience is not empty")
    return audience


def encode_key(raw: bytes) -> str:
    """Gives the text of the 32 bytes of an Ed25519 key: base64url without padding, 43 characters."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_key(text: Any) -> bytes:
    """Gives the 32 bytes of an Ed25519 key. Messages do not repeat the text, as it may be a secret.

    Raises:
        TypeError: it is not a str.
        ValueError: it is not what `encode_key` gives for any key.
    """
    if type(text) is not str:
        raise TypeError(f"an Ed25519 key is a str, not {type(text).__name__}")
    if _KEY.fullmatch(text):
        raw = base64.urlsafe_b64decode(text + "=")
        if encode_key(raw) == text:  # the last character has two bits to spare: one key, one text
            return raw
    raise ValueError("an Ed25519 key is the base64url of 32 bytes, 43 characters without padding")
