"""Key pairs and tokens at a broker that requires them, in both faces."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.faces import Face, HereBroker, LogLines, Seen, Stage, sdk_log
from support.harness import PATIENCE_S
from support.keyring import KeyRing
from support.names import Names

from ringback import BrokerUnreachable, Code, Player, Refused, RejectCode, Server, Unauthorized
from ringback.credentials import KeyFileError, KeyPair, load_key_pair, public_key_of, write_key_pair
from ringback.tokens import TokenKey, mint_token, new_token_key

__all__ = ["sdk_log"]


class ShopRing(KeyRing):
    """The key pairs of a shop server and of anna, who is player 7."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.shop, self.anna = self.add("shop", "server"), self.add("anna", "player", 7)


@pytest.fixture
def ring(tmp_path: Path) -> ShopRing:
    return ShopRing(tmp_path)


@pytest.fixture
def guarded(ring: ShopRing) -> Iterator[HereBroker]:
    with HereBroker(**ring.settings) as broker:
        yield broker


@pytest.fixture
def signer(ring: ShopRing) -> TokenKey:
    key = new_token_key("game")
    ring.list("game", f'[[token_key]]\nname = "game"\npublic = "{key.public}"\n')
    return key


def run(face: Face, broker: HereBroker, body: Any) -> None:
    async def whole() -> None:
        async with Stage(face, broker) as stage:
            await body(stage)

    asyncio.run(whole())


