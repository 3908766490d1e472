"""Peers that have joined, and pretend to be another peer."""

from __future__ import annotations

import struct
from contextlib import ExitStack

import msgpack
import pytest
import zmq
from security.yard import Yard, rejected
from support.harness import PATIENCE_S, Process, eventually
from support.rawpeers import RawPeer

from ringback import Operator, RejectCode
from ringback.credentials import KeyPair
from ringback.errors import Code, Forbidden
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.control import encode
from ringback.protocol.envelopes import CALL, ERROR, RESULT
from ringback.protocol.frames import HEADER_BYTES, FrameType, Role, header
from ringback.protocol.player_ids import encode_player_id

PLAYER, SERVER, OPERATOR = Role.PLAYER, Role.SERVER, Role.OPERATOR

CLAIMS = 40

FIRST_ID = """
import zmq
router, dealer = zmq.Context.instance().socket(zmq.ROUTER), zmq.Context.instance().socket(zmq.DEALER)
dealer.connect(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
dealer.send(b"")
print("first", router.recv().hex())
zmq.Context.instance().destroy(0)
"""


def data(*envelopes: object, kind: FrameType = FrameType.DATA, link: int = 0) -> bytes:
    body: bytes = msgpack.packb(list(envelopes))
    return header(kind, link) + body


def call(call_id: int, key: str, payload: object = None) -> list[object]:
    return [CALL, call_id, key, payload, 15000]


def envelopes(frame: bytes) -> list[list[object]]:
    found: list[list[object]] = msgpack.unpackb(frame[HEADER_BYTES:])
    return found


def test_a_source_in_the_body(yard: Yard) -> None:
    """The server gets the source that the broker knows, whatever a player writes into its bytes."""
    yard.sources.clear()
    with yard.control(), yard.canary(), yard.peer(PLAYER, keys=yard.ann) as ann:
        ann.join(PLAYER, 7)
        lies = {"source": "canary", "player_id": "canary", "address": encode_player_id("canary")}
        ann.send(data(call(1, "echo", lies)))
        assert envelopes(ann.receive()[0]) == [[RESULT, 1, [lies]]]
        ann.send(data([*call(2, "echo"), "canary"]))
        why = "a context must be a map of str to str"
        assert envelopes(ann.receive()[0]) == [[ERROR, 2, 4, why, 0, None]]
        ann.send(data([*call(3, "echo"), {"source": "canary"}]))
        assert envelopes(ann.receive()[0]) == [[RESULT, 3, [None]]]
    assert set(yard.sources) == {7}


def test_a_source_in_a_part_of_its_own(yard: Yard) -> None:
    """The trusted side writes the ID part like this. A player's message has no such part."""
    log = "left player 7 SOURCE .PROTOCOL_ERROR: a message of 2 parts"
    with yard.attack(log, malformed=1) as source, yard.peer(PLAYER, keys=yard.ann, source=source) as ann:
        ann.join(PLAYER, 7)
        ann.send(encode_player_id("canary"), data(call(1, "echo")))
        assert rejected(ann)[0] is RejectCode.PROTOCOL_ERROR


@pytest.mark.parametrize("asks", [SERVER, OPERATOR])
def test_a_reply_to_a_call_that_another_player_got(asks: Role, yard: Yard) -> None:
    """A player replies to a call that another player got, with the right id and on the right link.

    The caller drops and counts the reply.
    """
    bob = listed(yard, f"bob-{asks}", "player", "bob")
    asker = yard.server if asks is SERVER else yard.operator
    strays = asker.counters.stray_replies
    with yard.canary(), yard.peer(PLAYER, keys=yard.ann) as called, yard.peer(PLAYER, keys=bob) as forger:
        called.join(PLAYER, 7, ("where",))
        forger.join(PLAYER, "bob")
        asked = asker.trigger_client_callback("where", 7, timeout=PATIENCE_S)
        [question] = called.receive()
        [[_, call_id, key, *_]] = envelopes(question)
        assert key == "where"
        link = int.from_bytes(question[4:HEADER_BYTES], "big")
        for forged in ([RESULT, call_id, ["forged"]], [ERROR, call_id, 30, "forged", 2, None]):
            forger.send(data(forged, link=link))
        eventually(lambda: asker.counters.stray_replies == strays + 2, "both are counted")
        assert not asked.done()
        called.send(data([RESULT, call_id, ["here"]], link=link))
        assert asked.result() == "here"


