"""A fuzzer of ZMTP: it sends greetings, commands and messages over TCP to a running broker.

    python tests/fuzz/zmtp.py --seconds 60
    python tests/fuzz/zmtp.py --seed 7 --first 120 --connections 1     send the same bytes again

The seed and the number of a connection determine its bytes. Meanwhile a canary calls the server. A witness,
whose routing ID the connections know, must get a PONG for each PING. At the end the broker must still run,
with as many descriptors as before and little more memory.

ZMTP 3.1: https://rfc.zeromq.org/spec/37/
"""

from __future__ import annotations

import argparse
import random
import re
import secrets
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1])]

from support.harness import BrokerProcess, eventually
from support.rawpeers import RawPeer, Stage

from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.frames import HEADER, FrameType, Role, header
from ringback.protocol.limits import MAX_FRAME_BYTES, Limits
from ringback.protocol.player_ids import encode_player_id

WITNESS = b"W" + bytes(range(15))
"""A routing ID that other connections claim while its owner is connected."""

KEPT_OPEN = 48
"""How many connections stay open while others come."""

MORE, LONG, COMMAND = 1, 2, 4
MAX_GROWTH_KIB = 64 * 1024
SIGNATURE = b"\xff" + bytes(8) + b"\x7f"


# -- pieces of ZMTP


def greeting(mechanism: bytes = b"NULL", version: bytes = b"\x03\x01", as_server: int = 0) -> bytes:
    return SIGNATURE + version + mechanism.ljust(20, b"\0")[:20] + bytes((as_server,)) + bytes(31)


def frame(body: bytes, flags: int = 0, size: int | None = None) -> bytes:
    """Return a ZMTP frame. A given size may differ from that of the body."""
    size = len(body) if size is None else size
    if flags & LONG or size > 255:
        return struct.pack("!BQ", (flags | LONG) & 0xFF, size) + body
    return bytes((flags & 0xFF, size)) + body


def command(name: bytes, body: bytes = b"", flags: int = COMMAND) -> bytes:
    return frame(bytes((len(name),)) + name + body, flags)