def test_a_guarded_broker_at_the_second_address_of_a_name(
    face: Face, signer: TokenKey, guarded: HereBroker, ring: ShopRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(two_test=["127.0.0.2", "127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    minted = []

    def token() -> str:
        minted.append(mint_token(signer, player_id=9, ttl=60.0))
        return minted[-1]

    async def body(stage: Stage) -> None:
        here = stage.broker
        here.players = here.players.replace("127.0.0.1", "two.test")
        assert (await stage.player(key_file=ring.anna)).player_id == 7
        assert (await stage.player(broker_key=ring.public, token=token)).player_id == 9
        assert len(minted) == 1

    run(face, guarded, body)


async def refusal(stage: Stage, role: str, *arguments: Any, **settings: Any) -> Any:
    """Start an endpoint that the broker must refuse. Return the error."""
    address = stage.broker.players if role == "Player" else stage.broker.backend
    with pytest.raises(Refused) as raised:
        await stage._start(stage.make(role, address, *arguments, **settings))
    return raised.value


def test_calls_with_key_pairs(face: Face, ring: ShopRing) -> None:
    shop, operator_key = ring.add("other-shop", "server"), ring.add("cli", "operator")
    anna = write_key_pair(ring.add("ann", "player", 9, "ann"), ring.folder)

    async def body(stage: Stage) -> None:
        server = await stage.server(key_file=shop)
        server.register_server_callback("who", lambda source, payload: source)
        player = await stage.player(key_file=str(anna))
        assert player.player_id == 9
        second = await stage.player("ann", key_file=anna)
        operator = await stage.operator(key_file=operator_key)
        for endpoint, source in ((player, 9), (second, "ann")):
            endpoint.register_client_callback("echo", lambda payload: payload)
            assert await stage.result(endpoint.trigger_server_callback("who")) == source
        large = "x" * 900_000
        assert await stage.result(server.trigger_client_callback("echo", 9, large)) == large
        assert await stage.result(operator.trigger_client_callback("echo", "ann", 1)) == 1
        assert await stage.result(operator.trigger_callback("who", "npc")) == "npc"

    with HereBroker(**ring.settings) as broker:
        run(face, broker, body)


def test_endpoints_that_are_refused(face: Face, ring: ShopRing, guarded: HereBroker) -> None:
    stranger = ring.make("stranger", "player", 7)

    async def body(stage: Stage) -> None:
        not_listed = await refusal(stage, "Player", 7, key_file=stranger)
        assert isinstance(not_listed, Unauthorized) and "this public key is not allowed" in str(not_listed)
        other_id = await refusal(stage, "Player", 8, key_file=ring.anna)
        assert "'anna' may not be player 8" in str(other_id)
        no_tokens = await refusal(stage, "Player", 7, key_file=ring.anna, token="x")
        assert "accepts no tokens" in str(no_tokens)

    run(face, guarded, body)


def test_an_endpoint_without_a_key_pair_at_a_broker_with_one(face: Face, guarded: HereBroker) -> None:
    async def body(stage: Stage) -> None:
        with pytest.raises(
            (Unauthorized, BrokerUnreachable),
            match=r"requires an encrypted link|does the broker require a key pair",
        ):
            await stage.player(7)

    run(face, guarded, body)


def test_a_key_pair_at_a_broker_without_one(face: Face, here: HereBroker, ring: ShopRing) -> None:
    async def body(stage: Stage) -> None:
        with pytest.raises((Unauthorized, BrokerUnreachable), match=r"does not encrypt|public key right"):
            await stage.player(7, key_file=ring.anna)

    run(face, here, body)


def test_the_public_key_of_another_broker(
    face: Face, ring: ShopRing, guarded: HereBroker, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = KeyRing(tmp_path / "other")

    async def body(stage: Stage) -> None:
        with pytest.raises(BrokerUnreachable, match="is the broker's public key right"):
            await stage.player(7, key_file=ring.anna, broker_key=other.public, connect_timeout=1.0)

    run(face, guarded, body)


def test_a_token(face: Face, ring: ShopRing, signer: TokenKey) -> None:
    async def body(stage: Stage) -> None:
        server = await stage.server(key_file=ring.shop)
        token = mint_token(signer, "guest", ttl=3600)
        player = await stage.player(broker_key=ring.public, token=token)
        assert player.player_id == "guest"
        await stage.still_works(server, player)
        forged = mint_token(new_token_key("game"), "guest", ttl=3600)
        error = await refusal(stage, "Player", broker_key=ring.public, token=forged)
        assert error.code is RejectCode.UNAUTHORIZED and "token was refused" in str(error)
        assert token not in str(error) and token not in repr(player)

    with HereBroker(**ring.settings) as broker:
        run(face, broker, body)


def test_a_function_that_returns_tokens(
    face: Face, ring: ShopRing, signer: TokenKey, sdk_log: LogLines
) -> None:
    """The first token expires. Fetching the second fails. With the third, the player connects again."""
    given = Seen()

    def next_token() -> str:
        given(None)
        number = len(given.items)
        if number == 2:
            raise OSError("the backend is away")
        return mint_token(signer, 7, ttl=2.0 if number == 1 else 3600.0)

    async def next_token_async() -> str:
        await asyncio.sleep(0)
        return next_token()

    async def body(stage: Stage) -> None:
        server = await stage.server(key_file=ring.shop)
        for function in (next_token, next_token_async):
            given.items.clear()
            seen = Seen()
            player = stage.make("Player", stage.broker.players, broker_key=ring.public, token=function)
            player.on_disconnected(seen)
            player.on_connected(back := Seen())
            await stage.face.start(player)
            assert await seen.count(1) == ["TOKEN_EXPIRED: the token has expired"]
            await given.count(3)
            await sdk_log.wait_for("no token: OSError: the backend is away")
            await back.count(2)
            await stage.still_works(server, player)
            await stage.face.close(player)

    with HereBroker(**ring.settings) as broker:
        run(face, broker, body)


class Later:
    """An awaitable that is no coroutine, and an object with an async `__call__`."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self._token

    async def __call__(self) -> str:
        return await self


def test_functions_for_tokens_of_every_form(face: Face, ring: ShopRing, signer: TokenKey) -> None:
    async def coroutine(token: str) -> str:
        return token

    async def body(stage: Stage) -> None:
        server = await stage.server(key_file=ring.shop)
        token = mint_token(signer, 7, ttl=3600.0)
        for function in (
            lambda: token,
            lambda: coroutine(token),
            lambda: Later(token),
            Later(token),
            partial(coroutine, token),
        ):
            player = stage.make("Player", stage.broker.players, broker_key=ring.public, token=function)
            await stage.face.start(player)
            await stage.still_works(server, player)
            await stage.face.close(player)

    with HereBroker(**ring.settings) as broker:
        run(face, broker, body)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, asyncio.CancelledError, OSError])
def test_why_a_function_for_tokens_failed_is_shown(
    face: Face, ring: ShopRing, guarded: HereBroker, kind: type[BaseException], is_async: bool
) -> None:
    def plain() -> str:
        raise kind("the tokens are used up")

    async def coroutine() -> str:
        raise kind("the tokens are used up")

    async def body(stage: Stage) -> None:
        function = coroutine if is_async else plain
        reason = "no token: .*(the tokens are used up|raised StopIteration)"
        with pytest.raises(BrokerUnreachable, match=reason):
            await stage.player(broker_key=ring.public, token=function, connect_timeout=1.0)

    run(face, guarded, body)


def test_a_function_that_returns_no_token(face: Face, ring: ShopRing, guarded: HereBroker) -> None:
    async def body(stage: Stage) -> None:
        player = stage.make(
            "Player", stage.broker.players, broker_key=ring.public, token=lambda: 5, connect_timeout=0.5
        )
        with pytest.raises(
            BrokerUnreachable, match="no token: TypeError: the function for tokens returned int"
        ):
            await stage.face.start(player)

    run(face, guarded, body)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_a_function_for_tokens_that_does_not_return(
    face: Face, ring: ShopRing, guarded: HereBroker, is_async: bool
) -> None:
    late = threading.Event()

    def plain() -> str:
        late.wait(PATIENCE_S)
        return ""

    async def coroutine() -> str:
        await asyncio.sleep(PATIENCE_S)
        return ""

    async def body(stage: Stage) -> None:
        function = coroutine if is_async else plain
        with pytest.raises(BrokerUnreachable, match="the function for tokens has not returned"):
            await stage.player(broker_key=ring.public, token=function, connect_timeout=0.5)
        late.set()

    run(face, guarded, body)


def test_a_player_that_is_replaced_does_not_connect_again(
    face: Face, ring: ShopRing, guarded: HereBroker
) -> None:
    async def body(stage: Stage) -> None:
        server = await stage.server(key_file=ring.shop)
        seen = Seen()
        first = await stage.player(key_file=ring.anna)
        first.on_disconnected(seen)
        second = await stage.player(key_file=ring.anna)
        [why] = await seen.count(1)
        assert why.startswith("REPLACED: the same player joined again from 127.0.0.1")
        await stage.still_works(server, second)
        error = await stage.failure(first.trigger_server_callback("x"))
        assert (error.code, error.executed) == (Code.CONNECTION_LOST, "no")
        assert not first.connected

    run(face, guarded, body)


def test_a_key_that_is_revoked(face: Face, ring: ShopRing, guarded: HereBroker) -> None:
    async def body(stage: Stage) -> None:
        server = await stage.server(key_file=ring.shop)
        left, why = Seen(), Seen()
        server.on_player_left(left)
        player = await stage.player(key_file=ring.anna)
        player.on_disconnected(why)
        ring.remove("anna")
        assert await left.count(1) == [7]
        assert await why.count(1) == ["REVOKED: the access list no longer admits 'anna'"]
        assert isinstance(await refusal(stage, "Player", 7, key_file=ring.anna), Unauthorized)

    run(face, guarded, body)


def test_an_access_list_that_cannot_be_read_changes_nothing(ring: ShopRing, guarded: HereBroker) -> None:
    lines, logger = LogLines(), logging.getLogger("ringback.broker")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        with Player(guarded.players, key_file=ring.anna) as player:
            ring.list("odd", "[[key]]\nname = 5\n")
            asyncio.run(lines.wait_for("was not reloaded, and the old one stays valid: .*access.toml"))
            assert player.connected
            ring.remove("odd")
            asyncio.run(lines.wait_for("was reloaded: 2 keys"))
            assert player.connected
    finally:
        logger.removeHandler(lines)
        logger.setLevel(logging.NOTSET)


# -- arguments


@pytest.mark.parametrize("kind", [Server, Player])
def test_arguments_that_are_wrong(kind: Any, ring: ShopRing, tmp_path: Path) -> None:
    address = "tcp://127.0.0.1:1"
    anna: KeyPair = ring.anna
    own = ring.shop if kind is Server else anna
    for settings, kinds, message in (
        ({"broker_key": "short"}, ValueError, "40 characters of Z85"),
        (
            {"broker_key": 5},
            TypeError,
            "^broker_key must be .* as in its .pub file: a public key must be a str",
        ),
        ({"key_file": tmp_path / "none.key"}, KeyFileError, "No such file"),
        ({"key_file": ring.key_file}, ValueError, "has the role broker"),
        ({"key_file": replace(own, broker=None)}, ValueError, "does not name the broker's public key"),
    ):
        with pytest.raises(kinds, match=message):
            kind(address, **settings)
    with pytest.raises(TypeError, match="only a player may have a token"):
        Server(address, token="x")
    with pytest.raises(TypeError, match="token must be a str, or a function"):
        Player(address, token=5, broker_key=ring.public)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a token needs broker_key"):
        Player(address, token="x")


# -- files


def test_a_key_file(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    pair = ring.make("anna", "player", 7, 'quote " back \\ \n')
    path = write_key_pair(pair, tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key_pair(path) == pair
    assert pair.secret not in (tmp_path / "anna.pub").read_text()
    assert pair.secret not in repr(pair)
    with pytest.raises(KeyFileError, match="exists already, and is not overwritten: choose another name"):
        write_key_pair(ring.make("anna", "player", 8), tmp_path)
    assert load_key_pair(path) == pair
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match=f"other users may read this file: run chmod 600 {path}"):
        load_key_pair(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('role = "player"', 'role = "king"', "the role of a key pair must be one of"),
        ('role = "player"', 'role = "server"', "only a player may have IDs"),
        ("ids = [7]", "ids = 7", "ids must be a list"),
        ("ids = [7]", "ids = [0]", "1 to 2"),
        ('name = "anna"', 'name = "an na"', "the name of a key pair"),
        ('name = "anna"', "", "the name of a key pair"),
        ('name = "anna"', "name =", "not TOML"),
        ("public = ", "publik = ", "a public key must be a str"),
        ("secret = ", "sekret = ", "no secret in this file"),
        ('secret = "', 'secret = "x', "are not a pair"),
        ('broker = "', 'broker = "x', "40 characters of Z85"),
    ],
)
def test_a_key_file_that_is_wrong(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = write_key_pair(KeyRing(tmp_path).make("anna", "player", 7), tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(KeyFileError, match=message) as raised:
        load_key_pair(path)
    assert str(path) in str(raised.value)


def test_a_start_that_is_refused_is_quick(ring: ShopRing, guarded: HereBroker) -> None:
    """A refused start does not wait for `connect_timeout`."""
    begun_at = time.monotonic()
    with pytest.raises(Unauthorized):
        Player(guarded.players, 7, key_file=ring.make("x", "player", 7), connect_timeout=600.0).start()
    assert time.monotonic() - begun_at < 60.0


def test_a_public_key_or_the_file_that_has_it(ring: ShopRing, tmp_path: Path) -> None:
    for text in (ring.public, str(tmp_path / "broker.pub"), str(tmp_path / "broker.key")):
        assert public_key_of(text, "broker") == ring.public
    (tmp_path / "odd.pub").write_text("role = 'broker'\npublic = 5")
    shop = write_key_pair(ring.shop, tmp_path)
    for wrong, reason in {
        "": "; not ''",
        "x": "; x: No such file or directory",
        "a\0b": "; embedded null",
        str(tmp_path): "Is a directory",
        str(tmp_path / "odd.pub"): "a public key must be a str, not int",
        str(shop): "this is a key of the role 'server', not 'broker'",
    }.items():
        with pytest.raises(KeyFileError, match="40 characters of Z85, or the path") as raised:
            public_key_of(wrong, "broker")
        assert reason in str(raised.value)
