"""Peers without a key, with a wrong one, or with one of another role: raw peers and both faces of the SDK."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, Self

import pytest
import zmq
from security.yard import (
    HANDSHAKE_FAILURES,
    Yard,
    closed_by_broker,
    host_and_port,
    refusals,
    rejected,
    run_cli,
)
from support.harness import PATIENCE_S, eventually

from ringback import BrokerUnreachable, LinkError, Player, RejectCode
from ringback.credentials import KeyPair
from ringback.errors import Unauthorized
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import Role
from ringback.protocol.player_ids import PlayerID

CLOSING_S = 1.5
"""A refused connection is closed after at most this time, on a busy machine too."""

PLAYER, SERVER, OPERATOR = Role.PLAYER, Role.SERVER, Role.OPERATOR


@dataclass(frozen=True)
class Attack:
    """An attempt to join, and how it must fail.

    Attributes:
        role: the role that the attacker claims.
        keys: a function that returns the attacker's key pair.
        error: the class of the error that the SDK raises.
        message: a pattern of the message of that error.
        counter: the counter of the broker that grows.
        log: a pattern of the log line, after the IP.
        player_id: the ID that the attacker wants.
    """

    role: Role
    keys: Callable[[Yard], KeyPair | None]
    error: type[LinkError]
    message: str
    counter: str
    log: str
    player_id: PlayerID | None = None


def stray(yard: Yard) -> KeyPair:
    return yard.vault.pair("stray", "player", listed=False)


def of(role: Role) -> Callable[[Yard], KeyPair | None]:
    return lambda yard: yard.keys[role]


def other_broker(role: Role) -> Callable[[Yard], KeyPair | None]:
    return lambda yard: yard.keys[role].with_broker(stray(yard).public)


SIDES = {PLAYER: "players", SERVER: "backend", OPERATOR: "backend"}
NO_KEY = (
    r"requires an encrypted link: pass key_file, or broker_key and token|does the broker require a key pair\?"
)
NOT_ALLOWED = r"UNAUTHORIZED: the broker at \S+ refuses: this public key is not allowed$"
NO_HELLO = "no HELLO: (one side encrypts, the other does not|it went away, or took too long)"
ANOTHER_KEY = "no HELLO: it has another key for this broker"

NOT_FOR = "UNAUTHORIZED: key PUBLIC is not for the "
WRONG_BROKER = "is the broker's public key right"
OTHER_ROLE = "this public key has the role {}, not {}$"

ATTACKS = {
    f"{role} without a key": Attack(role, lambda _: None, LinkError, NO_KEY, "handshakes_failed", NO_HELLO)
    for role in Role
}
ATTACKS |= {
    f"{role} with a key that is not on the list": Attack(
        role, stray, Unauthorized, NOT_ALLOWED, "handshakes_refused", NOT_FOR + SIDES[role]
    )
    for role in Role
}
ATTACKS |= {
    f"{role} with another key for the broker": Attack(
        role, other_broker(role), BrokerUnreachable, WRONG_BROKER, "handshakes_failed", ANOTHER_KEY
    )
    for role in Role
}
ATTACKS |= {
    f"{owner}'s key for a {role}": Attack(
        role, of(owner), Unauthorized, NOT_ALLOWED, "handshakes_refused", NOT_FOR + SIDES[role]
    )
    for owner, role in ((PLAYER, OPERATOR), (PLAYER, SERVER), (SERVER, PLAYER), (OPERATOR, PLAYER))
}
ATTACKS |= {
    f"{owner}'s key for a {role}": Attack(
        role,
        of(owner),
        Unauthorized,
        OTHER_ROLE.format(owner, role),
        "sessions_refused",
        "UNAUTHORIZED: this public key",
    )
    for owner, role in ((SERVER, OPERATOR), (OPERATOR, SERVER))
}
ATTACKS |= {
    f"somebody else's ID {wanted!r}": Attack(
        PLAYER,
        of(PLAYER),
        Unauthorized,
        f"'the-canary' may not be player {wanted!r}$",
        "sessions_refused",
        f"UNAUTHORIZED: 'the-canary' may not be player {wanted!r}$",
        wanted,
    )
    for wanted in (7, "7", "canary ", "Canary")
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_key_that_does_not_fit(attack: Attack, yard: Yard) -> None:
    keys = attack.keys(yard)
    public = "" if keys is None else keys.public
    begun = yard.counters()["sessions_begun"]
    with yard.attack(
        "refused SOURCE " + attack.log.replace("PUBLIC", re.escape(public)), **{attack.counter: 3}
    ) as source:
        claimed = None if keys is None else replace(keys, role=attack.role.value)
        settings = {} if attack.player_id is None else {"player_id": attack.player_id}
        address = yard.address(attack.role)
        for error in refusals(attack.role, address, key_file=claimed, connect_timeout=0.7, **settings):
            assert isinstance(error, attack.error)
            assert re.search(attack.message, str(error)), error
        with yard.peer(attack.role, keys=keys, source=source, SNDTIMEO=0) as peer:
            with suppress(zmq.Again):  # if it is refused already, there is no connection to send on
                peer.hello(attack.role, attack.player_id)
            if attack.counter == "sessions_refused":
                code, reason = rejected(peer)
                assert code is RejectCode.UNAUTHORIZED and re.search(attack.message, reason)
                peer.wait_for_close()
            else:
                assert peer.wait_for(*HANDSHAKE_FAILURES)
                assert not peer.socket.poll(0)
    assert yard.counters()["sessions_begun"] == begun


@pytest.mark.parametrize("role", [PLAYER, OPERATOR])
def test_control_the_right_key_lets_in(role: Role, yard: Yard) -> None:
    """A second player and a second operator join. For servers, the yard's own server is the control."""
    yard.works(role, yard.ann if role is PLAYER else yard.second, 7 if role is PLAYER else None)
    eventually(lambda: yard.server.players == ["canary"], "the server knows that all others have left")
    assert yard.server.connected


