"""Names: keys of callbacks, names of cryptographic keys, public keys. What is allowed."""

from __future__ import annotations

import re
from typing import Any

from ringback.protocol.limits import MAX_KEY_BYTES

_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_Z85_DIGITS = {
    char: digit
    for digit, char in enumerate(
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    )
}


def check_key(key: Any) -> str:
    """Gives the key back, or says what is wrong with it.

    Raises:
        TypeError: it is not a str.
        ValueError: it is empty, over 256 bytes, or not UTF-8.
    """
    if type(key) is not str:
        raise TypeError(f"a key is a str, not {type(key).__name__}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError(f"a key is valid Unicode, not {key!r}") from None
    if not 1 <= size <= MAX_KEY_BYTES:
        raise ValueError(f"a key is 1 to {MAX_KEY_BYTES} UTF-8 bytes, not {size}")
    return key


def check_key_name(name: Any) -> str:
    """Gives the name of a CURVE or token key back. It can stand in a file's name and in TOML as it is.

    Raises:
        TypeError: it is not a str.
        ValueError: it is not of that form.
    """
    if type(name) is not str:
        raise TypeError(f"a key's name is a str, not {type(name).__name__}")
    if not _KEY_NAME.fullmatch(name):
        form = "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', a letter or digit first"
        raise ValueError(f"a key's name is {form}, not {name!r:.80}")
    return name


def check_public_key(key: Any) -> str:
    """Gives a public key of CURVE back, or says what is wrong with it: 32 bytes in Z85 (ZeroMQ's RFC 32).

    Raises:
        TypeError: it is not a str.
        ValueError: it is not 40 characters of Z85.
    """
    if type(key) is not str:
        raise TypeError(f"a public key is a str, not {type(key).__name__}")
    if len(key) != 40 or not all(_is_z85(key[i : i + 5]) for i in range(0, 40, 5)):
        raise ValueError(f"a public key is 40 characters of Z85, not {key!r:.80}")
    return key


def _is_z85(five: str) -> bool:
    number = 0
    for char in five:
        digit = _Z85_DIGITS.get(char)
        if digit is None:
            return False
        number = 85 * number + digit
    return number < 2**32
