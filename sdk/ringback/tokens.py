"""Tokens for players without a key pair: make signing keys, and mint tokens.

This is for the backend of a game, which knows its players before the broker does. It needs PyJWT and
cryptography, which the extra `tokens` installs.

    key = load_token_key("backend.key")
    token = mint_token(key, 7, ttl=3600)

Anybody who has the token can be that player until it expires. So send it over encrypted connections only.
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

from ringback._argument_names import checks_names
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
from ringback.systems import others_may_read

if TYPE_CHECKING:
    from types import ModuleType

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["TokenKey", "load_token_key", "mint_token", "new_token_key", "read_unverified", "save_token_key"]

MAX_TTL_S = 1e9
_MAX_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A signing key for tokens.

    Attributes:
        name: 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-". The first is a letter or digit. A token names it, so
            that the broker knows which key to check the token with.
        public: the public key, base64url of 32 bytes. Add it to the broker's access list.
        secret: the secret key, base64url of 32 bytes. The repr does not show it.

    Raises:
        TypeError: a field is not a str.
        ValueError: a field does not have this form.
    """

    name: str
    public: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        check_key_name(self.name)
        for key in (self.public, self.secret):
            decode_key(key)


def new_token_key(name: str) -> TokenKey:
    """Return a new signing key. Save it with `save_token_key`, and add its public key to the access list.

    Args:
        name: 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-". The first is a letter or digit.

    Raises:
        TypeError, ValueError: the name does not have this form.
        UsageError: PyJWT or cryptography is not installed.
    """
    check_key_name(name)
    secret = os.urandom(32)  # any 32 bytes are a secret key of Ed25519: RFC 8032, section 5.1.5
    return TokenKey(name, _public_of(_private_key(secret)), encode_key(secret))


def save_token_key(key: TokenKey, folder: str | os.PathLike[str] = ".") -> Path:
    """Write a signing key to a new file NAME.key that only the user can read. Return its path.

    The public fields also go to NAME.pub, for the broker's access list.

    Args:
        key: the signing key.
        folder: where to write the files.

    Raises:
        KeyFileError: one of the files exists already, or cannot be written. An existing file is not changed.
    """
    public = {"name": key.name, "role": KEY_ROLE, "public": key.public}
    return write_files(Path(folder), key.name, public, {**public, "secret": key.secret})


def load_token_key(path: str | os.PathLike[str]) -> TokenKey:
    """Return the signing key of a file that `save_token_key` or `ringback token new` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: other users may read the file (run `chmod 600`), or it contains no signing key.
        UsageError: PyJWT or cryptography is not installed.
    """
    with Path(path).open("rb") as file:
        # Of the open file: the path may name another one by now.
        mode = os.fstat(file.fileno()).st_mode & 0o777
        if others_may_read(mode):
            raise ValueError(
                f"{path}: other users may read this secret, its mode is {mode:04o}: run chmod 600 {path}"
            )
        data = file.read(_MAX_FILE_BYTES + 1)
    try:
        key = _parse(data)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: the file is nested too deeply to be a key file") from None
    if _public_of(_private_key(decode_key(key.secret))) != key.public:
        raise ValueError(f"{path}: the secret key and the public key are not a pair")
    return key


def _parse(data: bytes) -> TokenKey:
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"the file has more than {_MAX_FILE_BYTES} bytes, so it is not a key file")
    fields = tomllib.loads(data.decode())
    for name in ("name", "role", "public", "secret"):
        if name not in fields:
            raise ValueError(f"the file has no {name}")
    if fields["role"] != KEY_ROLE:
        raise ValueError(f"the role is {fields['role']!r}, but a signing key has the role {KEY_ROLE!r}")
    return TokenKey(fields["name"], fields["public"], fields["secret"])


@checks_names
def mint_token(
    key: TokenKey,
    player_id: PlayerID,
    *,
    ttl: float,
    audience: str = DEFAULT_AUDIENCE,
    allowed_keys: Iterable[str] = (),
) -> str:
    """Return a token. Anybody who presents it to the broker is this player, so send it to that player only.

    Args:
        key: the signing key.
        player_id: an int from 1 to 2**63-1, or a str of 1 to 64 UTF-8 bytes.
        ttl: how long the token is valid, in seconds, at most 1e9. Its end is rounded up to a full second.
        audience: the audience of the broker. A broker with another audience refuses the token.
        allowed_keys: the CURVE public keys (40 characters of Z85) of the players that may present the token.
            Empty: any player may.

    Returns:
        The token, a str of at most 2048 characters.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or the token has more than 2048 characters.
        UsageError: PyJWT or cryptography is not installed.
    """
    if type(ttl) not in (int, float):
        raise TypeError(f"ttl must be a number of seconds, not {type(ttl).__name__}")
    if not 0 < ttl <= MAX_TTL_S:
        raise ValueError(f"ttl must be above 0 and at most {MAX_TTL_S:g} seconds, not {ttl:g}")
    if isinstance(allowed_keys, str):
        raise TypeError("allowed_keys must be a list of public keys, not a str")
    # The only use of the wall clock: the broker may be on another machine, and shares no other clock.
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
    """Return the header and the claims of a token, for people to read. The signature is not checked.

    Raises:
        ValueError: the text is not a token.
        UsageError: PyJWT is not installed.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise ValueError(f"a token has at most {MAX_TOKEN_CHARS} characters")
    jws = _jwt().PyJWS()
    try:
        parts = jws.decode_complete(token, options={"verify_signature": False})
        header, claims = parts["header"], json.loads(parts["payload"])
    except Exception:  # exceptions of PyJWT, and of json or base64 for malformed input
        raise ValueError("this is not a token") from None
    if type(claims) is not dict:
        raise ValueError("this is not a token: its claims are not a JSON object")
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
