"""Which tokens the broker accepts: a good one, and a table of attacks. Each token is made by hand, because a
library does not make bad ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from ringback.errors import RingbackError, UsageError
from ringback.protocol.limits import MAX_TOKEN_CHARS
from ringback.protocol.names import check_key_name, check_public_key
from ringback.protocol.tokens import INSTALL, check_audience, decode_key, encode_key
from ringback_broker.admission.token_verifier import LEEWAY_S, BadToken, TokenVerifier, Verified

NOW = 1_800_000_000.0
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = encode_key(KEY.public_key().public_bytes_raw())
OTHER_PUBLIC = encode_key(OTHER_KEY.public_key().public_bytes_raw())
VERIFIER = TokenVerifier({"backend": PUBLIC, "other": OTHER_PUBLIC}, "ringback")

CLIENT = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
OTHER_CLIENT = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

HEADER = {"alg": "EdDSA", "kid": "backend", "typ": "JWT"}
CLAIMS = {"player_id": 7, "aud": "ringback", "iat": NOW, "exp": NOW + 60}
FIELDS = ("player_id", "aud", "exp")


def encoded(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(signing_input: str, key: Ed25519PrivateKey = KEY) -> str:
    return f"{signing_input}.{encoded(key.sign(signing_input.encode()))}"


def token(claims: Any = CLAIMS, header: Any = HEADER, key: Ed25519PrivateKey = KEY) -> str:
    return signed(f"{encoded(header)}.{encoded(claims)}", key)


def having(**claims: Any) -> str:
    """Return a token that is good except for these claims."""
    return token({**CLAIMS, **claims})


def without(claim: str) -> str:
    return token({name: value for name, value in CLAIMS.items() if name != claim})


def headed(**fields: Any) -> str:
    return token(header={**HEADER, **fields})


def refused(text: Any, client_key: str | None = None, verifier: TokenVerifier = VERIFIER) -> BadToken:
    with pytest.raises(BadToken) as caught:
        verifier.verify(text, client_key, NOW)
    assert str(caught.value) == caught.value.reason
    return caught.value


GOOD = token()
HEAD, BODY, SIGNATURE = GOOD.split(".")


def hs256(secret: bytes) -> str:
    signing_input = f"{encoded({**HEADER, 'alg': 'HS256'})}.{BODY}"
    return f"{signing_input}.{encoded(hmac.new(secret, signing_input.encode(), hashlib.sha256).digest())}"


def test_a_good_token() -> None:
    assert VERIFIER.verify(GOOD, None, NOW) == Verified(7, "backend", NOW + 60)
    assert VERIFIER.verify(GOOD, CLIENT, NOW) == Verified(7, "backend", NOW + 60)
    assert VERIFIER.verify(token(header={**HEADER, "kid": "other"}, key=OTHER_KEY), None, NOW) == Verified(
        7, "other", NOW + 60
    )


@pytest.mark.parametrize("player_id", [1, 2**63 - 1, "7", "ann", "\u00e9" * 32])
def test_the_player_id_keeps_its_type(player_id: int | str) -> None:
    verified = VERIFIER.verify(having(player_id=player_id), None, NOW).player_id
    assert verified == player_id
    assert type(verified) is type(player_id)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW + 0.001},
        {"exp": int(NOW) + 1},
        {"exp": 2**53},
        {"iat": NOW + LEEWAY_S},
        {"iat": 0},
        {"nbf": NOW + LEEWAY_S},
        {"more": [1, {"a": None}], "iss": "game"},
        {"keys": [OTHER_CLIENT, CLIENT]},
    ],
    ids=str,
)
def test_other_good_claims(claims: dict[str, Any]) -> None:
    assert VERIFIER.verify(having(**claims), CLIENT, NOW).player_id == 7


def test_iat_may_be_missing() -> None:
    assert VERIFIER.verify(without("iat"), None, NOW).player_id == 7


SIGNED = "signature is wrong"
UNREADABLE = "this is not a token"
UNKNOWN = "signed by an unknown key"
ALGORITHM = "must be signed by EdDSA"

ATTACKS: dict[str, tuple[Any, str]] = {
    "empty": ("", UNREADABLE),
    "no parts": ("token", UNREADABLE),
    "two parts": (f"{HEAD}.{BODY}", UNREADABLE),
    "four parts": (f"{GOOD}.{SIGNATURE}", UNREADABLE),
    "dots": ("..", UNREADABLE),
    "not base64": ("!.!.!", UNREADABLE),
    "padding": (f"{HEAD}=.{BODY}.{SIGNATURE}", UNREADABLE),
    "a line's end": (f"{GOOD}\n", UNREADABLE),
    "not ascii": ("\u00e9" + GOOD, UNREADABLE),
    "a surrogate": ("\ud800" + GOOD, UNREADABLE),
    "a NUL": ("\0" + GOOD, UNREADABLE),
    "bytes": (GOOD.encode(), "a token must be a str"),
    "None": (None, "a token must be a str"),
    "too long": (having(more="x" * MAX_TOKEN_CHARS), f"at most {MAX_TOKEN_CHARS} characters"),
    "header not JSON": (token(header=b"{alg}"), UNREADABLE),
    "header not UTF-8": (token(header=b"\xff\xfe\xff"), UNREADABLE),
    "header a list": (token(header=["alg", "EdDSA"]), UNREADABLE),
    "header nested deep": (token(header=b"[" * 1200), UNREADABLE),
    "header of digits": (token(header=b"9" * 1200), UNREADABLE),
    "alg none, not signed": (f"{encoded({**HEADER, 'alg': 'none'})}.{BODY}.", ALGORITHM),
    "alg none, signed": (headed(alg="none"), ALGORITHM),
    "alg None": (headed(alg="None"), ALGORITHM),
    "alg null": (headed(alg=None), ALGORITHM),
    "alg a list": (headed(alg=["EdDSA"]), ALGORITHM),
    "alg of another case": (headed(alg="eddsa"), ALGORITHM),
    "no alg": (token(header={"kid": "backend"}), ALGORITHM),
    "HS256 with the public key's bytes": (
        hs256(KEY.public_key().public_bytes_raw()),
        ALGORITHM,
    ),
    "HS256 with the public key's text": (hs256(PUBLIC.encode()), ALGORITHM),
    "HS256 with no key": (hs256(b""), ALGORITHM),
    "an extension": (headed(crit=["exp"], exp=1), "token"),  # newer versions of PyJWT refuse it themselves
    "an extension that PyJWT knows": (headed(crit=["b64"], b64=True), "extension"),
    "no extension": (headed(crit=[]), "token"),
    "payload not encoded": (headed(b64=False), "token"),
    "payload not encoded, said so": (headed(b64=False, crit=["b64"]), "token"),
    "no payload, not encoded": (signed(encoded({**HEADER, "b64": False}) + "."), UNREADABLE),
    "no kid": (token(header={"alg": "EdDSA"}), UNKNOWN),
    "kid unknown": (headed(kid="revoked"), UNKNOWN),
    "kid empty": (headed(kid=""), UNKNOWN),
    "kid an int": (headed(kid=1), UNREADABLE),
    "kid a list": (headed(kid=["backend"]), UNREADABLE),
    "kid a path": (headed(kid="../backend"), UNKNOWN),
    "kid of another key": (headed(kid="other"), SIGNED),
    "another key under this kid": (token(key=OTHER_KEY), SIGNED),
    "a key in the header": (
        token(header={**HEADER, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": OTHER_PUBLIC}}, key=OTHER_KEY),
        SIGNED,
    ),
    "no signature": (f"{HEAD}.{BODY}.", SIGNED),
    "half a signature": (f"{HEAD}.{BODY}.{SIGNATURE[:44]}", SIGNED),
    "a signature of zeros": (f"{HEAD}.{BODY}.{encoded(bytes(64))}", SIGNED),
    "a signature of something else": (f"{HEAD}.{BODY}.{encoded(KEY.sign(b'x'))}", SIGNED),
    "payload swapped": (f"{HEAD}.{encoded({**CLAIMS, 'player_id': 8})}.{SIGNATURE}", SIGNED),
    "header swapped": (f"{encoded({**HEADER, 'typ': 'jwt'})}.{BODY}.{SIGNATURE}", SIGNED),
    "claims not JSON": (token(b"player_id"), "not a JSON object"),
    "claims empty": (token(b""), UNREADABLE),
    "claims not UTF-8": (token(b"\xff\xfe\xff"), "not a JSON object"),
    "claims a list": (token([CLAIMS]), "not a JSON object"),
    "claims nested deep": (token(b"[" * 1200), "not a JSON object"),
    "no audience": (without("aud"), "another audience"),
    "another audience": (having(aud="game"), "another audience"),
    "several audiences": (having(aud=["ringback", "game"]), "another audience"),
    "audience of another case": (having(aud="Ringback"), "another audience"),
    "no player_id": (without("player_id"), "player_id"),
    "sub alone": (token({**{n: v for n, v in CLAIMS.items() if n != "player_id"}, "sub": "7"}), "player_id"),
    **{
        f"player_id {player_id!r}"[:40]: (having(player_id=player_id), "player_id")
        for player_id in (None, True, 7.0, 0, -1, 2**63, 10**300, "", "x" * 65, "\ud800", [7], {"7": 7})
    },
    "no exp": (without("exp"), "exp is missing"),
    **{
        f"{name} {value!r}"[:40]: (having(**{name: value}), f"{name} is missing or not a time")
        for name in ("exp", "iat", "nbf")
        for value in (None, True, str(NOW), [NOW], float("nan"), float("inf"), -1, 2**53 + 1, 10**300)
    },
    "expired": (having(exp=NOW - 1), "has expired"),
    "expired now": (having(exp=NOW), "has expired"),
    "from the future": (having(iat=NOW + LEEWAY_S + 1), "from the future"),
    "not yet good": (having(nbf=NOW + LEEWAY_S + 1), "from the future"),
}


@pytest.mark.parametrize(("text", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_attack(text: Any, reason: str) -> None:
    error = refused(text)
    assert reason in error.reason
    assert error.expired == (reason == "has expired")


@pytest.mark.parametrize(
    ("keys", "client_key"),
    [
        ([CLIENT], OTHER_CLIENT),
        ([CLIENT], None),
        ([], CLIENT),
        (None, CLIENT),
        ([None], None),
        (CLIENT, CLIENT),
        (CLIENT + OTHER_CLIENT, CLIENT),
        ({CLIENT: 1}, CLIENT),
        ([[CLIENT]], CLIENT),
        ([CLIENT.lower()], CLIENT),
        (True, CLIENT),
    ],
    ids=str,
)
def test_another_client_may_not_present_it(keys: Any, client_key: str | None) -> None:
    assert refused(having(keys=keys), client_key).reason == "the token is for another client's key"


def test_expired_says_that_all_else_is_right() -> None:
    """Otherwise an endpoint would fetch new tokens again and again."""
    assert refused(having(exp=1)).expired
    for claims in ({"aud": "game"}, {"player_id": 0}, {"keys": [CLIENT]}, {"nbf": NOW + 60}):
        assert not refused(having(exp=1, **claims)).expired


def test_a_key_that_was_taken_from_the_list() -> None:
    assert UNKNOWN in refused(GOOD, verifier=TokenVerifier({"other": OTHER_PUBLIC}, "ringback")).reason
    assert UNKNOWN in refused(GOOD, verifier=TokenVerifier({}, "ringback")).reason


def test_a_key_that_was_replaced() -> None:
    assert SIGNED in refused(GOOD, verifier=TokenVerifier({"backend": OTHER_PUBLIC}, "ringback")).reason


def test_the_verifier_keeps_its_own_list() -> None:
    keys = {"backend": PUBLIC}
    verifier = TokenVerifier(keys, "ringback")
    keys.clear()
    assert verifier.verify(GOOD, None, NOW).key_name == "backend"


def test_the_clock_is_the_one_given() -> None:
    """Only the given time counts, in 1970 and in the far future, not the machine's clock."""
    assert VERIFIER.verify(having(iat=5, exp=11), None, 10.0).expires_at == 11.0
    with pytest.raises(BadToken, match="expired"):
        VERIFIER.verify(having(exp=2**52), None, float(2**52))