def test_a_player_that_names_no_id_gets_the_first_of_its_key(yard: Yard) -> None:
    with yard.control(), Player(yard.broker.players, key_file=yard.ann) as player:
        assert player.player_id == 7


def test_an_impostor_gets_no_hello_and_no_token(yard: Yard) -> None:
    """A socket listens on the broker's address without the broker's key. No HELLO and no token reaches it."""
    for secure in (False, True):
        context: zmq.Context[Any] = zmq.Context()
        impostor = context.socket(zmq.ROUTER)
        if secure:
            impostor.setsockopt(zmq.CURVE_SERVER, 1)
            impostor.setsockopt(zmq.CURVE_SECRETKEY, stray(yard).secret.encode())
        port = impostor.bind_to_random_port("tcp://127.0.0.1")
        address = f"tcp://127.0.0.1:{port}"
        said = "is the broker's public key right" if secure else "does not encrypt|public key right"
        token = yard.vault.keep("a-token-that-is-only-for-the-broker")
        for settings in ({"key_file": yard.ann}, {"broker_key": yard.vault.broker.public, "token": token}):
            for error in refusals(PLAYER, address, connect_timeout=0.5, **settings):
                assert re.search(said, str(error)), error
        assert not impostor.poll(0)
        impostor.close(0)
        context.term()


# -- revoked


def test_a_key_that_was_revoked_before(yard: Yard) -> None:
    gone = yard.vault.pair("gone", "player", 66)
    yard.vault.write()
    yard.sees("the access list was reloaded")
    yard.works(PLAYER, gone, 66)
    yard.vault.revoke("gone")
    yard.sees("the access list was reloaded")
    with yard.attack(
        f"refused SOURCE UNAUTHORIZED: key {re.escape(gone.public)}", handshakes_refused=3
    ) as source:
        for error in refusals(PLAYER, yard.broker.players, key_file=gone):
            assert isinstance(error, Unauthorized) and re.search(NOT_ALLOWED, str(error))
        with yard.peer(PLAYER, keys=gone, source=source) as peer:
            assert peer.wait_for(*HANDSHAKE_FAILURES) == zmq.EVENT_HANDSHAKE_FAILED_AUTH


def test_a_key_that_is_revoked_while_connected(yard: Yard) -> None:
    """The command revokes it. The sessions of a raw peer and of the SDK end within two seconds."""
    twins = [yard.vault.pair(f"twin{number}", "player", 70 + number) for number in (1, 2)]
    yard.vault.write()
    yard.sees("the access list was reloaded")
    told: SimpleQueue[str] = SimpleQueue()
    access = str(yard.vault.access)
    with (
        yard.attack("left player 71 .*REVOKED", "left player 72 .*REVOKED", sessions_revoked=2) as source,
        Player(yard.broker.players, key_file=twins[0]) as player,
        yard.peer(PLAYER, keys=twins[1], source=source) as peer,
    ):
        player.on_disconnected(told.put)
        peer.join(PLAYER)
        for twin in twins:
            run_cli("keys", "revoke", twin.name, "--access", access)
        began = time.monotonic()
        code, reason = rejected(peer)
        assert (code, reason) == (RejectCode.REVOKED, "the access list no longer admits 'twin2'")
        peer.wait_for_close()
        assert told.get(timeout=PATIENCE_S) == "REVOKED: the access list no longer admits 'twin1'"
        assert time.monotonic() - began < 2.0 + CLOSING_S
        eventually(lambda: yard.server.players == ["canary"], "the server knows it")
        call = player.trigger_server_callback("echo", 1)
        assert call.error.code_name == "CONNECTION_LOST" and call.error.executed == "no"
    for twin in twins:
        del yard.vault._entries[twin.name]


