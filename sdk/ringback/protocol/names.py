"""Names that are checked: keys of callbacks, names of key pairs and of nodes, and public keys."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from ringback.protocol.limits import MAX_KEY_BYTES

_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NODE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SET = re.compile(r"\[!?+\]?+[^\]]*\]", re.DOTALL)
_PATTERN_PART = re.compile(rf"{_SET.pattern}|[^\[]+", re.DOTALL)
_RANGE = re.compile(r"([^\[\]!])-([^\]])", re.DOTALL)
_Z85_DIGITS = {
    char: digit
    for digit, char in enumerate(
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    )
}


def check_key(key: Any) -> str:
    """Return the key of a callback if it is allowed.

    Raises:
        TypeError: the key is not a str.
        ValueError: the key is empty, longer than 256 UTF-8 bytes, or not valid Unicode.
    """
    if type(key) is not str:
        raise TypeError(f"a key must be a str, not {type(key).__name__}")
    if key.isascii() and 1 <= len(key) <= MAX_KEY_BYTES:  # nearly every key: each call checks its key
        return key
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError(f"a key must be valid Unicode, not {key!r}") from None
    if not 1 <= size <= MAX_KEY_BYTES:
        raise ValueError(f"a key must have 1 to {MAX_KEY_BYTES} UTF-8 bytes, not {size}")
    return key


def did_you_mean(name: str, names: Collection[str]) -> str:
    """Return a question with the names that are most like a wrong one, at most two; "" if none is near."""
    from difflib import get_close_matches  # only a mistake needs it

    near = get_close_matches(name, names, 2)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def check_pattern(pattern: Any) -> str:
    """Return a pattern for keys if it is allowed: `*`, `?` and `[...]` mean what they mean in a shell.

    Raises:
        TypeError: the pattern is not a str.
        ValueError: the pattern is no possible key, or a `[` in it begins nothing that a character can match.
    """
    if type(pattern) is not str:
        raise TypeError(f"a pattern must be a str, not {type(pattern).__name__}")
    try:
        check_key(pattern)
    except ValueError as error:
        raise ValueError(str(error).replace("a key", "a pattern", 1)) from None
    rest = _PATTERN_PART.sub("", pattern)
    if "[" in rest:
        raise ValueError(
            f"a pattern must close each [ with a ], as in [abc], [a-z] or [!abc], and [[] is the character [;"
            f" not {pattern!r}"
        )
    for low, high in _RANGE.findall("".join(_SET.findall(pattern))):
        if low > high:
            raise ValueError(
                f"a range in a pattern must ascend, as in [a-z], not {low}-{high} in {pattern!r}"
            )
    return pattern


def check_key_name(name: Any) -> str:
    """Return the name of a key pair if it is allowed, in the name of a file and in TOML.

    Raises:
        TypeError: the name is not a str.
        ValueError: the name has another form.
    """
    if type(name) is not str:
        raise TypeError(f"the name of a key pair must be a str, not {type(name).__name__}")
    if not _KEY_NAME.fullmatch(name):
        form = "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', with a letter or digit first"
        raise ValueError(f"the name of a key pair must be {form}, not {name!r:.80}")
    return name


def check_node_name(name: Any) -> str:
    """Return the name of a node if it is allowed.

    Raises:
        TypeError: the name is not a str.
        ValueError: the name has another form.
    """
    if type(name) is not str:
        raise TypeError(f"the name of a node must be a str, not {type(name).__name__}")
    if not _NODE_NAME.fullmatch(name):
        form = "1 to 64 of A-Z, a-z, 0-9, '_' and '-'"
        raise ValueError(f"the name of a node must be {form}, not {name!r:.80}")
    return name


def check_public_key(key: Any) -> str:
    """Return a public key of CURVE if it is one: 32 bytes in Z85 (ZeroMQ's RFC 32).

    Raises:
        TypeError: the public key is not a str.
        ValueError: the public key is not 40 characters of Z85.
    """
    if type(key) is not str:
        raise TypeError(f"a public key must be a str, not {type(key).__name__}")
    if len(key) != 40 or not all(_is_z85(key[i : i + 5]) for i in range(0, 40, 5)):
        raise ValueError(f"a public key must be 40 characters of Z85, not {key!r:.80}")
    return key


def _is_z85(five: str) -> bool:
    number = 0
    for char in five:
        digit = _Z85_DIGITS.get(char)
        if digit is None:
            return False
        number = 85 * number + digit
    return number < 2**32
