"""Tokens: what the program that makes them and the broker that checks them must agree on.

A token is a JWT (RFC 7519), signed with Ed25519 (RFC 8037), that says which player its bearer is.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from ringback.extras import install_command

ALGORITHM = "EdDSA"
"""The only algorithm of tokens. The header of a token does not choose it: RFC 8725, section 3.1."""

DEFAULT_AUDIENCE = "ringback"

KEY_ROLE = "token"
"""The role in the file of a signing key."""

INSTALL = f"tokens need PyJWT and cryptography: {install_command('tokens')}"
"""The message where these packages are missing."""

_KEY = re.compile(r"[A-Za-z0-9_-]{43}")


def check_audience(audience: Any) -> str:
    """Return the audience of a token if it is allowed.

    Raises:
        TypeError: the audience is not a str.
        ValueError: the audience is empty, or not valid Unicode.
    """
    if type(audience) is not str:
        raise TypeError(f"an audience must be a str, not {type(audience).__name__}")
    try:
        size = len(audience.encode())
    except UnicodeEncodeError:
        raise ValueError(f"an audience must be valid Unicode, not {audience!r}") from None
    if not size:
        raise ValueError("an audience must not be empty")
    return audience


def encode_key(raw: bytes) -> str:
    """Return the text of an Ed25519 key of 32 bytes: base64url without padding, 43 characters."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_key(text: Any) -> bytes:
    """Return the 32 bytes of an Ed25519 key. Error messages do not repeat the text: it may be a secret.

    Raises:
        TypeError: the text is not a str.
        ValueError: the text is not one that `encode_key` returns.
    """
    if type(text) is not str:
        raise TypeError(f"an Ed25519 key must be a str, not {type(text).__name__}")
    if _KEY.fullmatch(text):
        raw = base64.urlsafe_b64decode(text + "=")
        if encode_key(raw) == text:  # the last character has two spare bits: accept only one text for a key
            return raw
    raise ValueError("an Ed25519 key must be the base64url of 32 bytes, 43 characters without padding")
