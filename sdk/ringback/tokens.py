"""Tokens for players that have no key of their own: keys to sign with, and minting.

This is for the backend of a game, which knows who a player is before the broker does. It needs PyJWT and
cryptography: `pip install 'ringback[tokens]'`.

    key = load_token_key("backend.key")
    token = mint_token(key, 7, ttl=3600)

Whoever has the token is that player until it expires, so send it over an encrypted way only.
"""

from __future__ import annotations

import json
import math
import os
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringback.credentials import write_files
from ringback.errors import UsageError
from ringback.protocol.limits import MAX_TOKEN_CHARS
from ringback.protocol.names import check_key_name, check_public_key
from ringback.protocol.player_ids import PlayerID, check_player_id
from ringback.protocol.tokens import (
    ALGORITHM,
    DEFAULT_AUDIENCE,
    INSTALL,
    KEY_ROLE,
    check_audience,
    decode_key,
    encode_key,
)

if TYPE_CHECKING:
    from types import ModuleType

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["TokenKey", "load_token_key", "mint_token", "new_token_key", "read_unverified", "save_token_key"]

MAX_TTL_S = 1e9
_MAX_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key to sign tokens with.

    Attributes:
        name: 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-", a letter or digit first. It tells the broker
            which of its keys a token is of.
        public: what the broker is given, base64url of 32 bytes.
        secret: likewise, for nobody else; not in the repr.

    Raises:
        TypeError: one of them is not a str.
        ValueError: one of them is not of that form.
    """

    name: str
    public: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        check_key_name(self.name)
        for key in (self.public, self.secret):
            decode_key(key)


def new_token_key(name: str) -> TokenKey:
    """Makes a key. Save it with `save_token_key`, and give its public part to the broker.

    Args:
        name: 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-", a letter or digit first.

    Raises:
        TypeError, ValueError: it is no such name.
        UsageError: PyJWT or cryptography is not installed.
    """
    check_key_name(name)
    secret = os.urandom(32)  # all that a secret key of Ed25519 is: RFC 8032, section 5.1.5
    return TokenKey(name, _public_of(_private_key(secret)), encode_key(secret))


def save_token_key(key: TokenKey, folder: str | os.PathLike[str] = ".") -> Path:
    """Writes a key into a new file NAME.key that only the user may read, and gives its path.

    What is no secret goes into NAME.pub, for the broker's list.

    Raises:
        KeyFileError: there is such a file already, which is left as it is, or it can't be written.
    """
    public = {"name": key.name, "role": KEY_ROLE, "public": key.public}
    return write_files(Path(folder), key.name, public, {**public, "secret": key.secret})


def load_token_key(path: str | os.PathLike[str]) -> TokenKey:
    """Reads a file that `save_token_key` or `ringback token new` has written.

    Raises:
        OSError: it can't be read.
        ValueError: others may read it (`chmod 600` helps), or it holds no such key.
        UsageError: PyJWT or cryptography is not installed.
    """
    with Path(path).open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777  # of the file that was opened, whatever is there now
        if mode & 0o077:
            raise ValueError(f"{path}: others may use this secret, its mode is {mode:04o}: chmod 600 {path}")
        data = file.read(_MAX_FILE_BYTES + 1)
    try:
        key = _parse(data)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: nested too deep for a key") from None
    if _public_of(_private_key(decode_key(key.secret))) != key.public:
        raise ValueError(f"{path}: public and secret are not of one key")
    return key


def _parse(data: bytes) -> TokenKey:
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"more than {_MAX_FILE_BYTES} bytes are no key")
    fields = tomllib.loads(data.decode())
    for name in ("name", "role", "public", "secret"):
        if name not in fields:
            raise ValueError(f"there is no {name} in it")
    if fields["role"] != KEY_ROLE:
        raise ValueError(f"its role is {fields['role']!r}, a key for tokens has {KEY_ROLE!r}")
    return TokenKey(fields["name"], fields["public"], fields["secret"])


def mint_token(
    key: TokenKey,
    player_id: PlayerID,
    *,
    ttl: float,
    audience: str = DEFAULT_AUDIENCE,
    allowed_keys: Iterable[str] = (),
) -> str:
    """Makes a token that says its bearer is a player. Give it to that player alone.

    Args:
        key: what it is signed with.
        player_id: an int is 1 to 2**63-1, a str 1 to 64 bytes of UTF-8.
        ttl: for how many seconds it is good, at most 1e9; the end is rounded up to a full second.
        audience: the broker's; a broker with another one refuses the token.
        allowed_keys: CURVE public keys (40 characters of Z85) of the clients that may present it; none: any.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: an argument is out of range, or so many keys do not fit into 2048 characters.
        UsageError: PyJWT or cryptography is not installed.
    """
    if type(ttl) not in (int, float):
        raise TypeError(f"ttl is a number of seconds, not {type(ttl).__name__}")
    if not 0 < ttl <= MAX_TTL_S:
        raise ValueError(f"ttl is above 0 and at most {MAX_TTL_S:g} seconds, not {ttl:g}")
    if isinstance(allowed_keys, str):
        raise TypeError("allowed_keys is a list of keys, not one str")
    # The one place that asks the wall clock: the broker is another machine, and has no other clock in common.
    now = time.time()
    claims: dict[str, Any] = {
        "player_id": check_player_id(player_id),  # not "sub": that must be a str (RFC 7519, section 4.1.2)
        "aud": check_audience(audience),
        "iat": int(now),
        "exp": math.ceil(now + ttl),
    }
    keys = [check_public_key(allowed) for allowed in allowed_keys]
    if keys:
        claims["keys"] = keys
    private = _private_key(decode_key(key.secret))
    token: str = _jwt().encode(claims, private, algorithm=ALGORITHM, headers={"kid": key.name})
    if len(token) > MAX_TOKEN_CHARS:
        raise ValueError(f"the token has {len(token)} characters, {MAX_TOKEN_CHARS} are allowed")
    return token


def read_unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gives header and claims of a token, for people to look at. Nothing is checked: it may be anybody's.

    Raises:
        ValueError: it is not a token.
        UsageError: PyJWT is not installed.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise ValueError(f"a token has at most {MAX_TOKEN_CHARS} characters")
    jws = _jwt().PyJWS()
    try:
        parts = jws.decode_complete(token, options={"verify_signature": False})
        header, claims = parts["header"], json.loads(parts["payload"])
    except Exception:  # PyJWT's own, and what json or base64 raise of odd input
        raise ValueError("this is not a token") from None
    if type(claims) is not dict:
        raise ValueError("this is not a token: its claims are no JSON object")
    return header, claims


def _jwt() -> ModuleType:
    try:
        import jwt
    except ImportError as error:
        raise UsageError(INSTALL) from error
    return jwt


def _private_key(secret: bytes) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise UsageError(INSTALL) from error
    return Ed25519PrivateKey.from_private_bytes(secret)


def _public_of(private: Ed25519PrivateKey) -> str:
    return encode_key(private.public_key().public_bytes_raw())