def test_a_reason_repeats_nothing_of_the_token() -> None:
    mark = "MARK"
    for text in (headed(kid=mark), headed(alg=mark), having(aud=mark), having(player_id=mark * 20), mark):
        assert mark not in refused(text).reason


@pytest.mark.parametrize(
    ("keys", "audience", "error", "part"),
    [
        ({"a b": PUBLIC}, "x", ValueError, "the name of a key pair"),
        ({"": PUBLIC}, "x", ValueError, "the name of a key pair"),
        ({1: PUBLIC}, "x", TypeError, "the name of a key pair"),
        ({"a": PUBLIC[:-1]}, "x", ValueError, "key a: "),
        ({"a": PUBLIC + "="}, "x", ValueError, "key a: "),
        ({"a": PUBLIC[:-1] + "_"}, "x", ValueError, "key a: "),
        ({"a": b"x" * 43}, "x", TypeError, "an Ed25519 key"),
        ({}, "", ValueError, "an audience must not be empty"),
        ({}, "\udcff", ValueError, "an audience must be valid Unicode"),
        ({}, None, TypeError, "an audience"),
    ],
)
def test_wrong_settings(keys: Any, audience: Any, error: type[Exception], part: str) -> None:
    with pytest.raises(error, match=part):
        TokenVerifier(keys, audience)


