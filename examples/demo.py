"""Show callbacks both ways, between a broker process, a server process with a small shop, and three players.

    make demo

Each line that a process prints is shown, with the name of the process. Each step says which lines must come.
If they do not come, the demo ends with a non-zero exit code.
"""

import os
import re
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue

HERE = Path(__file__).parent
PATIENCE_S = 30.0
_printing = threading.Lock()


class Actor:
    """A process that takes commands on its standard input, a line each, and prints what it does."""

    def __init__(self, stack: ExitStack, name: str, *arguments: str) -> None:
        self.name = name
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("RINGBACK_")},
        )
        stack.callback(self.end)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = re.sub(r"^\d{4}-\S+ \S+ (INFO|WARNING) ringback\.\w+ ", "", line.rstrip())
            show(f"  {self.name:>8} | {text}")
            self._lines.put(text)

    def do(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def expect(self, *patterns: str) -> re.Match[str]:
        """Wait for a line that matches each pattern, in any order. Other lines are only shown."""
        wanted = list(patterns)
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE_S)
            except Empty:
                sys.exit(f"UNEXPECTED: {self.name} did not print {wanted}")
            for pattern in wanted:
                if match := re.fullmatch(pattern, line):
                    wanted.remove(pattern)
                    if not wanted:
                        return match
                    break

    def kill(self) -> None:
        self._process.kill()

    def leave(self) -> None:
        """Let the process leave the broker and end, as it does when nobody has commands for it any more."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(PATIENCE_S)
        if code != 0:
            sys.exit(f"UNEXPECTED: the exit code of {self.name} is {code}")

    def end(self) -> int:
        """Ask the process to end, and return its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def show(text: str) -> None:
    """Print a whole line. Each process has a thread here that prints for it."""
    with _printing:
        print(text, flush=True)


def say(text: str) -> None:
    show(f"\n{text}")


def play(stack: ExitStack) -> None:
    say("A broker, as `ringback broker` starts it, on free ports.")
    broker = Actor(
        stack,
        "broker",
        "-m",
        "ringback_cli",
        "broker",
        "--players=tcp://127.0.0.1:0",
        "--backend=tcp://127.0.0.1:0",
    )
    players, backend = broker.expect(r"ready players=(\S+) backend=(\S+) pid=\d+").groups()

    say("A server with a shop connects to the broker, and then three players do.")
    server = Actor(stack, "server", str(HERE / "shop_server.py"), backend)
    server.expect("the shop is open")
    actors = {}
    for number in (7, 8, 9):
        actors[number] = Actor(stack, f"player {number}", str(HERE / "shop_player.py"), players, str(number))
        actors[number].expect(f"plays as {number}")
        server.expect(f"player {number} joined")

    say("Player 7 triggers a server callback.")
    actors[7].do("items food")
    actors[7].expect(r"shop:items returned \{'apple': 3, 'bread': 5\}")

    say("Player 8 buys something. Before the server replies, it asks player 8 to confirm the price.")
    actors[8].do("buy tools rope")
    actors[8].expect("confirms a price of 12")
    actors[8].expect(r"shop:buy returned \{'bought': 'rope', 'purse': 8\}")

    say("Player 8 cannot pay for a second one. The server raises an error of its own, with a code.")
    actors[8].do("buy tools rope")
    actors[8].expect(r"shop:buy: TOO_POOR: it costs 12, you have 8 \(executed: yes\)")

    say("The server triggers a client callback on player 7, and then on all players.")
    server.do("ask 7 local:coords")
    server.expect(r"player 7 replied \{'x': 7.0, 'y': 2.0\}")
    server.do("ask-all local:coords")
    server.expect(r"all replied \{7: \{'x': 7.0, .*8: \{'x': 8.0, .*9: \{'x': 9.0, 'y': 2.0\}\}")

    say("Player 7 triggers a key that nobody has registered. The call fails at once, and no handler ran.")
    actors[7].do("call shop:steal")
    actors[7].expect(r"shop:steal: UNKNOWN_CALLBACK: .* \(executed: no\)")

    say("The server asks a player that is not connected. The call fails at once, too.")
    server.do("ask 99 local:coords")
    server.expect(r"player 99: UNKNOWN_PLAYER: .* \(executed: no\)")

    say("The server asks player 9, which is killed (SIGKILL) before it replies. The call fails at once, too.")
    server.do("ask 9 duel:accept")
    actors[9].expect("thinks about the duel, and never replies")
    actors[9].kill()
    server.expect(r"player 9: PLAYER_LEFT: .* \(executed: maybe\)", "player 9 left")

    say("The other players play on.")
    actors[7].do("items tools")
    actors[7].expect(r"shop:items returned \{'rope': 12, 'lamp': 30\}")

    say("The players leave, and then the server does.")
    for number in (7, 8):
        actors[number].leave()
        server.expect(f"player {number} left")
    server.leave()
    broker.expect(r"left server \S+ \(it said BYE\)")

    say("The broker gets SIGTERM. It stops, and its exit code is 0.")
    code = broker.end()
    if code != 0:
        sys.exit(f"UNEXPECTED: the broker's exit code is {code}")


def main() -> None:
    with ExitStack() as stack:
        play(stack)
        say("Everything happened as expected.")


if len(sys.argv) > 1:
    sys.exit("usage: python examples/demo.py")
main()
