"""Signing keys, their files, and minting tokens."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ringback import UsageError
from ringback.credentials import KeyFileError
from ringback.protocol.limits import MAX_TOKEN_CHARS
from ringback.protocol.tokens import INSTALL
from ringback.tokens import (
    TokenKey,
    load_token_key,
    mint_token,
    new_token_key,
    read_unverified,
    save_token_key,
)
from ringback_broker.admission.token_verifier import BadToken, TokenVerifier, Verified

KEY = new_token_key("backend")
CLIENT = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
OTHER_CLIENT = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


def verified(
    token: str, client_key: str | None = None, audience: str = "ringback", at: float = 0
) -> Verified:
    return TokenVerifier({KEY.name: KEY.public}, audience).verify(token, client_key, at or time.time())


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> float:
    """Set the clock of minting to a fixed moment, and return it."""
    monkeypatch.setattr("ringback.tokens.time.time", lambda: 1000.25)
    return 1000.25


@pytest.mark.parametrize("player_id", [1, 2**63 - 1, "7", "\U0001f600" * 16])
def test_the_broker_accepts_minted_tokens(player_id: int | str) -> None:
    result = verified(mint_token(KEY, player_id, ttl=60))
    assert (result.player_id, type(result.player_id)) == (player_id, type(player_id))
    assert result.key_name == "backend"


def test_the_content_of_a_token(noon: float) -> None:
    header, claims = read_unverified(mint_token(KEY, 7, ttl=60))
    assert header == {"alg": "EdDSA", "kid": "backend", "typ": "JWT"}
    assert claims == {"player_id": 7, "aud": "ringback", "iat": 1000, "exp": 1061}
    _, claims = read_unverified(mint_token(KEY, "a", ttl=0.5, audience="shop", allowed_keys=iter([CLIENT])))
    assert claims == {"player_id": "a", "aud": "shop", "iat": 1000, "exp": 1001, "keys": [CLIENT]}


def test_a_token_is_valid_for_its_ttl(noon: float) -> None:
    token = mint_token(KEY, 7, ttl=60)
    assert verified(token, at=noon).expires_at == 1061
    verified(token, at=noon + 60)
    with pytest.raises(BadToken, match="expired"):
        verified(token, at=noon + 61)


def test_audience_and_allowed_keys() -> None:
    verified(mint_token(KEY, 7, ttl=60, audience="shop"), audience="shop")
    with pytest.raises(BadToken, match="another audience"):
        verified(mint_token(KEY, 7, ttl=60), audience="shop")
    token = mint_token(KEY, 7, ttl=60, allowed_keys=[CLIENT])
    verified(token, CLIENT)
    with pytest.raises(BadToken, match="another client's key"):
        verified(token, OTHER_CLIENT)


def test_28_allowed_keys_and_a_long_id_fit() -> None:
    key = TokenKey("k" * 64, KEY.public, KEY.secret)
    token = mint_token(key, "x" * 64, ttl=60, allowed_keys=[CLIENT] * 27 + [OTHER_CLIENT])
    verifier = TokenVerifier({key.name: key.public}, "ringback")
    assert verifier.verify(token, OTHER_CLIENT, time.time()).player_id == "x" * 64
    with pytest.raises(ValueError, match=f"{MAX_TOKEN_CHARS} are allowed"):
        mint_token(key, "x" * 64, ttl=60, allowed_keys=[CLIENT] * 40)


@pytest.mark.parametrize(
    ("arguments", "error", "part"),
    [
        ({"player_id": 0}, ValueError, "a player ID"),
        ({"player_id": True}, TypeError, "a player ID"),
        ({"player_id": None}, TypeError, "a player ID"),
        ({"ttl": 0}, ValueError, "ttl must be above 0"),
        ({"ttl": -1.5}, ValueError, "ttl must be above 0"),
        ({"ttl": float("nan")}, ValueError, "ttl must be above 0"),
        ({"ttl": float("inf")}, ValueError, "ttl must be above 0"),
        ({"ttl": 1e9 + 1}, ValueError, "ttl must be above 0"),
        ({"ttl": True}, TypeError, "ttl must be a number"),
        ({"ttl": "1h"}, TypeError, "ttl must be a number"),
        ({"audience": ""}, ValueError, "an audience"),
        ({"audience": ["ringback"]}, TypeError, "an audience"),
        ({"allowed_keys": CLIENT}, TypeError, "not a str"),
        ({"allowed_keys": ""}, TypeError, "not a str"),
        ({"allowed_keys": [CLIENT[:-1]]}, ValueError, "40 characters"),
        ({"allowed_keys": [CLIENT.encode()]}, TypeError, "a public key"),
    ],
    ids=str,
)
def test_minting_with_wrong_arguments(arguments: Any, error: type[Exception], part: str) -> None:
    with pytest.raises(error, match=part):
        mint_token(KEY, **{"player_id": 7, "ttl": 60, **arguments})


def test_each_new_key_is_different() -> None:
    other = new_token_key("backend")
    assert len({KEY.public, KEY.secret, other.public, other.secret}) == 4


def test_a_secret_is_not_in_the_repr() -> None:
    assert KEY.secret not in repr(KEY)
    assert KEY.public in repr(KEY)


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, 'a"', "a\n"])
def test_a_bad_name(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a key pair must be"):
        new_token_key(name)
    with pytest.raises(ValueError, match="the name of a key pair must be"):
        TokenKey(name, KEY.public, KEY.secret)


@pytest.mark.parametrize("keys", [("x", KEY.secret), (KEY.public, "x"), (KEY.public, KEY.secret + "=")])
def test_a_key_of_the_wrong_form(keys: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="an Ed25519 key must be") as caught:
        TokenKey("a", *keys)
    assert KEY.secret not in str(caught.value)


def test_a_key_is_saved_and_loaded(tmp_path: Path) -> None:
    for name in ("backend", "a.b", "x" * 64):
        key = new_token_key(name)
        path = save_token_key(key, tmp_path)
        assert path == tmp_path / f"{name}.key"
        assert load_token_key(path) == load_token_key(str(path)) == key


def test_only_the_user_may_read_a_file(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        path = save_token_key(KEY, tmp_path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_file_that_other_users_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = save_token_key(KEY, tmp_path)
    path.chmod(mode)
    with pytest.raises(ValueError, match=f"its mode is {mode:04o}: run chmod 600 {path}"):
        load_token_key(path)
    path.chmod(0o400)
    assert load_token_key(path) == KEY


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    path = save_token_key(KEY, tmp_path)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="exists already, and is not overwritten: choose another name"):
        save_token_key(new_token_key("backend"), tmp_path)
    assert path.read_bytes() == before
    target = tmp_path / "elsewhere"
    (tmp_path / "link.key").symlink_to(target)
    with pytest.raises(KeyFileError, match="exists already, and is not overwritten: choose another name"):
        save_token_key(new_token_key("link"), tmp_path)
    assert not target.exists()


GOOD = {"name": "backend", "role": "token", "public": KEY.public, "secret": KEY.secret}


def toml(**fields: Any) -> bytes:
    pairs = {**GOOD, **fields}
    return "".join(f"{name} = {value!r}\n" for name, value in pairs.items() if value is not None).encode()


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "the file has no name"),
        *((toml(**{name: None}), f"the file has no {name}") for name in GOOD),
        (toml(role="player"), "the role is 'player'"),
        (toml(role=7), "the role is 7"),
        (toml(name="a b"), "the name of a key pair must be"),
        (toml(name=7), "the name of a key pair must be a str"),
        (toml(public=KEY.secret[:-1]), "an Ed25519 key must be"),
        (toml(secret=7), "an Ed25519 key must be a str"),
        (toml(public=new_token_key("a").public), "the secret key and the public key are not a pair"),
        (b"name =", "at end of document"),
        (b"\xff", "can't decode"),
        (b"a = " + b"[" * 3000, "nested too deeply"),
        (b"#" * 5000, "more than 4096 bytes"),
    ],
    ids=lambda value: (
        value[:25] if type(value) is str else ""
    ),  # the data differ between the workers of a test run
)
def test_a_file_that_is_not_a_key_file(tmp_path: Path, data: bytes, part: str) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(ValueError, match=part) as caught:
        load_token_key(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert KEY.secret not in str(caught.value)


def test_the_file_that_the_cases_above_change_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(toml(more="fields"))
    path.chmod(0o600)
    assert load_token_key(path) == KEY


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_token_key(tmp_path / "a.key")


@pytest.mark.parametrize("text", ["", "a", "a.b.c", "e30.W10.", "\ud800", "x" * (MAX_TOKEN_CHARS + 1)])
def test_reading_a_text_that_is_not_a_token(text: str) -> None:
    with pytest.raises(ValueError, match="token"):
        read_unverified(text)


def test_reading_a_token_does_not_need_its_key() -> None:
    head, body, _ = mint_token(KEY, 7, ttl=60).split(".")
    assert read_unverified(f"{head}.{body}.")[1]["player_id"] == 7


def test_missing_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    token = mint_token(KEY, 7, ttl=60)
    monkeypatch.setitem(sys.modules, "jwt", None)
    for use in (lambda: mint_token(KEY, 7, ttl=60), lambda: read_unverified(token)):
        with pytest.raises(UsageError) as caught:
            use()
        assert str(caught.value) == INSTALL
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(UsageError) as caught:
        new_token_key("a")
    assert str(caught.value) == INSTALL
