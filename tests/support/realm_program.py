"""A realm of two nodes, one of which sends anything, as bytes say: a target of fuzzing."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import msgpack
from support.programs import Program
from support.realms import LEASE_S, RealmDesks
from support.switchboards import SOUND, data, encoded_id, relay

from ringback.protocol.control import Hello, Welcome, encode
from ringback.protocol.frames import FrameType, Role, header
from ringback_broker.cluster.messages import START, Message
from ringback_broker.peers.connection import Side
from ringback_broker.switchboard.presence import DIFFERS_S
from ringback_broker.switchboard.sending import SENDER, TO_PLAYER

SENDS, TAKES = "a", "b"
"""The node that sends anything, and the node that has to bear it."""

TYPES = {kind: tuple(get_type_hints(kind).values())[1:] for kind in get_args(Message)}
"""The types of the fields of each kind of message."""

KINDS = tuple(TYPES)
FRAMES = (*map(encode, SOUND), data(), data(1), data(2**31), relay(1), relay(2**31), b"", b"\1\2")
IDS = (encoded_id(7), encoded_id(8), encoded_id("x"), b"", b"\xc1")


class RealmProgram:
    """Two nodes with a server, an operator and players."""

    def __init__(self) -> None:
        self.realm = RealmDesks(SENDS, TAKES)
        self.server = self.realm[SENDS].server()
        self.operator = self.realm[SENDS].operator()
        self.realm[TAKES].player(7)
        self.realm[SENDS].player(8)
        self.realm[TAKES].operator()

    def run(self, program: Program) -> None:
        steps = (self.say, self.say, self.message, self.control, self.up, self.down, self.bundle, self.record)
        long = program.byte() % 8 == 7  # the end takes most of the time
        while program.goes_on():
            program.pick((*steps, self.wait))(program)
            self.realm.settle()
            self.realm.check()
        if long:
            self.end()

    # -- what a node sends

    def send(self, id_part: bytes, frame: bytes) -> None:
        self.realm[SENDS].realm.other_nodes.pairs.send(TAKES, id_part, frame)

    def say(self, program: Program) -> None:
        """Say something of a kind that nodes know. Most of its fields have their types."""
        kind = program.pick(KINDS)
        values = [
            self.value(program) if program.byte() % 8 == 7 else self.typed(program, of) for of in TYPES[kind]
        ]
        self.send(b"", START + msgpack.packb([kind.kind, *values]))

    def typed(self, program: Program, of: type) -> Any:
        if of is int:
            return program.pick((0, 1, 2, 3, 2**31, 2**32, 2**63 - 1, -1))
        if of is bytes:
            return program.pick((*IDS, *FRAMES))
        if of is str:
            return program.pick(("", "p.Bw", "p.CA", "seat", "index.1", "\N{SNOWMAN}"))
        if of is bool:
            return program.pick((True, False))
        players = [[program.pick(IDS), program.byte()] for _ in range(program.byte() % 3)]
        return program.pick((players, [self.value(program)]))

    def value(self, program: Program, depth: int = 0) -> Any:
        kind = program.byte()
        if kind & 0x80 and depth < 3:
            return [self.value(program, depth + 1) for _ in range(kind % 4)]
        return program.pick((kind, -1, 2**64 - 1, None, True, 0.5, float("nan"), "x", b"x", {}, {1: []}))

    def message(self, program: Program) -> None:
        self.send(program.piece(), START + program.piece())

    def control(self, program: Program) -> None:
        self.send(program.pick((b"", b"", b"x")), program.pick(FRAMES))

    def up(self, program: Program) -> None:
        self.send(program.pick(IDS), program.pick(FRAMES))

    def down(self, program: Program) -> None:
        number = program.pick((0, 1, 2, 2**32, 2**63 - 1))
        self.send(SENDER.pack(TO_PLAYER, number) + program.pick(IDS), program.pick(FRAMES))

    def bundle(self, program: Program) -> None:
        self.send(b"", header(FrameType.BUNDLE) + msgpack.packb([program.pick(IDS), program.pick(FRAMES)]))
        self.send(b"", header(FrameType.BUNDLE) + program.piece())

    def record(self, program: Program) -> None:
        """Write into the bucket what no node writes."""
        key = program.pick(("seat", "node.z", "p.Bw", "p.CA", "p.eA", "x"))
        value = program.pick((program.piece(), msgpack.packb([self.value(program) for _ in range(4)]), b""))
        self.realm.records.write(key, value)

    def wait(self, program: Program) -> None:
        self.realm.pass_time(program.pick((0.25, 1.0, LEASE_S)))

    # -- the end

    def end(self) -> None:
        """Whatever was said, the nodes find each other again, and players reach the server."""
        for node in self.realm.alive():
            for session in list(node.switchboard.roster.sessions()):
                node.switchboard.state.endings.mark(session, "the end")
            node.switchboard._sessions.end_marked()
        server = self.realm[SENDS].connect(Side.BACKEND)
        server.say(Hello(Role.SERVER))
        player = self.realm[TAKES].connect()
        player.say(Hello(Role.PLAYER, 7))
        self.realm.pass_time(LEASE_S + 2 * DIFFERS_S)
        for peer in (server, player):
            assert any(isinstance(frame, Welcome) for frame in peer.told())
        player.send(data(0, b"up"))
        assert (encoded_id(7), data(0, b"up")) in server.take()
        self.realm.check()