def properties(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"".join(
        bytes((len(name),)) + name + struct.pack("!I", len(value)) + value for name, value in pairs
    )


_write = Encoder(Limits())
CONTROL = [
    encode(control.Hello(Role.PLAYER)),
    encode(control.Hello(Role.PLAYER, 7, ("a",), "fuzz", 1000)),
    encode(control.Hello(Role.PLAYER, "canary")),
    encode(control.Hello(Role.SERVER)),
    encode(control.Hello(Role.OPERATOR)),
    encode(control.Bye()),
    encode(control.Ping(b"x" * 64)),
    encode(control.Keys(("a", "b"))),
    encode(control.Query(1, control.Subject.PLAYERS)),
    encode(control.Query(2, control.Subject.COUNTERS)),
    encode(control.ServerDown()),
    encode(control.Pong(b"x")),
]
BODIES = [
    b"",
    b"\x90",
    b"\xc1",
    join([_write.call(1, "echo", None, 100)]),
    join([_write.call(2, "nobody has it", [1] * 50, None)]),
    join([_write.result(1, (1,)), _write.cancel(1)]),
    b"\xdd\xff\xff\xff\xff",
]
ADDRESSES = [b"", encode_player_id("canary"), encode_player_id(7), b"\xc1", b"\xa6canary\x00"]
MECHANISMS = [b"NULL", b"PLAIN", b"CURVE", b"GSSAPI", b"", b"null", b"NULL\0\0X", b"A" * 20, b"\xff" * 20]
SOCKETS = [b"DEALER", b"REQ", b"ROUTER", b"PUB", b"SUB", b"PAIR", b"dealer", b"", b"DEALER\0", b"X" * 300]


PAUSE = b""
"""This piece stands for waiting for the broker's part of the handshake. libzmq closes a connection if a
message comes before libzmq has sent its READY, so the code after the handshake would never run."""

HANDSHAKE_BYTES = 64 + 40
"""About the size of the broker's greeting and READY."""


class Script:
    """The bytes of one connection, piece by piece."""

    def __init__(self, rng: random.Random, side: Role) -> None:
        self.rng = rng
        self.side = side
        self.pieces: list[bytes] = []

    def some(self, most: int) -> bytes:
        return self.rng.randbytes(self.rng.randint(0, most))

    def rarely(self, times: int = 8) -> bool:
        return self.rng.randrange(times) == 0

    def write(self) -> list[bytes]:
        opening: Callable[[], None] = self.rng.choice(
            [self.handshake] * 12 + [self.odd_handshake] * 5 + [self.old, self.older, self.garbage]
        )
        opening()
        if self.rarely(3):
            self.mutate()
        return self.pieces

    def identity(self) -> bytes:
        """Return a routing ID to claim. IDs of other peers, and IDs like libzmq's own numbers, are rare."""
        if self.rarely(300):
            # libzmq never frees what comes over a connection that claims the ID of another one, some 11 KiB
            # each time. A few of these are enough to see that the other peer is not disturbed.
            return WITNESS if self.rarely(2) else b"same %d" % self.rng.randrange(3)
        match self.rng.randrange(24):
            case 2:
                return b""
            case 3:
                return b"\0" + self.rng.randbytes(4)
            case 4:
                return b"\0" * self.rng.choice((1, 5, 255))
            case 5:
                return self.rng.randbytes(self.rng.choice((1, 5, 255, 256, 1000)))
            case 6:
                return b"\0" + self.some(40)
        return b"F" + self.rng.randbytes(15)

    def handshake(self) -> None:
        """Write a valid handshake, and then messages that may be invalid."""
        self.pieces.append(greeting())
        self.pieces.append(
            command(b"READY", properties((b"Socket-Type", b"DEALER"), (b"Identity", self.identity())))
        )
        self.pieces.append(PAUSE)
        self.talk()

    def odd_handshake(self) -> None:
        rng = self.rng
        version = rng.choice((b"\x03\x00", b"\x03\x01", b"\x03\xff", b"\x02\x01", b"\xff\xff", b"\x00\x00"))
        self.pieces.append(greeting(rng.choice(MECHANISMS), version, rng.choice((0, 1, 255))))
        for _ in range(rng.randint(0, 3)):
            pairs = [(b"Socket-Type", rng.choice(SOCKETS)), (b"Identity", self.identity())]
            pairs += [(self.some(20), self.some(60)) for _ in range(rng.randrange(4))]
            rng.shuffle(pairs)
            body = properties(*(pair for pair in pairs if not self.rarely(6)))
            if self.rarely(4):  # a wrong length of a property
                body = body[:-4] + rng.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01"))
            name = rng.choice(
                (b"READY", b"READY", b"ERROR", b"HELLO", b"WELCOME", b"INITIATE", b"READ", self.some(12))
            )
            self.pieces.append(command(name, body, rng.choice((COMMAND, COMMAND, 0, COMMAND | MORE, 255))))
        if self.rarely(2):
            self.pieces.append(PAUSE)
            self.talk()

    def old(self) -> None:
        """Write ZMTP 2.0: a signature, a revision, a type of socket, and the routing ID as a frame."""
        self.pieces.append(SIGNATURE + b"\x01" + bytes((self.rng.choice((5, 3, 6, 1, 2, 0, 200)),)))
        self.pieces.append(frame(self.identity()[:255]))
        self.talk()

    def older(self) -> None:
        """Write ZMTP 1.0: no greeting, but a length, flags, and the routing ID."""
        for body in (self.identity()[:250], *(self.rng.choice(CONTROL) for _ in range(3))):
            self.pieces.append(bytes((len(body) + 1 & 0xFF, self.rng.choice((0, 0, 1, 255)))) + body)

    def garbage(self) -> None:
        self.pieces.append(
            self.rng.choice((b"", b"\xff", SIGNATURE, b"GET / HTTP/1.1\r\n\r\n")) + self.some(400)
        )

    # -- after the handshake

    def talk(self) -> None:
        if not self.rarely(4):
            hello = CONTROL[self.rng.choice((0, 0, 1)) if self.side is Role.PLAYER else 4]
            self.message([hello] if self.side is Role.PLAYER else [b"", hello])
        for _ in range(self.rng.randint(0, 12)):
            say: Callable[[], None] = self.rng.choice(
                [self.sound_message] * 4
                + [
                    self.odd_message,
                    self.lie,
                    self.heartbeat,
                    self.heartbeat,
                    self.subscription,
                    self.odd_command,
                ]
            )
            say()

    def message(self, parts: list[bytes]) -> None:
        for part in parts[:-1]:
            self.pieces.append(frame(part, MORE))
        self.pieces.append(frame(parts[-1]))

    def _frame(self) -> bytes:
        rng = self.rng
        match rng.randrange(4):
            case 0:
                return rng.choice(CONTROL)
            case 1:
                kind = rng.choice((FrameType.DATA, FrameType.RELAY))
                return header(kind, rng.choice((0, 1, 2, 3, 2**32 - 1))) + rng.choice(BODIES)
            case 2:
                fields = rng.choice((1, 0, 2)), rng.randrange(256), rng.choice((0, 1, 999)), rng.randrange(4)
                return HEADER.pack(*fields) + self.some(80)
        return self.some(40)

    def sound_message(self) -> None:
        """Write a message with the right number of parts."""
        sound = self._frame()
        self.message([sound] if self.side is Role.PLAYER else [self.rng.choice(ADDRESSES), sound])

    def odd_message(self) -> None:
        rng = self.rng
        count = rng.choice((1, 2, 3, 5, 70, 200))
        parts = [rng.choice((b"", b"x", self._frame())) for _ in range(count)]
        if self.rarely(30):
            parts[-1] = bytes(rng.choice((65_536, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1)))
        self.message(parts)
        if self.rarely(4):  # a message without a last part
            self.pieces.append(frame(b"more", MORE))

    def lie(self) -> None:
        """Write a frame with a wrong size, or with flags that do not exist."""
        rng = self.rng
        size = rng.choice((0, 1, 255, 256, 65_536, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, 2**31, 2**63 - 1))
        size = rng.choice((size, size, 2**63, 2**64 - 1))
        self.pieces.append(frame(self.some(60), rng.choice((0, MORE, LONG, COMMAND, 8, 0x80, 0xFF)), size))

    def heartbeat(self) -> None:
        rng = self.rng
        ttl = rng.choice((0, 1, 5, 100, 0xFFFF))
        context = rng.choice((b"", b"x" * 16, b"x" * 17, b"x" * 240, self.some(30)))
        body = struct.pack("!H", ttl) + context
        name = rng.choice((b"PING", b"PING", b"PONG", b"PIN", b"PINGS"))
        self.pieces.append(command(name, body[: rng.choice((len(body), len(body), 0, 1, 2))]))
        if self.rarely(10):
            self.pieces += [command(b"PING", body)] * 200

    def subscription(self) -> None:
        name = self.rng.choice((b"SUBSCRIBE", b"CANCEL", b"JOIN", b"LEAVE", b"DISCONNECT"))
        self.pieces.append(self.rng.choice((command(name, self.some(30)), frame(b"\1" + self.some(20)))))

    def odd_command(self) -> None:
        name = self.rng.choice((b"READY", b"ERROR", b"", self.some(20)))
        flags = self.rng.choice((COMMAND, COMMAND | MORE, COMMAND | LONG, 0xFF))
        whole = command(name, self.some(50), flags)
        self.pieces.append(whole if not self.rarely(4) else whole[:2] + b"\xff" + whole[3:])

    # -- mutations

    def mutate(self) -> None:
        """Change the bytes before the pause, or those after it."""
        if PAUSE not in self.pieces:
            self.pieces = self._mutated(self.pieces)
            return
        at = self.pieces.index(PAUSE)
        before, after = self.pieces[:at], self.pieces[at + 1 :]
        if self.rarely(4):
            before = self._mutated(before)
        else:
            after = self._mutated(after)
        self.pieces = [*before, PAUSE, *after]

    def _mutated(self, pieces: list[bytes]) -> list[bytes]:
        rng = self.rng
        raw = bytearray(b"".join(pieces))
        for _ in range(rng.randint(1, 4)):
            if not raw:
                break
            at = rng.randrange(len(raw))
            match rng.randrange(6):
                case 0:
                    raw[at] ^= 1 << rng.randrange(8)
                case 1:
                    raw[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 2:
                    del raw[at:]
                case 3:
                    del raw[at : at + rng.randint(1, 20)]
                case 4:
                    raw[at:at] = rng.randbytes(rng.randint(1, 20))
                case 5:
                    raw[at:at] = raw[max(0, at - 40) : at]
        # Split anywhere. Now and then, split a short one into single bytes.
        cuts = sorted({rng.randrange(len(raw) + 1) for _ in range(rng.choice((0, 1, 3, 20)))})
        if len(raw) < 100 and self.rarely(6):
            cuts = list(range(len(raw)))
        split = [bytes(raw[a:b]) for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        return [piece for piece in split if piece]


# -- sending


@dataclass
class Tally:
    seed: int
    first: int = 0
    connections: int = 0
    sent: int = 0
    reset_by_peer: int = 0

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.connections:,} connections and {self.sent:,} bytes sent, of them"
            f" {self.reset_by_peer:,} connections closed by the broker meanwhile"
        )


@dataclass
class Mutator:
    """Opens connections to a broker and sends scripts. Some connections stay open for a while."""

    broker: BrokerProcess
    tally: Tally
    _open: deque[tuple[socket.socket, str]] = field(default_factory=deque)

    def one(self) -> None:
        """Open the next connection, and close the oldest one if there are many."""
        tally = self.tally
        rng = random.Random(f"{tally.seed}:{tally.first + tally.connections}")
        side = rng.choice((Role.PLAYER, Role.PLAYER, Role.OPERATOR))
        end = rng.choice(("close", "close", "reset", "reset", "half", "at once", "reset at once"))
        pieces = Script(rng, side).write()
        address = self.broker.players if side is Role.PLAYER else self.broker.backend
        host, port = address.removeprefix("tcp://").split(":")
        tally.connections += 1
        # Many source IPs: all ports of a single one would soon be in TIME_WAIT.
        source = f"127.0.{rng.randrange(1, 250)}.{rng.randrange(1, 250)}"
        peer = socket.create_connection((host, int(port)), 10.0, (source, 0))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._say(peer, pieces)
        except (BrokenPipeError, ConnectionResetError):
            tally.reset_by_peer += 1
        if end == "half":
            with suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
        self._open.append((peer, end))
        if end.endswith("at once"):
            self._close(*self._open.pop())
        elif len(self._open) > KEPT_OPEN:
            self._close(*self._open.popleft())

    def _say(self, peer: socket.socket, pieces: list[bytes]) -> None:
        peer.setblocking(False)
        for piece in pieces:
            if piece == PAUSE:
                self._read_handshake(peer)
                continue
            # If the broker reads nothing for a second, it will not read the rest.
            while piece:
                if not select.select([], [peer], [], 1.0)[1]:
                    return
                sent = peer.send(piece)
                self.tally.sent += sent
                piece = piece[sent:]

    def _read_handshake(self, peer: socket.socket) -> None:
        """Wait for the broker's greeting and READY, but not long: the broker may have refused the bytes."""
        missing = HANDSHAKE_BYTES
        while missing > 0 and select.select([peer], [], [], 0.1)[0]:
            got = len(peer.recv(4096))
            if not got:
                return
            missing -= got

    def _close(self, peer: socket.socket, end: str) -> None:
        if end.startswith("reset"):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    def close(self) -> None:
        while self._open:
            self._close(*self._open.popleft())


class Witness:
    """A peer whose routing ID other connections claim. It must still get a PONG for each PING."""

    def __init__(self, stage: Stage) -> None:
        self.peer = RawPeer(stage.context, stage.broker.players, ROUTING_ID=WITNESS)  # type: ignore[arg-type]
        self.peer.join(Role.PLAYER, "witness")
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1
        body = b"%d" % self.asked
        self.peer.send(encode(control.Ping(body)))
        while (told := self.peer.told()) != control.Pong(body):
            assert not isinstance(told, control.Pong | control.Reject), told


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def peak_kib(pid: int) -> int:
    """Return the most memory that a process ever had (VmHWM of proc(5))."""
    match = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1])


