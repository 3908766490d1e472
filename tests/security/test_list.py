"""A broken access list: nobody new joins with it, and no session ends."""

from __future__ import annotations

import os
import re
import resource
import signal
from pathlib import Path

import pytest
from security.yard import HANDSHAKE_FAILURES, Vault, Yard, refusals, rejected
from support.harness import Process

from ringback.errors import RejectCode, Unauthorized
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


def test_a_list_that_could_not_be_read_is_read_again(yard: Yard) -> None:
    """The broker has no descriptor left while a key is revoked. It revokes the key once it has one again."""
    process, brief = yard.broker.process, yard.vault.pair("brief", "player", 81)
    yard.vault.write()
    yard.sees("the access list was reloaded: 6 keys")
    pid, told = process.popen.pid, len(process.lines)
    with yard.peer(PLAYER, keys=brief) as peer:
        peer.join(PLAYER)
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
        free = next(number for number in range(limits[0]) if number not in taken)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, limits[1]))
        yard.vault.revoke("brief")
        yard.sees("ERROR ringback.broker the access list was not reloaded, .*: Too many open files")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        yard.sees("INFO ringback.broker the access list was reloaded: 5 keys")
        assert rejected(peer)[0] is RejectCode.REVOKED
    errors = [line for line in process.lines[told:] if "the access list was not reloaded" in line]
    assert len(errors) == 1  # not one for each attempt


def test_a_list_whose_time_and_size_stay_the_same_is_read_again(yard: Yard) -> None:
    """A program that copies files may keep both."""
    path, moved = yard.vault.access, yard.vault.pair("moved", "player", 82)
    yard.vault.write()
    yard.sees("the access list was reloaded: 6 keys")
    with yard.peer(PLAYER, keys=moved) as peer:
        peer.join(PLAYER)
        before, new = path.stat(), yard.vault.text.replace("[82]", "[83]")
        with path.open("r+") as file:
            file.write(new)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_size == before.st_size
        yard.sees("INFO ringback.broker the access list was reloaded: 6 keys")
        assert rejected(peer)[0] is RejectCode.REVOKED
    yard.vault.revoke("moved")
    yard.sees("the access list was reloaded: 5 keys")


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
