"""Tokens: whether the token of a player is good. Pure: the keys and the time are arguments.

`hello` decides what becomes of a player whose token is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ringback.errors import RingbackError, UsageError
from ringback.protocol.limits import MAX_TOKEN_CHARS
from ringback.protocol.names import check_key_name
from ringback.protocol.player_ids import PlayerID, check_player_id
from ringback.protocol.tokens import ALGORITHM, INSTALL, check_audience, decode_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LEEWAY_S = 5.0
"""How far the clock that minted a token may be ahead of the broker's clock. No token lives longer for it:
`exp` has no leeway."""

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
"""The compact form (RFC 7515, section 7.1). PyJWT takes padding too, and old versions skip odd characters."""

_MAX_TIME_S = 2**53
"""Up to this number, ints and floats are equal."""


class BadToken(RingbackError):
    """A token is refused.

    Args:
        reason: for people. It is a constant, so nothing that a peer sent gets into a log or a reply.
        expired: the token was good, and its time is over. With a new one the player may join again.
    """

    def __init__(self, reason: str, expired: bool = False) -> None:
        self.reason = reason
        self.expired = expired
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good token says.

    Attributes:
        player_id: the ID of the player that holds it.
        key_name: the name of the signing key.
        expires_at: when it ends, in seconds since 1970.
    """

    player_id: PlayerID
    key_name: str
    expires_at: float


class TokenVerifier:
    """Verifies tokens. When the keys change, make a new one.

    Args:
        keys: the public halves of the signing keys (base64url of 32 bytes), by name.
        audience: the audience that a token must name.

    Raises:
        TypeError: a name, a key or the audience is not a str.
        ValueError: one of them does not have its form; the message names the key.
        UsageError: PyJWT or cryptography is not installed.
    """

    def __init__(self, keys: Mapping[str, str], audience: str) -> None:
        try:
            import jwt
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ImportError as error:
            raise UsageError(INSTALL) from error
        # It knows no other algorithm, not even `none`. And it gets key objects, which it cannot take for the
        # secret of HS256.
        self._jws = jwt.PyJWS(algorithms=[ALGORITHM])
        self._audience = check_audience(audience)
        self._keys: dict[str, Ed25519PublicKey] = {}
        for name, public in keys.items():
            check_key_name(name)
            try:
                self._keys[name] = Ed25519PublicKey.from_public_bytes(decode_key(public))
            except ValueError as error:
                raise ValueError(f"key {name}: {error}") from None

    def verify(self, token: Any, client_key: str | None, now: float) -> Verified:
        """Return what a token says.

        Args:
            token: what the player sent.
            client_key: the public key of its connection (40 characters of Z85); None without CURVE.
            now: seconds since 1970.

        Raises:
            BadToken: the token is not good. Nothing else is raised, whatever the token is.
        """
        key_name, payload = self._signed(token)
        claims = _parse(payload)
        if claims.get("aud") != self._audience:
            raise BadToken("the token is for another audience")
        try:
            player_id = check_player_id(claims.get("player_id"))
        except (TypeError, ValueError):
            raise BadToken("the token's player_id is missing or not allowed") from None
        if "keys" in claims and not _may_present(claims["keys"], client_key):
            raise BadToken("the token is for another client's key")
        # PyJWT would read the wall clock. Here the time is an argument, as everywhere in the broker, so that
        # the simulator and the tests have a clock of their own.
        for name in ("iat", "nbf"):
            if name in claims and _time(claims, name) > now + LEEWAY_S:
                raise BadToken("the token is from the future")
        expires_at = _time(claims, "exp")
        if expires_at <= now:  # last, so that `expired` says that everything else is right
            raise BadToken("the token has expired", expired=True)
        return Verified(player_id, key_name, expires_at)

    def _signed(self, token: Any) -> tuple[str, bytes]:
        """Return the name of the signing key, and the payload that it signed."""
        if type(token) is not str or len(token) > MAX_TOKEN_CHARS:
            raise BadToken(f"a token must be a str of at most {MAX_TOKEN_CHARS} characters")
        if not _FORM.fullmatch(token):
            raise BadToken("this is not a token")
        try:
            header = self._jws.get_unverified_header(token)
        except Exception:  # PyJWT's own, and the JSON decoder's: in old versions RecursionError
            raise BadToken("this is not a token") from None
        if header.get("alg") != ALGORITHM:
            raise BadToken(f"a token must be signed by {ALGORITHM}")
        if "crit" in header:  # must not be ignored (RFC 7515, section 4.1.11); PyJWT before 2.12 did
            raise BadToken("the token has an unknown extension")
        name = header.get("kid")
        if type(name) is not str or name not in self._keys:
            raise BadToken("the token is signed by an unknown key")
        try:
            signed = self._jws.decode_complete(token, self._keys[name], algorithms=[ALGORITHM])
        except Exception:  # as above
            raise BadToken("the token's signature is wrong") from None
        return name, signed["payload"]


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if type(claims) is not dict:
        raise BadToken("the token's claims are not a JSON object")
    return claims


def _may_present(keys: Any, client_key: str | None) -> bool:
    """Return whether the claim `keys` lists a client key. It must be a list: `in` finds parts of a str."""
    return type(keys) is list and client_key is not None and client_key in keys


def _time(claims: dict[str, Any], name: str) -> float:
    value: Any = claims.get(name)
    # Python's JSON may hold a bool, NaN, Infinity or an int of a thousand digits. None of them is a time.
    if type(value) not in (int, float) or not 0 <= value <= _MAX_TIME_S:
        raise BadToken(f"the token's {name} is missing or not a time")
    return float(value)
