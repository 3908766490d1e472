"""The walk through one session in docs/protocol.md: read its bytes, and play them with a real broker.

    python tests/interop/walk.py        print the walk anew, with what a broker sends now

A message is a line `SENDER > RECEIVER: what it is`, and then its parts in hex, a line each. `(empty)` is an
empty part. The one thing that differs from broker to broker is the number in a WELCOME: the page has 0 there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import zmq

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.faces import HereBroker

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
WITHIN_MS = 30_000

BROKER_ID = re.compile(b"(?<=\xa9broker_id\xcf).{8}", re.S)
"""The number of the broker in a WELCOME. msgpack takes 8 bytes for almost every number of 64 bits."""


class Message(NamedTuple):
    """One message of the walk."""

    sender: str
    receiver: str
    title: str
    lines: list[str]

    @property
    def parts(self) -> list[bytes]:
        return [b"" if line == "(empty)" else bytes.fromhex(line) for line in self.lines]


def messages() -> list[Message]:
    """Return the messages of the page, in order."""
    [walk] = re.findall(r"^```walk\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    found = []
    for line in walk.splitlines():
        if head := re.fullmatch(r"(\w+) > (\w+): (.*)", line):
            found.append(Message(*head.groups(), []))  # type: ignore[arg-type]
        elif line:
            found[-1].lines.append(line.strip())
    return found


def as_on_page(part: bytes) -> str:
    """Return a part that came in hex, with 0 for the number of the broker."""
    return BROKER_ID.sub(bytes(8), part).hex(" ")


def play(take: Callable[[Message, list[bytes]], None]) -> None:
    """Send what the server and the player of the walk send. Give `take` each message and what really came."""
    with HereBroker() as here, zmq.Context() as context:
        sockets = {}
        for name, address in (("server", here.backend), ("player", here.players)):
            socket = sockets[name] = context.socket(zmq.DEALER)
            socket.setsockopt(zmq.ROUTING_ID, name.encode().ljust(16, b"."))
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address)
        try:
            for message in messages():
                if message.sender in sockets:
                    sockets[message.sender].send_multipart(message.parts)
                    continue
                socket = sockets[message.receiver]
                assert socket.poll(WITHIN_MS), f"nothing came: {message}"
                take(message, socket.recv_multipart())
        finally:
            for socket in sockets.values():
                socket.close()


def main() -> None:
    came: list[list[bytes]] = []
    play(lambda message, parts: came.append(parts))
    for message in messages():
        parts = message.parts if message.sender in ("server", "player") else came.pop(0)
        print(f"\n{message.sender} > {message.receiver}: {message.title}")
        for part in parts:
            print("  " + (as_on_page(part) if part else "(empty)"))


if __name__ == "__main__":
    main()
