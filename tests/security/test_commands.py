"""Run the commands and snippets of docs/security.md, one after the other in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.harness import ENVIRONMENT, PATIENCE_S, READY, ROOT, Process

import ringback
from ringback.credentials import read_key_file
from ringback_broker.admission.access_list import AccessList

DOCUMENT = (ROOT / "docs" / "security.md").read_text()
SNIPPETS = re.findall(r"```(sh|python|toml)\n(.*?)```", DOCUMENT, re.S)


def test_the_snippets_of_the_document(tmp_path: Path, monkeypatch: Any) -> None:
    kinds = [kind for kind, _ in SNIPPETS]
    assert kinds == ["sh", "sh", "python", "sh", "python", "sh", "python", "toml", "sh", "sh"]
    monkeypatch.chdir(tmp_path)
    command = tmp_path / "ringback"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ringback_cli "$@"\n')
    command.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    names: dict[str, Any] = {"__name__": "security"}
    addresses: dict[str, str] = {}
    broker_key: str | None = None
    with ExitStack() as stack:
        for kind, text in SNIPPETS:
            if kind == "toml":
                assert len(AccessList.parse(text)) == 1
            elif text.startswith("ringback broker "):
                any_port = [
                    *text.split()[2:],
                    "--players",
                    "tcp://127.0.0.1:0",
                    "--backend",
                    "tcp://127.0.0.1:0",
                ]
                broker = stack.enter_context(Process("-m", "ringback_cli", "broker", *any_port))
                players, backend = broker.wait_for(READY.pattern).groups()
                addresses |= {"tcp://127.0.0.1:5770": players, "tcp://127.0.0.1:5771": backend}
                environment |= {"RINGBACK_PLAYERS": players, "RINGBACK_BACKEND": backend}
            elif kind == "sh":
                if broker_key is not None:  # an earlier snippet has exported it
                    environment["RINGBACK_BROKER_KEY"] = broker_key
                subprocess.run(["sh", "-ec", text], env=environment, check=True, timeout=PATIENCE_S)
                broker_key = read_key_file(tmp_path / "broker.pub")["public"]
                if "mint" in text:
                    broker.wait_for("the access list was reloaded: 4 keys")
            else:
                for given, real in addresses.items():
                    text = text.replace(given, real)
                names["BROKER_KEY"] = broker_key
                exec(compile(text, "security.md", "exec"), names)
        broker.wait_for("the access list was reloaded: 4 keys")  # anna-2 instead of anna
        player = ringback.Player(players, key_file="anna-2.key")
        with player:
            assert player.player_id == 7
        assert read_key_file(tmp_path / "anna.key")["broker"] == broker_key
