"""A broken access list: nobody new joins with it, and no session ends."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from security.yard import HANDSHAKE_FAILURES, Vault, Yard, refusals
from support.harness import Process

from ringback.errors import Unauthorized
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import Role
from ringback_broker.admission.access_list import AccessError, AccessList
from ringback_cli.exits import Exit

PLAYER = Role.PLAYER

WRONG = {
    "empty table": "[[key]]\n",
    "not TOML": "key = [",
    "nested too deep": "key = " + "[" * 100_000,
    "an int of many digits": "key = " + "9" * 5000,
    "an int of many digits in hex": "audience = 0x" + "f" * 5000,
    "an unknown word": "keys = []",
    "key is not a list": "key = 1",
    "a token key without a name": "[[token_key]]\npublic = 'x'\n",
    "a token key whose name is not a str": "[[token_key]]\nname = 7\npublic = 'x'\n",
    "a token key that is not valid": "[[token_key]]\nname = 'x'\npublic = 'x'\n",
    "an empty audience": "audience = ''\n",
    "a text that looks like a log line": "a\n2026-01-01 INFO ringback.broker joined = 1",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_a_wrong_list_is_an_access_error(text: str) -> None:
    with pytest.raises(AccessError):
        AccessList.parse(text)


def test_a_wrong_list_changes_nothing(yard: Yard) -> None:
    """The broker finds each wrong list after SIGHUP, and the first one without. It logs an error, sessions go
    on, and the old list stays valid."""
    good = yard.vault.text
    stray = yard.vault.pair("stray", "player", 7, listed=False)
    process = yard.broker.process
    with yard.attack(handshakes_refused=2 * len(WRONG)), yard.peer(PLAYER, keys=yard.ann) as ann:
        ann.join(PLAYER)
        for number, text in enumerate((*WRONG.values(), "", "\xff")):
            if text == "\xff":
                yard.vault.access.write_bytes(b"\xff")
            elif text:
                yard.vault.write(text)
            else:
                yard.vault.access.unlink()
            if number:  # the broker finds the first one without a signal
                process.signal(signal.SIGHUP)
            yard.sees("ERROR ringback.broker the access list was not reloaded, and the old one stays valid: ")
            assert "\n" not in process.lines[-1] and process.lines[-1].isprintable()
            for _ in range(2):
                with yard.peer(PLAYER, keys=stray) as peer:
                    peer.wait_for(*HANDSHAKE_FAILURES)
            with yard.peer(Role.OPERATOR, keys=yard.second) as peer:
                peer.join(Role.OPERATOR)
            ann.send(encode(control.Ping(b"still here")))
            assert ann.told() == control.Pong(b"still here")
        yard.vault.write(good)
        yard.sees("INFO ringback.broker the access list was reloaded: 5 keys")
        ann.send(encode(control.Ping(b"still here")))
        assert ann.told() == control.Pong(b"still here")


@pytest.mark.parametrize("name", ["nested too deep", "an int of many digits", "a token key without a name"])
def test_a_broker_does_not_start_with_a_wrong_list(name: str, tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.write(WRONG[name])
    options = ("--key-file", str(vault.broker_file), "--access", str(vault.access))
    with Process("-m", "ringback_cli", "broker", *options) as process:
        assert process.wait() == Exit.USAGE
        [line] = process.output()
        assert line.startswith(f"USAGE: --access: {vault.access}: ")


def test_a_list_that_raises_refuses_the_key(tmp_path: Path) -> None:
    """If the check of a key raises, the key is refused and the broker lives."""
    vault = Vault(tmp_path)
    poison = vault.pair("poison", "player", 13)
    with Yard(vault, {}, poisoned=[poison.public]) as yard:
        log = f"refused SOURCE UNAUTHORIZED: key {re.escape(poison.public)} is not for the players"
        with yard.attack(
            "a public key could not be checked, so it was refused", log, handshakes_refused=3
        ) as source:
            for error in refusals(PLAYER, yard.broker.players, key_file=poison):
                assert isinstance(error, Unauthorized) and "this public key is not allowed" in str(error)
            with yard.peer(PLAYER, keys=poison, source=source) as peer:
                peer.wait_for(*HANDSHAKE_FAILURES)
        yard.works(PLAYER, yard.ann, 7)
