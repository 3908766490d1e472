"""One program of a user runs on both faces, on any loop, and on a system that lacks what only Unix has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import every_command
from support.faces import HereBroker
from support.harness import ENVIRONMENT, PATIENCE_S, ROOT
from support.loops import LOOPS

from ringback import Player, Server, credentials, systems
from ringback_cli.exits import Exit

PROGRAM = str(ROOT / "tests" / "sdk" / "user_program.py")
EVERY_COMMAND = str(ROOT / "tests" / "support" / "every_command.py")
BARE_SYSTEM = str(ROOT / "tests" / "support" / "bare_system.py")

PRINTED = """\
no house yet: NO_SERVER (no) None
tried again: ['the old house', {'lamp': 10, 'clock': 25}]
everybody is here: True ['1', '2', 'carol']
1 bids 20: lamp for 20
2 bids 15: 15 is too low
2 bids 35: taken back
carol bids for a boat: NO_ITEM (yes) ['clock', 'lamp']
carol bids much: INVALID_PAYLOAD (no) {'path': '$.price'}
a player sells: FORBIDDEN (no) None
the operator sells: ('lamp', 20, 1)
appraised: 50
appraised again: RATE_LIMITED (no) {'retry_after'
nothing there: UNKNOWN_CALLBACK (no) None
all purses: [('1', 40), ('2', 30), ('carol', 100)]
no purse: ['nobody']
nobody: UNKNOWN_PLAYER (no) None
no room: OVERLOADED (no) None
cancelled: [True, True, True, True]
there is room: 50
there was room: 50
a callback ran: True ('came', 'later, a callback, True')
it failed: True ('failed', 'UNKNOWN_CALLBACK')
not yet: False False False
taken back: True True True CANCELLED
too late: TIMEOUT
progress: True [1, 2, 3, ('result', 'all pages')]
progress in a loop: [1, 2, 3] all pages
a large payload: 300013
who acts: True False
it has begun: True
it was finished: by the old house
items: ['the new house', {'clock': 25}] True
everybody is here: True
carol has left: True ['1', '2']
the broker knows: ['1', '2']
connected at the end: False False False
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


PLUGIN = """
import ringback.testing.plugin
from ringback import UsageError
from ringback.testing import LocalBroker

try:
    LocalBroker(proxied=True).__enter__()
except UsageError as error:
    print(error)
"""


def run(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run a program, with warnings as errors, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**ENVIRONMENT, **(environment or {})},
        stdin=subprocess.DEVNULL,
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


def test_each_command_on_a_bare_system(here: HereBroker, tmp_path: Path) -> None:
    """The commands that talk to a broker run there. The broker needs Unix."""
    assert set(every_command.EVERY) == set(every_command.names())
    with Server(here.backend) as server, Player(here.players, 7) as player:
        server.register_server_callback("echo", lambda source, payload: [source, payload])
        player.register_client_callback("where", lambda payload: payload)
        addresses = {"RINGBACK_BACKEND": here.backend, "RINGBACK_PLAYERS": here.players}
        ended = json.loads(run(BARE_SYSTEM, EVERY_COMMAND, str(tmp_path), environment=addresses))
    assert {command: end for command, end in ended.items() if end != [Exit.OK, ""]} == {
        "broker": [
            Exit.FAILED,
            "FAILED: this command needs Linux or another Unix: this system has no fcntl\n",
        ],
        "bench": [
            Exit.FAILED,
            "FAILED: this command needs Linux: it asks for the processor time of processes\n",
        ],
        "tap": [Exit.TIMEOUT, "TIMEOUT: 0 of 1 calls ended before the time was over\n"],
        "token show": [Exit.USAGE, "USAGE: standard input: this is not a token\n"],
        "realm create": [Exit.REALM_FAILED, "REALM_FAILED: nats://127.0.0.1:1: Connection refused\n"],
        "nodes drain": [
            Exit.UNKNOWN_NODE,
            "UNKNOWN_NODE: there is no node 'nowhere': this broker is alone\n",
        ],
        "kick": [
            Exit.UNKNOWN_PLAYER,
            "UNKNOWN_PLAYER: no such player is connected\nhint: `ringback players` prints who is connected\n",
        ],
        "hand-over": [
            Exit.NO_SERVER,
            "NO_SERVER: no server stands by, or the one that acts is too old to hand over; "
            "start one with standby=True first\n",
        ],
    }


def test_the_plugin_on_a_bare_system(tmp_path: Path) -> None:
    """pytest loads it in every project there. Only a test that wants a broker fails, and says why."""
    script = tmp_path / "plugin.py"
    script.write_text(PLUGIN)
    printed = run(BARE_SYSTEM, str(script))
    assert printed == "the broker of a test needs Linux or another Unix: this system has no resource\n"


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
