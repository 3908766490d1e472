"""Bad tokens: raw peers, and both faces of the SDK."""

from __future__ import annotations

import base64
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import jwt
import pytest
from security.yard import Vault, Yard, refusals, rejected
from support.harness import PATIENCE_S

from ringback import Player, RejectCode
from ringback.credentials import KeyPair, new_ephemeral_pair, new_key_pair
from ringback.errors import Unauthorized
from ringback.protocol.control import Hello
from ringback.protocol.frames import Role
from ringback.protocol.player_ids import PlayerID
from ringback.tokens import TokenKey
from ringback_broker.admission.access_list import AccessList, Denied

PLAYER = Role.PLAYER


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"player_id": 5, "aud": "ringback", "iat": now, "exp": now + 3600, **changed}


def signed(key: TokenKey, said: Any, algorithm: str = "EdDSA", **header: Any) -> str:
    """Sign a token with any claims. `mint_token` would refuse most of them."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = base64.urlsafe_b64decode(key.secret + "=")
    private = Ed25519PrivateKey.from_private_bytes(secret)
    return jwt.PyJWS().encode(json.dumps(said).encode(), private, algorithm, {"kid": key.name, **header})


def unsigned(said: Any, **header: Any) -> str:
    return ".".join((_part({"typ": "JWT", "kid": "mint", **header}), _part(said), ""))


def by_public_key(yard: Yard) -> str:
    """Return a token that is signed with HS256. Its secret is the public key, which is not secret."""
    return jwt.PyJWS().encode(json.dumps(claims()).encode(), yard.mint.public, "HS256", {"kid": "mint"})


def changed_afterwards(yard: Yard) -> str:
    header, said, signature = yard.vault.token(yard.mint, 5).split(".")
    assert said
    return ".".join((header, _part(claims(player_id=7)), signature))


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Attack:
    """A bad token, and the code and reason of its refusal."""

    token: Callable[[Yard], str]
    reason: str
    code: RejectCode = RejectCode.UNAUTHORIZED
    player_id: PlayerID | None = None


def of_other_signer(name: str) -> Callable[[Yard], str]:
    return lambda yard: yard.vault.token(yard.vault.token_key(name, listed=False), 5)


ATTACKS = {
    "expired": Attack(
        lambda yard: signed(yard.mint, claims(exp=int(time.time()) - 1)),
        "the token has expired",
        RejectCode.TOKEN_EXPIRED,
    ),
    "without an end": Attack(
        lambda yard: signed(yard.mint, {"player_id": 5, "aud": "ringback"}), "the token's exp"
    ),
    "of tomorrow": Attack(
        lambda yard: signed(yard.mint, claims(nbf=int(time.time()) + 86400)), "the token is from the future"
    ),
    "signed by somebody else": Attack(of_other_signer("mint"), "the token's signature is wrong"),
    "of a signer that is not on the list": Attack(of_other_signer("mallory"), "signed by an unknown key"),
    "alg none": Attack(lambda yard: unsigned(claims(), alg="none"), "a token must be signed by EdDSA"),
    "alg None, EdDSA in its name": Attack(lambda yard: unsigned(claims(), alg="EdDSA"), "signature is wrong"),
    "HS256 by the public key": Attack(by_public_key, "a token must be signed by EdDSA"),
    "claims changed afterwards": Attack(changed_afterwards, "the token's signature is wrong"),
    "for another audience": Attack(
        lambda yard: yard.vault.token(yard.mint, 5, audience="elsewhere"), "the token is for another audience"
    ),
    "for all audiences": Attack(
        lambda yard: signed(yard.mint, claims(aud=["ringback", "x"])), "the token is for another audience"
    ),
    "bound to other keys": Attack(
        lambda yard: yard.vault.token(yard.mint, 5, allowed_keys=[yard.vault.broker.public]),
        "the token is for another client's key",
    ),
    "bound to no key": Attack(
        lambda yard: signed(yard.mint, claims(keys=[])), "the token is for another client's key"
    ),
    "bound by a str that has the key in it": Attack(
        lambda yard: signed(yard.mint, claims(keys=yard.vault.broker.public)), "for another client's key"
    ),
    "for another player": Attack(
        lambda yard: yard.vault.token(yard.mint, 5), "'mint' may not be player 7", player_id=7
    ),
    "for a bool": Attack(lambda yard: signed(yard.mint, claims(player_id=True)), "the token's player_id"),
    "with a critical extension": Attack(
        lambda yard: signed(yard.mint, claims(), crit=["x"], x=1),
        "an unknown extension|this is not a token",
    ),
    "no token at all": Attack(lambda yard: "let me in, please", "this is not a token"),
    "empty": Attack(lambda yard: "", "this is not a token"),
    "a line of a log": Attack(
        lambda yard: "x\n2026-01-01 INFO ringback.broker joined", "this is not a token"
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_bad_token(attack: Attack, token_yard: Yard) -> None:
    yard = token_yard
    token, broker_key = attack.token(yard), yard.vault.broker.public
    if token.count(".") == 2:
        yard.vault.keep(token)
    begun = yard.counters()["sessions_begun"]
    log = f"refused SOURCE {attack.code.name}: .*({attack.reason})"
    with yard.attack(log, sessions_refused=3) as source:
        for error in refusals(
            PLAYER, yard.broker.players, player_id=attack.player_id, token=token, broker_key=broker_key
        ):
            assert isinstance(error, Unauthorized) and error.code is attack.code
            assert re.search(attack.reason, str(error))
        with yard.peer(PLAYER, keys=new_ephemeral_pair(broker_key), source=source) as peer:
            peer.hello(PLAYER, attack.player_id, token=token)
            code, reason = rejected(peer)
            assert code is attack.code and re.search(attack.reason, reason)
            peer.wait_for_close()
    assert yard.counters()["sessions_begun"] == begun


def test_control_a_good_token_lets_in(token_yard: Yard) -> None:
    """It may be a str, come from a function, or be bound to the public key of the connection.

    Keys on the access list work too.
    """
    yard, mint = token_yard, token_yard.mint
    yard.works(PLAYER, stranger(yard), 5, token=yard.vault.token(mint, 5))
    yard.works(PLAYER, stranger(yard), None, token=signed(mint, claims()))
    pair = stranger(yard)
    yard.works(PLAYER, pair, 5, token=yard.vault.token(mint, 5, allowed_keys=[pair.public]))
    yard.works(PLAYER, yard.ann, 7)
    with yard.control():
        settings = {"broker_key": yard.vault.broker.public, "token": lambda: yard.vault.token(mint, "eve")}
        with Player(yard.broker.players, **settings) as player:
            assert player.player_id == "eve"


def stranger(yard: Yard) -> KeyPair:
    """Return a key pair that is on no list."""
    return new_key_pair("stranger", "player", (), yard.vault.broker.public)


def test_no_token_at_a_broker_that_takes_tokens(token_yard: Yard) -> None:
    """There any key may connect, but not join."""
    yard = token_yard
    reason = "this public key is not on the access list, and the HELLO has no token"
    with yard.attack(f"refused SOURCE UNAUTHORIZED: {reason}", sessions_refused=3) as source:
        for error in refusals(PLAYER, yard.broker.players, key_file=stranger(yard)):
            assert isinstance(error, Unauthorized) and reason in str(error)
        with yard.peer(PLAYER, keys=stranger(yard), source=source) as peer:
            peer.hello(PLAYER)
            assert rejected(peer) == (RejectCode.UNAUTHORIZED, reason)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.SERVER])
def test_a_token_on_the_trusted_side(role: Role, token_yard: Yard) -> None:
    """The broker refuses it, even beside a key on the list. The SDK does not accept it as an argument."""
    yard = token_yard
    token = yard.vault.token(yard.mint, 5)
    for key_file in (yard.keys[role], None):
        with pytest.raises(TypeError, match="only a player may have a token"):
            refusals(role, yard.broker.backend, token=token, key_file=key_file)
    with (
        yard.attack(
            "refused SOURCE UNAUTHORIZED: only players may join with a token", sessions_refused=1
        ) as source,
        yard.peer(role, keys=yard.second, source=source) as peer,
    ):
        peer.hello(role, token=token)
        assert rejected(peer) == (RejectCode.UNAUTHORIZED, "only players may join with a token")
    with (
        yard.attack("refused SOURCE UNAUTHORIZED: key", handshakes_refused=1) as source,
        yard.peer(role, keys=stranger(yard), source=source) as peer,
    ):
        peer.hello(role, token=token)
        peer.wait_for_close()


def test_a_token_at_a_broker_that_takes_none(yard: Yard) -> None:
    """It is refused even beside a good key: the token is meant for another broker."""
    token = yard.vault.token(yard.vault.token_key("mint", listed=False), 7)
    reason = "this broker accepts no tokens"
    with yard.attack(
        f"refused SOURCE UNAUTHORIZED: {reason}", sessions_refused=3, handshakes_refused=2
    ) as source:
        for error in refusals(PLAYER, yard.broker.players, key_file=yard.ann, token=token):
            assert isinstance(error, Unauthorized) and reason in str(error)
        with yard.peer(PLAYER, keys=yard.ann, source=source) as peer:
            peer.hello(PLAYER, token=token)
            assert rejected(peer) == (RejectCode.UNAUTHORIZED, reason)
        for error in refusals(PLAYER, yard.broker.players, token=token, broker_key=yard.vault.broker.public):
            assert isinstance(error, Unauthorized) and "this public key is not allowed" in str(error)


def test_a_session_ends_with_its_token(token_yard: Yard) -> None:
    """The player that has a fresh token connects again."""
    yard = token_yard
    told: SimpleQueue[str] = SimpleQueue()
    tokens = iter((yard.vault.token(yard.mint, "fresh", ttl=1), yard.vault.token(yard.mint, "fresh")))
    pair = stranger(yard)
    connected: SimpleQueue[str] = SimpleQueue()
    with (
        yard.attack(
            "left player 'fresh' .*TOKEN_EXPIRED", "left player 'short' .*TOKEN_EXPIRED", sessions_revoked=2
        ),
        yard.peer(PLAYER, keys=pair) as peer,
        Player(yard.broker.players, broker_key=pair.broker, token=lambda: next(tokens)) as player,
    ):
        player.on_disconnected(told.put)
        player.on_connected(connected.put)
        peer.join(PLAYER, token=yard.vault.token(yard.mint, "short", ttl=1))
        assert rejected(peer) == (RejectCode.TOKEN_EXPIRED, "the token has expired")
        assert told.get(timeout=PATIENCE_S) == "TOKEN_EXPIRED: the token has expired"
        connected.get(timeout=PATIENCE_S)
        assert player.trigger_server_callback("echo", 1).result() == 1


def test_a_stolen_token_is_good_for_its_thief(token_yard: Yard) -> None:
    """A token that is bound to no public key. Its owner gets REPLACED, and does not connect again."""
    yard = token_yard
    token = yard.vault.token(yard.mint, "owner")
    told: SimpleQueue[str] = SimpleQueue()
    settings = {"broker_key": yard.vault.broker.public, "token": token}
    log = "left player 'owner' .*REPLACED: the same player joined again from SOURCE"
    with yard.attack(log, sessions_replaced=1) as source, Player(yard.broker.players, **settings) as owner:
        owner.on_disconnected(told.put)
        with yard.peer(PLAYER, keys=stranger(yard), source=source) as thief:
            assert thief.join(PLAYER, token=token).player_id == "owner"
            why = f"REPLACED: the same player joined again from {source}"
            assert told.get(timeout=PATIENCE_S) == why


def test_a_player_of_a_key_keeps_its_place_against_a_token(token_yard: Yard) -> None:
    """A token cannot take the ID of a player that joined with a key on the list."""
    yard = token_yard
    with (
        yard.attack("refused SOURCE ID_TAKEN", sessions_refused=1) as source,
        yard.peer(PLAYER, keys=stranger(yard), source=source) as peer,
    ):
        peer.hello(PLAYER, token=yard.vault.token(yard.mint, "canary"))
        assert rejected(peer)[0] is RejectCode.ID_TAKEN


def test_a_signer_that_is_revoked(tmp_path: Path) -> None:
    """Its sessions end within two seconds, and its tokens are refused. Other sessions stay."""
    vault = Vault(tmp_path)
    gone, stays = vault.token_key("gone"), vault.token_key("stays")
    with Yard(vault) as yard, yard.peer(PLAYER, keys=stranger(yard)) as other:
        other.join(PLAYER, token=vault.token(stays, 6))
        token = vault.token(gone, 5)
        with (
            yard.attack("left player 5 .*REVOKED", sessions_revoked=1) as source,
            yard.peer(PLAYER, keys=stranger(yard), source=source) as peer,
        ):
            peer.join(PLAYER, token=token)
            began = time.monotonic()
            vault.revoke("gone")
            assert rejected(peer) == (RejectCode.REVOKED, "the access list no longer admits 'gone'")
            assert time.monotonic() - began < 2.0 + 0.5
        reason = "the token is signed by an unknown key"
        with yard.attack(f"refused SOURCE UNAUTHORIZED: .*{reason}", sessions_refused=3) as source:
            for error in refusals(PLAYER, yard.broker.players, token=token, broker_key=vault.broker.public):
                assert isinstance(error, Unauthorized) and reason in str(error)
            with yard.peer(PLAYER, keys=stranger(yard), source=source) as peer:
                peer.hello(PLAYER, token=token)
                assert reason in rejected(peer)[1]
        yard.works(PLAYER, stranger(yard), 8, token=vault.token(stays, 8))
        assert 6 in yard.server.players
        # The last signing key is revoked too. Then a key that is not on the list cannot even connect.
        vault.revoke("stays")
        assert rejected(other)[0] is RejectCode.REVOKED
        with (
            yard.attack("refused SOURCE UNAUTHORIZED: key", handshakes_refused=1) as source,
            yard.peer(PLAYER, keys=stranger(yard), source=source) as peer,
        ):
            peer.wait_for_close()


VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 2**53, 2**64, 10**400),
    *("", "x", "\ud800", "\0", "ringback", "x" * 100, [], [1], ["ringback"], {}, {"a": {}}, [[[]]]),
]


def test_any_claims_give_a_player_or_a_reason() -> None:
    """Claims of any kind, signed with a known key: only `Denied` is raised."""
    rng = random.Random(5)
    vault_key = _listed_key()
    access = AccessList.parse(f'[[token_key]]\nname = "mint"\npublic = "{vault_key.public}"\n')
    names = ["player_id", "aud", "exp", "iat", "nbf", "keys", "x"]
    let_in = denied = 0
    for _ in range(1500):
        said: Any = claims()
        for name in rng.sample(names, rng.randrange(4)):
            said[name] = rng.choice(VALUES)
        if rng.random() < 0.05:
            said = rng.choice(VALUES)
        header = {rng.choice(["kid", "typ", "b64", "jku"]): rng.choice(VALUES)} if rng.random() < 0.1 else {}
        try:
            token = signed(vault_key, said, **header)
        except Exception:  # PyJWT makes no such token
            continue
        if rng.random() < 0.3:
            at = rng.randrange(len(token))
            token = (
                token[:at] + rng.choice(["", ".", "=", "\n", "\ud800", "A"]) + token[at + rng.randrange(3) :]
            )
        try:
            access.identify(Hello(PLAYER, token=token), "k" * 40, time.time())
            let_in += 1
        except Denied as error:
            denied += 1
            assert re.fullmatch(r"[\x20-\x7e]+", error.reason)
    assert let_in > 100 and denied > 500


def _listed_key() -> TokenKey:
    from ringback.tokens import new_token_key

    return new_token_key("mint")