@pytest.mark.parametrize("module", ["jwt", "cryptography.hazmat.primitives.asymmetric.ed25519"])
def test_a_missing_library(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UsageError, match=r"ringback\[tokens\]") as caught:
        TokenVerifier({}, "ringback")
    assert str(caught.value) == INSTALL


@pytest.mark.parametrize("check", [check_key_name, check_public_key, check_audience, decode_key])
def test_a_value_that_is_not_a_str(check: Callable[[Any], Any]) -> None:
    for value in (None, 1, b"x"):
        with pytest.raises(TypeError, match="must be a str, not"):
            check(value)


@pytest.mark.parametrize("name", ["a", "x" * 64, "game-1.backend_2", "7"])
def test_a_good_name_is_returned(name: str) -> None:
    assert check_key_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "-a", ".", 'a"', "a\n", "\u00e9"])
def test_a_bad_name(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a key pair must be"):
        check_key_name(name)


def test_client_keys() -> None:
    assert check_public_key(CLIENT) == CLIENT
    for key in ("", CLIENT[:-1], CLIENT + "a", CLIENT[:-1] + "~", CLIENT[:-1] + "\n"):
        with pytest.raises(ValueError, match="40 characters of Z85"):
            check_public_key(key)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def outcome(text: str, client_key: str | None = None) -> Verified | None:
    """Verify a token. Return what it says, or None for BadToken. Any other exception fails the test."""
    try:
        return VERIFIER.verify(text, client_key, NOW)
    except BadToken:
        return None


@given(st.text() | st.text("ey.-_A=", max_size=50) | st.lists(ANY_JSON.map(encoded)).map(".".join))
def test_random_text_is_not_a_token(text: str) -> None:
    assert outcome(text) is None


@given(st.integers(0, len(GOOD) - 1), st.characters(), st.sampled_from(["replace", "insert", "cut", "drop"]))
def test_a_changed_token_makes_no_other_claim(position: int, character: str, how: str) -> None:
    """Only the last bits or the padding of the signature can be written differently, never the claims."""
    rest = {"replace": character + GOOD[position + 1 :], "insert": character + GOOD[position:]}
    changed = GOOD[:position] + rest.get(how, "" if how == "cut" else GOOD[position + 1 :])
    result = outcome(changed)
    if result is not None:
        assert changed.rsplit(".", 1)[0] == f"{HEAD}.{BODY}"
        assert result == Verified(7, "backend", NOW + 60)


@given(st.dictionaries(st.sampled_from([*HEADER, "crit", "b64", "jwk"]), ANY_JSON))
def test_any_header(header: dict[str, Any]) -> None:
    result = outcome(token(header={**HEADER, **header}))
    assert result is None or not {"alg", "kid", "crit"} & {
        name for name, value in header.items() if value != HEADER.get(name)
    }


@given(st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "keys"]), ANY_JSON))
@example({"exp": 10**300})
@example({"exp": float("nan")})
def test_any_claims(claims: dict[str, Any]) -> None:
    """An accepted token has a valid player ID, and ends in the future."""
    result = outcome(having(**claims), CLIENT)
    if result is not None:
        assert type(result.player_id) in (int, str)
        assert result.expires_at > NOW
        assert "keys" not in claims
        assert claims.get("aud", "ringback") == "ringback"


@given(st.binary(max_size=1200))
def test_any_signed_bytes(payload: bytes) -> None:
    assert outcome(token(payload)) is None


def test_bad_token_is_an_error_of_ringback() -> None:
    assert issubclass(BadToken, RingbackError)