def attack(tally: Tally, seconds: float | None, connections: int | None, before: int = 200) -> None:
    """Attack a new broker for some time, or with a number of connections, and check that it survives.

    After `before` connections, memory is measured for the first time: by then the broker has the memory that
    it keeps for reuse.
    """
    with BrokerProcess() as broker, Stage(broker) as stage, stage.canary() as canary:
        pid = broker.process.popen.pid
        witness = Witness(stage)
        mutator = Mutator(broker, tally)
        at_rest = descriptors(pid)
        memory = peak_kib(pid)
        until = None if seconds is None else time.monotonic() + seconds
        try:
            while (until is None or time.monotonic() < until) and tally.connections != connections:
                mutator.one()
                if tally.connections == before:
                    memory = peak_kib(pid)
                if tally.connections % 25 == 0:
                    witness.ask()
                    assert broker.process.popen.poll() is None, "the broker has ended"
                if tally.connections % 250 == 0:
                    canary.sing_on(3)
            witness.ask()
            canary.sing_on()
        except BaseException as error:
            error.add_note(
                f"{tally}\nto repeat it: python tests/fuzz/zmtp.py --seed {tally.seed} --first {tally.first}"
                f" --connections {tally.connections}"
            )
            raise
        finally:
            mutator.close()
            witness.peer.close()

        def rested() -> bool:
            rows, _ = stage.operator.query("players").result()
            return [row[0] for row in rows] == ["canary"] and descriptors(pid) < at_rest

        # Fewer, because the witness has left too.
        eventually(rested, f"all peers have left, and fewer than {at_rest} descriptors are open; {tally}")
        grown = peak_kib(pid) - memory
        assert grown <= MAX_GROWTH_KIB, f"{grown} KiB more after {tally}"
        counters = stage.counters()
        told = ", ".join(
            f"{counters[name]:,} {name}" for name in ("sessions_begun", "violations", "malformed")
        )
        print(f"{tally}; {told}; {canary.calls:,} calls meanwhile; {grown:,} KiB more at the peak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connections", type=int, help="how many connections, instead of a time")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--first", type=int, default=0, help="the number of the first connection")
    options = parser.parse_args()
    seconds = None if options.connections else options.seconds
    attack(Tally(options.seed, options.first), seconds, options.connections)


if __name__ == "__main__":
    main()