def test_a_key_whose_id_or_role_is_taken_away_while_connected(yard: Yard) -> None:
    """The key stays on the list, with another ID."""
    pair = yard.vault.pair("double", "player", 81, 82)
    yard.vault.write()
    yard.sees("the access list was reloaded")
    with yard.attack(sessions_revoked=1), yard.peer(PLAYER, keys=pair) as peer:
        peer.join(PLAYER, 82)
        yard.vault.write(yard.vault.text.replace("81, 82", "81"))
        assert rejected(peer)[0] is RejectCode.REVOKED
    yard.vault.revoke("double")
    yard.sees("the access list was reloaded")


def test_a_session_of_the_same_player_takes_the_place_of_the_older(yard: Yard) -> None:
    """The older endpoint gets REPLACED, does not connect again, and does not disturb the new one."""
    told: SimpleQueue[str] = SimpleQueue()
    with (
        yard.attack("left player 7 .*REPLACED", sessions_replaced=1),
        Player(yard.broker.players, key_file=yard.ann) as old,
    ):
        old.on_disconnected(told.put)
        with Player(yard.broker.players, key_file=yard.ann) as new:
            assert told.get(timeout=PATIENCE_S).startswith(
                "REPLACED: the same player joined again from 127.0.0.1"
            )
            replaced = yard.counters()["sessions_replaced"]
            for _ in range(200):  # a comeback would take 50 ms
                assert new.trigger_server_callback("echo", 1).result() == 1
                old.trigger_server_callback("echo", 1).error  # noqa: B018
            assert not old.connected and new.connected
            assert yard.counters()["sessions_replaced"] == replaced
    assert any("does not connect again until you start it" in line for line in yard.sdk_log)


# -- overheard


class Tap:
    """A TCP relay to an address. It records the bytes of the client."""

    def __init__(self, address: str) -> None:
        self._target = host_and_port(address)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heard = b""
        self._thread = threading.Thread(target=self._relay)

    def _relay(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(self._target) as broker:
            downwards = threading.Thread(target=self._pump, args=(broker, client))
            downwards.start()
            with suppress(OSError):
                while data := client.recv(65536):
                    self.heard += data
                    broker.sendall(data)
                broker.shutdown(socket.SHUT_RDWR)
            downwards.join(PATIENCE_S)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE_S)
        self._listener.close()


def test_recorded_bytes_are_of_no_use(yard: Yard) -> None:
    """The bytes of a session, HELLO included, are sent again. They begin no session, and nobody can read the
    names in them."""
    secret = "where-the-treasure-is"
    with Tap(yard.broker.players) as tap, Player(tap.address, key_file=yard.ann) as player:
        assert player.trigger_server_callback("echo", secret).result() == secret
    for word in (secret.encode(), b"echo", b"player"):
        assert word not in tap.heard
    begun = yard.counters()["sessions_begun"]
    with yard.attack("refused SOURCE no HELLO", handshakes_failed=1) as source:
        for pieces in ((tap.heard,), (tap.heard[:64], tap.heard[64:])):
            with socket.create_connection(
                host_and_port(yard.broker.players), PATIENCE_S, (source, 0)
            ) as thief:
                with suppress(OSError):  # closed in the middle of it
                    for piece in pieces:
                        thief.sendall(piece)
                closed_by_broker(thief)
    assert yard.counters()["sessions_begun"] == begun


def test_a_hello_in_the_name_of_another_player(yard: Yard) -> None:
    """A player with a key of its own sends the HELLO that another player would send."""
    why = "'ann' may not be player 'canary'"
    with (
        yard.attack(f"refused SOURCE UNAUTHORIZED: {why}", sessions_refused=1) as source,
        yard.peer(PLAYER, keys=yard.ann, source=source) as peer,
    ):
        peer.send(encode(control.Hello(PLAYER, "canary", ("a",), "ringback-python/0.1.0", 1000)))
        assert rejected(peer) == (RejectCode.UNAUTHORIZED, why)
        peer.wait_for_close()


# -- logs


def test_a_peer_cannot_forge_a_line_of_the_log(yard: Yard) -> None:
    """Each line of the log begins with a time that the broker wrote, and has no control characters."""
    forged = "2026-01-01 00:00:00,000 INFO ringback.broker joined the admin"
    evil = f"x\n{forged}\r\x1b[2J\u2028\u202e"
    log = "refused SOURCE UNAUTHORIZED: 'ann' may not be player", "joined player 7", "left player 7"
    with yard.attack(*log, sessions_refused=2) as source:
        for fields in ({"player_id": evil[:60]}, {"sdk": evil, "player_id": 8}):
            with yard.peer(PLAYER, keys=yard.ann, source=source) as peer:
                peer.hello(PLAYER, **fields)
                assert rejected(peer)[0] is RejectCode.UNAUTHORIZED
        with yard.peer(PLAYER, keys=yard.ann, source=source) as peer:
            peer.join(PLAYER, sdk=evil)
            peer.send(b"\xff" * 20)
            rejected(peer)
    lines = yard.broker.process.lines
    form = r"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ ringback\.\w+ "
    assert not [line for line in lines if line.startswith(forged) or not line.isprintable()]
    assert not [line for line in lines if not re.match(form, line)]
