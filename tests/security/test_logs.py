"""No log has a secret or a token: neither the broker's, nor the SDK's, nor a command's."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from security.yard import Vault, Yard, check_logs, refusals, rejected
from support.harness import Process

from ringback import Player
from ringback.credentials import KeyFileError, load_key_pair, new_ephemeral_pair
from ringback.protocol.frames import Role
from ringback.tokens import save_token_key

PLAYER = Role.PLAYER


def test_no_secret_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A broker logs at DEBUG while secrets are used: joining, refusals, reloads of the access list.

    One reload fails, because a whole key file was written into the list. The logs of the yards of the other
    files are checked in the same way when they end.
    """
    caplog.set_level(logging.DEBUG)
    vault = Vault(tmp_path)
    mint = vault.token_key("mint")
    forged = vault.token(vault.token_key("mint", listed=False), 5)
    good, bound = vault.token(mint, 5), vault.token(mint, 5, allowed_keys=[vault.broker.public])
    with Yard(vault, {}) as yard:
        broker_key = vault.broker.public
        for token in (forged, bound, good[:-10] + "A" * 10, "A" + good):
            for error in refusals(PLAYER, yard.broker.players, token=token, broker_key=broker_key):
                check_logs([str(error), repr(error)], vault.secrets)
            with yard.peer(PLAYER, keys=new_ephemeral_pair(broker_key)) as peer:
                peer.hello(PLAYER, token=token, sdk="x")
                rejected(peer)
        with Player(yard.broker.players, token=good, broker_key=broker_key) as player:
            check_logs([repr(player), repr(vars(player)["_options"])], vault.secrets)
            vault.write(vault.text + (tmp_path / "broker.key").read_text())
            yard.sees("the access list was not reloaded")
            vault.write(vault.text.replace("public", "secret"))
            yard.sees("the access list was not reloaded")
            vault.revoke("mint")
            yard.sees("left player 5 .*REVOKED")
    check_logs(caplog.text.splitlines(), vault.secrets)


def test_no_error_about_a_key_file_shows_the_secret(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    path = vault.broker_file
    text = path.read_text()
    for number, wrong in enumerate(
        (
            text.replace("secret", "secrets"),
            text + "x",
            text.replace(vault.broker.public, "y" * 40),
            text[:-3],
        )
    ):
        bad = tmp_path / f"bad{number}.key"
        bad.touch(0o600)
        bad.write_text(wrong)
        with pytest.raises(KeyFileError) as caught:
            load_key_pair(bad)
        check_logs([str(caught.value), repr(caught.value)], vault.secrets)
        vault.write()
        options = ("--key-file", str(bad), "--access", str(vault.access))
        with Process("-m", "ringback_cli", "broker", *options) as process:
            assert process.wait() == 2
            check_logs(process.output(), vault.secrets)


def test_only_the_owner_may_read_files_with_secrets(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    token_file = save_token_key(vault.token_key("mint"), tmp_path)
    for path in (vault.broker_file, token_file):
        assert path.stat().st_mode & 0o777 == 0o600
    vault.broker_file.chmod(0o640)
    with pytest.raises(
        KeyFileError, match=f"other users may read this file: run chmod 600 {vault.broker_file}"
    ):
        load_key_pair(vault.broker_file)
    public = (tmp_path / "broker.pub").read_text()
    assert vault.broker.secret not in public and "secret" not in public