def test_a_reply_of_an_operator_to_a_call_of_the_server(yard: Yard) -> None:
    """An operator is trusted, but its replies do not end the server's calls."""
    answered = yard.player.counters.stray_replies
    with (
        yard.canary(),
        yard.peer(OPERATOR, keys=yard.second) as operator,
        yard.peer(PLAYER, keys=yard.ann) as ann,
    ):
        ann.join(PLAYER, 7, ("where",))
        link = operator.join(OPERATOR).link
        asked = yard.server.trigger_client_callback("where", 7, timeout=PATIENCE_S)
        [question] = ann.receive()
        [[_, call_id, *_]] = envelopes(question)
        operator.send(
            encode_player_id(7), data([RESULT, call_id, ["forged"]], kind=FrameType.RELAY, link=link)
        )
        operator.send(encode_player_id(7), data([RESULT, call_id, ["forged"]], link=link))
        assert envelopes(ann.receive()[0]) == [[RESULT, call_id, ["forged"]]]  # an operator can do no more
        assert not asked.done()
        ann.send(data([RESULT, call_id, ["here"]], link=int.from_bytes(question[4:HEADER_BYTES], "big")))
        assert asked.result() == "here"
    assert yard.player.counters.stray_replies == answered


@pytest.mark.parametrize("link", [0, 1, 2**32 - 1])
def test_a_player_that_relays(link: int, yard: Yard) -> None:
    """A player sends RELAY, with which operators call in the name of a source."""
    log = "left player 7 SOURCE .PROTOCOL_ERROR: a player does not send frames of type 17"
    with yard.attack(log, violations=1) as source, yard.peer(PLAYER, keys=yard.ann, source=source) as ann:
        ann.join(PLAYER, 7)
        ann.send(data(call(1, "echo"), kind=FrameType.RELAY, link=link))
        code, reason = rejected(ann)
        assert code is RejectCode.PROTOCOL_ERROR and "type 17" in reason
        ann.wait_for_close()


def listed(yard: Yard, name: str, role: str, *ids: int | str, **more: object) -> KeyPair:
    """Add a key pair to the access list, and wait until the list is reloaded."""
    pair = yard.vault.pair(name, role, *ids, **more)
    yard.vault.write()
    yard.sees("the access list was reloaded")
    return pair


def test_an_operator_without_the_right_to_name_sources(yard: Yard) -> None:
    """The operator gets FORBIDDEN, and the handler does not run. It may do everything else.

    Another operator, which has the right, may name a source.
    """
    yard.sources.clear()
    pair = listed(yard, "watcher", "operator", sources=False)
    log = r"refused operator \d+ SOURCE FORBIDDEN: the operator 'watcher' may not name sources"
    with yard.attack(log, bounced_forbidden=2) as source:
        with Operator(yard.broker.backend, key_file=pair) as operator:
            error = operator.trigger_callback("echo", 7, "in the name of 7").error
            assert isinstance(error, Forbidden) and error.executed == "no"
            assert "does not let this operator name a source" in str(error)
            rows, _ = operator.query("players").result()
            assert [row[0] for row in rows] == ["canary"]
            call_of_player = operator.trigger_client_callback("nothing", "canary")
            assert call_of_player.error.code_name == "UNKNOWN_CALLBACK"
        with yard.peer(OPERATOR, keys=pair, source=source) as peer:
            link = peer.join(OPERATOR).link
            frame = data(call(1, "echo"), kind=FrameType.RELAY, link=link)
            peer.send(encode_player_id(7), frame)
            assert peer.receive() == [encode_player_id(7), bounce(Code.FORBIDDEN, frame)]
    assert yard.sources == []
    with yard.control(), Operator(yard.broker.backend, key_file=yard.second) as operator:
        assert operator.trigger_callback("echo", 7, "in the name of 7").result() == "in the name of 7"
    assert yard.sources == [7]


