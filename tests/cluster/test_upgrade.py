"""The commands of docs/scale.md that upgrade a realm, with processes in the place of machines."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.harness import ENVIRONMENT, PATIENCE_S, ROOT, eventually
from support.nats_servers import free_ports
from support.realm_processes import RealmOfProcesses, outcome

from ringback import Player, Server
from ringback_cli.exits import Exit

PLAYERS = range(1, 7)
SETTINGS = "/etc/ringback/ringback.toml"
ALL_S = 120.0

SSH = """#!/bin/bash
export MACHINE="$1"
shift
exec "$@"
"""

SYSTEMCTL = """#!/bin/bash
[ "$1" = restart ] || exit 1
printf '%s\\n' "$MACHINE" > "$CONTROL/requests"
read -r reply < "$CONTROL/replies"
[ "$reply" = done ]
"""

CURL = f"""#!{sys.executable}
import os, sys, urllib.error, urllib.request
_, options, url = sys.argv
assert options == "-fsS"
url = url.replace("127.0.0.1:5772", os.environ["HTTP_" + os.environ["MACHINE"]])
try:
    print(urllib.request.urlopen(url, timeout=30).read().decode())
except urllib.error.URLError as error:
    sys.exit(str(error))
"""

RINGBACK = f"""#!/bin/bash
exec {sys.executable} -m ringback_cli "$@"
"""


def documented(marker: str) -> str:
    text = (ROOT / "docs" / "scale.md").read_text()
    [commands] = re.findall(rf"<!-- {marker} -->\n\n```sh\n(.*?)```", text, re.DOTALL)
    return str(commands)


class Machines:
    """Three nodes and three NATS servers, which commands reach as if they were machines.

    Attributes:
        restarted: the names of those that were restarted, in turn.
    """

    def __init__(self, realm: RealmOfProcesses, folder: Path) -> None:
        self._realm = realm
        self._folder = folder
        self.restarted: list[str] = []
        ports = dict(zip("abc", free_ports(3), strict=True))
        for name, port in ports.items():
            realm.start(name, "--http", f"127.0.0.1:{port}")
        self._environment = {
            **ENVIRONMENT,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "CONTROL": str(folder),
            **{f"HTTP_{name}": f"127.0.0.1:{port}" for name, port in ports.items()},
        }
        for program, text in (("ssh", SSH), ("systemctl", SYSTEMCTL), ("curl", CURL), ("ringback", RINGBACK)):
            (folder / program).write_text(text)
            (folder / program).chmod(0o755)
        for name in ("requests", "replies"):
            os.mkfifo(folder / name)
        lines = dict(zip(realm.options[::2], realm.options[1::2], strict=True))
        (folder / "ringback.toml").write_text(
            f'cluster = "{lines["--cluster"]}"\nnats_credentials = "{lines["--nats-credentials"]}"\n'
            'backend = "tcp://127.0.0.1:0"\n'
        )

    def run(self, commands: str) -> None:
        """Run commands, and do what they ask of the machines."""
        thread = threading.Thread(target=self._obey, daemon=True)
        thread.start()
        done = subprocess.run(
            ["bash", "-euc", commands.replace(SETTINGS, f"{self._folder}/ringback.toml")],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=ALL_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        thread.join(PATIENCE_S)

    def _obey(self) -> None:
        for _ in range(3):
            name = (self._folder / "requests").read_text().strip()  # a FIFO: this waits for a request
            self._restart(name)
            self.restarted.append(name)
            (self._folder / "replies").write_text("done\n")

    def _restart(self, name: str) -> None:
        if name in self._realm.brokers:
            process = self._realm.brokers[name].process
            process.signal(signal.SIGTERM)
            assert process.wait() == Exit.OK
            self._realm.restart(name)
            return
        [server] = [server for server in self._realm.servers if server.name == name]
        assert server.popen is not None
        server.popen.terminate()
        server.popen.wait(PATIENCE_S)
        server.kill()
        server.start()


class Load:
    """Calls of all players, one after the other in a thread."""

    def __init__(self, realm: RealmOfProcesses) -> None:
        self.outcomes: Counter[str] = Counter()
        self._stop = threading.Event()
        self._server = Server(realm.backends, connect_timeout=60)
        self._server.register_server_callback("echo", lambda source, payload: source)
        self._players = [Player(realm.players, number, connect_timeout=60) for number in PLAYERS]
        self._thread = threading.Thread(target=self._call)

    def _call(self) -> None:
        while not self._stop.is_set():
            for player in self._players:
                self.outcomes[str(self.call(player))] += 1

    def call(self, player: Player) -> object:
        found = outcome(lambda: player.trigger_server_callback("echo", timeout=20))
        return "OK" if found == player.player_id else found

    def all_work(self) -> bool:
        return all(self.call(player) == "OK" for player in self._players)

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._server:
            for player in self._players:
                player.start()
            eventually(self.all_work, "all calls work")
            self._thread.start()
            try:
                yield
            finally:
                self._stop.set()
                self._thread.join(PATIENCE_S)
                for player in self._players:
                    player.close()


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_the_documented_commands_upgrade_a_realm(tmp_path: Path) -> None:
    with RealmOfProcesses("", cluster=True, lease_s=15.0) as realm:
        machines = Machines(realm, tmp_path)
        load = Load(realm)
        with load.running():
            machines.run(documented("upgrade the nodes"))
            assert machines.restarted == ["a", "b", "c"]
            eventually(load.all_work, "all calls work again")
            machines.run(documented("upgrade NATS"))
            assert machines.restarted[3:] == ["n1", "n2", "n3"]
            eventually(load.all_work, "all calls work again")
        assert load.outcomes["OK"] > 0.5 * load.outcomes.total(), load.outcomes
        allowed = {"OK", "NO_SERVER", "SERVER_LOST", "CONNECTION_LOST", "DRAINING"}
        assert load.outcomes.keys() <= allowed, load.outcomes
