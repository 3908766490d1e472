"""A node speaks for its own players alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
from support.harness import PATIENCE_S
from support.nodes import Node
from support.realm_processes import RealmOfProcesses, outcome, until_works

from ringback.errors import Code
from ringback.protocol.envelopes import CALL, RESULT
from ringback.protocol.frames import HEADER, HEADER_BYTES, FrameType, header
from ringback.protocol.player_ids import encode_player_id
from ringback_broker.cluster.messages import Here, Listed, Seated, decode, encode
from ringback_broker.cluster.ownership import encode_node, node_key
from ringback_broker.cluster.pairs import Pair, Pairs
from ringback_broker.cluster.records import Record
from ringback_broker.switchboard.sending import SENDER


class Forger(Node):
    """A node that says what it likes. It has joined the realm with the credentials of a node.

    Attributes:
        heard: the ID parts and frames that other nodes have sent to it.
    """

    def __init__(self, realm: RealmOfProcesses) -> None:
        super().__init__(realm.nats.address, "z", boot=b"\7" * 8)
        self.heard: list[tuple[str, bytes, bytes]] = []
        self._boots: dict[str, bytes] = {}
        self.pairs = Pairs(self.frames, lambda *_: None, lambda *_: None, self._take)
        self.wait(lambda: self.in_contact, "contact")
        made = self.ask(self.records.put, node_key("z"), encode_node(self.boot, {}), 0)
        assert isinstance(made, Record)

    def _take(self, pair: Pair, id_part: bytes, frame: bytes, now: float) -> None:
        self.heard.append((pair.name, id_part, frame))

    def from_node(self, node: str, boot: bytes, parts: tuple[bytes, ...], now: float) -> None:
        if self._boots.get(node) != boot:
            self._boots[node] = boot
            self.pairs.add(node, boot, now)
        self.pairs.from_node(node, boot, parts, now)
        self.pairs.tick(now)

    def find(self, check: Callable[[str, bytes, bytes], Any]) -> Any:
        """Wait for something that a node says, and return what `check` finds in it."""
        found: list[Any] = []

        def looks() -> bool:
            found.extend(filter(None, (check(*heard) for heard in self.heard)))
            return bool(found)

        self.wait(looks, "what a node says", PATIENCE_S)
        return found[0]


@pytest.fixture
def realm() -> Iterator[RealmOfProcesses]:
    with RealmOfProcesses("ab") as realm:
        yield realm


def test_a_frame_of_a_player_that_another_node_has_is_refused(realm: RealmOfProcesses) -> None:
    """It comes back, and the server never hears of it. Of its own player, it is taken."""
    server = realm.server("a")
    called: list[Any] = []

    @server.register_server_callback("count")
    def count(source: Any, payload: Any) -> list[Any]:
        called.append(source)
        return called

    victim = realm.player("b", 1)
    until_works(lambda: victim.trigger_server_callback("node"), "a")
    with Forger(realm) as forger:

        def seated(node: str, _: bytes, frame: bytes) -> int:
            message = decode(frame) if frame[:1] == b"\0" else None
            return message.term if isinstance(message, Seated) and node == "a" else 0

        term = forger.find(seated)
        forger.pairs.send("a", b"", encode(Here(term, [(encode_player_id(66), 10**9)])))
        forger.pairs.send("a", b"", encode(Listed(term)))

        def call(number: int) -> bytes:
            body: bytes = msgpack.packb([[CALL, number, "count", None, 30_000]])
            return header(FrameType.DATA) + body

        # Node a knows by now which players the forger has, since both frames take the same way.
        forger.pairs.send("a", encode_player_id(1), call(1))
        forger.pairs.send("a", encode_player_id(2), call(2))
        forger.pairs.send("a", encode_player_id(66), call(3))
        bounced: dict[bytes, bytes] = {}

        def came(node: str, id_part: bytes, frame: bytes) -> bytes:
            if node == "a" and id_part and frame[1] == FrameType.BOUNCE:
                assert Code(HEADER.unpack_from(frame)[2]) is Code.NO_SERVER
                bounced[id_part[SENDER.size :]] = frame[HEADER_BYTES:]
            return frame if node == "a" and id_part and frame[1] == FrameType.DATA else b""

        replied = msgpack.unpackb(forger.find(came)[HEADER_BYTES:])
    assert bounced == {encode_player_id(1): call(1), encode_player_id(2): call(2)}
    assert replied == [[RESULT, 3, [[66]]]] and called == [66]
    assert outcome(lambda: victim.trigger_server_callback("echo", 1)) == [1, 1]