def test_a_connected_operator_loses_the_right_to_name_sources(yard: Yard) -> None:
    pair = listed(yard, "was-allowed", "operator")
    with Operator(yard.broker.backend, key_file=pair) as operator:
        assert operator.trigger_callback("echo", 7, 1).result() == 1
        listed_anew = yard.vault._entries["was-allowed"] + "sources = false\n"
        yard.vault._entries["was-allowed"] = listed_anew
        yard.vault.write()
        yard.sees("the access list was reloaded")
        assert isinstance(operator.trigger_callback("echo", 7, 1).error, Forbidden)


def test_an_operator_that_uses_the_link_of_another(yard: Yard) -> None:
    log = "left operator .* SOURCE .PROTOCOL_ERROR: a RELAY must have the link number"
    with (
        yard.attack(log, violations=1) as source,
        yard.peer(OPERATOR, keys=yard.second, source=source) as peer,
    ):
        link = peer.join(OPERATOR).link
        peer.send(encode_player_id(7), data(call(1, "echo"), kind=FrameType.RELAY, link=link - 1))
        assert rejected(peer)[0] is RejectCode.PROTOCOL_ERROR


def test_the_routing_id_of_a_connected_peer(yard: Yard) -> None:
    """The broker ignores and closes the second connection that claims it. The first is not disturbed."""
    bob = listed(yard, "bob2", "player", "bob2")
    with yard.attack("refused SOURCE no HELLO: it said nothing", handshakes_failed=1) as source:
        with yard.peer(PLAYER, keys=yard.ann, routing_id=b"victim") as victim:
            victim.join(PLAYER, 7)
            with yard.peer(PLAYER, keys=bob, routing_id=b"victim", source=source) as thief:
                thief.hello(PLAYER, "bob2")
                thief.send(encode(control.Bye()))
                for number in range(20):
                    victim.send(encode(control.Ping(b"%d" % number)))
                    assert victim.told() == control.Pong(b"%d" % number)
                thief.wait_for_close()
                assert not thief.socket.poll(0)
            victim.send(data(call(1, "echo", "mine")))
            assert envelopes(victim.receive()[0]) == [[RESULT, 1, ["mine"]]]
        assert "bob2" not in yard.server.players


def test_routing_ids_that_libzmq_would_choose(yard: Yard) -> None:
    """Without an accepted key, no connection gets far enough to claim a routing ID (libzmq issue 4633).

    The numbers are the ones that an ordinary process begins with. The broker begins with a random number,
    which an attacker may guess. So keys have to protect it.
    """
    with Process("-c", FIRST_ID) as process:
        begin = struct.unpack("!I", bytes.fromhex(process.wait_for("first 00([0-9a-f]{8})").group(1)))[0]
    stray = yard.vault.pair("stray", "player", 7, listed=False)
    with yard.attack("refused SOURCE", handshakes_refused=CLAIMS) as source, ExitStack() as stack:
        claims: list[RawPeer] = []
        for number in [*range(begin - 2, begin + CLAIMS), *range(CLAIMS)]:
            claimed = b"\0" + struct.pack("!I", number & 0xFFFFFFFF)
            for keys in (stray, None):
                settings = {"routing_id": claimed, "keys": keys, "source": source}
                claims.append(stack.enter_context(yard.peer(PLAYER, **settings)))
        for peer in claims:
            peer.wait_for(
                zmq.EVENT_HANDSHAKE_FAILED_AUTH,
                zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
                zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
                zmq.EVENT_DISCONNECTED,
            )
    nameless = [yard.peer(PLAYER, keys=yard.ann, routing_id=b"") for _ in range(10)]
    for peer in nameless:
        assert peer.join(PLAYER).player_id == 7
        peer.close()
    assert yard.broker.process.popen.poll() is None
