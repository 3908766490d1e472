"""One program of a user runs on both faces, on any loop, and on a system that lacks what only Unix has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.faces import HereBroker
from support.harness import ENVIRONMENT, PATIENCE_S, ROOT
from support.loops import LOOPS

from ringback import Server, credentials, systems
from ringback_cli.exits import Exit

PROGRAM = str(ROOT / "tests" / "sdk" / "user_program.py")
COMMANDS = str(ROOT / "cli" / "ringback_cli" / "__main__.py")
BARE_SYSTEM = str(ROOT / "tests" / "support" / "bare_system.py")

PRINTED = """\
everybody is here: True [1, 2, 'carol']
items: {'lamp': 10, 'clock': 25}
1 bids 20: lamp for 20
2 bids 15: 15 is too low
2 bids 35: taken back
carol bids for a boat: NO_ITEM (yes) ['clock', 'lamp']
carol bids often: 19 is too low
a player sells: FORBIDDEN (no) None
the operator sells: ('lamp', 20, 1)
appraised: 50
appraised again: RATE_LIMITED True
all purses: [('1', 40), ('2', 30), ('carol', 100)]
no purse: ['nobody']
a callback ran: True
from a thread: later, a result
too late: TIMEOUT
cancelled: CANCELLED
nobody: UNKNOWN_PLAYER (no) None
the broker knows: ['1', '2', 'carol']
a large payload: 300007
connected at the end: False False
"""

KEY_FILES = """
import sys
from pathlib import Path
from ringback import credentials, tokens

folder = sys.argv[1]
pair = credentials.new_key_pair("anna", "player", (7,))
assert credentials.load_key_pair(credentials.write_key_pair(pair, folder)) == pair
key = tokens.new_token_key("backend")
assert tokens.load_token_key(tokens.save_token_key(key, folder)) == key
print(*sorted(oct(path.stat().st_mode & 0o777) for path in Path(folder).glob("*.key")))
"""


def run(*arguments: str) -> str:
    """Run a program, with warnings as errors, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("face", ["blocking", "anyio", *LOOPS])
def test_the_program(face: str, here: HereBroker) -> None:
    assert run(PROGRAM, face, here.players, here.backend) == PRINTED


@pytest.mark.parametrize("face", ["blocking", "no readers"])
def test_the_program_on_a_bare_system(face: str, here: HereBroker) -> None:
    assert run(BARE_SYSTEM, PROGRAM, face, here.players, here.backend) == PRINTED


def test_commands_on_a_bare_system(here: HereBroker) -> None:
    """The commands that talk to a broker run there. The broker needs Unix."""
    at_broker = ("--backend", here.backend)
    with Server(here.backend) as server:
        server.register_server_callback("echo", lambda source, payload: [source, payload])
        called = run(BARE_SYSTEM, COMMANDS, "trigger", "server", "echo", "5", "--source", "7", *at_broker)
        assert called == "[7, 5]\n"
        assert run(BARE_SYSTEM, COMMANDS, "callbacks", *at_broker).startswith("key ")
    done = subprocess.run(
        [sys.executable, BARE_SYSTEM, COMMANDS, "broker"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == Exit.FAILED
    assert done.stderr == "FAILED: this command needs Linux or another Unix: this system has no fcntl\n"


def test_key_files_on_a_bare_system(tmp_path: Path) -> None:
    script, folder = tmp_path / "keys.py", tmp_path / "keys"
    script.write_text(KEY_FILES)
    folder.mkdir()
    assert run(BARE_SYSTEM, str(script), str(folder)) == "0o600 0o600\n"


def test_modes_say_nothing_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = credentials.write_key_pair(credentials.new_key_pair("anna", "player"), tmp_path)
    path.chmod(0o666)
    with pytest.raises(credentials.KeyFileError, match="other users may read this file"):
        credentials.load_key_pair(path)
    monkeypatch.setattr(systems, "os", SimpleNamespace(name="nt"))
    assert credentials.load_key_pair(path).name == "anna"
