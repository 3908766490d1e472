"""What nodes tell each other, as bytes."""

from __future__ import annotations

from typing import get_args

import msgpack
import pytest

from ringback.errors import ProtocolError
from ringback.protocol.player_ids import encode_player_id
from ringback_broker.cluster.messages import (
    START,
    Answer,
    Answered,
    Ask,
    Down,
    FarReport,
    Gone,
    Here,
    Index,
    Knows,
    Listed,
    Message,
    Question,
    Seated,
    Standbys,
    Taken,
    Unanswered,
    Up,
    decode,
    encode,
    here,
)
from ringback_broker.peers.roster import MAX_NODE_INDEX

ALL: tuple[Message, ...] = (
    Here(3, ((b"\x07", 5), (b"\xa1x", 6))),  # type: ignore[arg-type]
    Gone(b"\x07"),
    Listed(3),
    Up(3, 2**31),
    Down(0, True, False),
    Taken(b"\x07", 9),
    Ask("p.Bw", 9, b"identity"),
    Answer("p.Bw", 9, False),
    Index(7),
    Seated(3),
    Standbys(2),
    Unanswered(b"\x07", 0),
    Knows(1),
    FarReport(5, b"frame"),
    Question(5, 7, True, "console", "10.0.0.1", b"frame"),
    Answered(5, b"frame"),
)


@pytest.mark.parametrize("message", ALL)
def test_it_is_the_same_when_it_was_read(message: Message) -> None:
    assert decode(encode(message)) == message


def test_later_versions_may_say_more() -> None:
    assert decode(START + msgpack.packb([Listed.kind, 3, "more"])) == Listed(3)
    assert decode(START + msgpack.packb([99, 3])) is None


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x90", b"\x07", b"\x91\x03", b"\x92\x03\xa1x"])
def test_others_are_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(START + body)


@pytest.mark.parametrize(
    "message",
    [
        Here(3, [(b"\x07",)]),  # type: ignore[list-item]
        Here(3, [7]),  # type: ignore[list-item]
        Here(3, [(b"\x07", -1)]),
        Here(3, [(b"\xc1", 5)]),
        Here(3, 7),  # type: ignore[arg-type]
        Gone(b""),
        Gone("x"),  # type: ignore[arg-type]
        Listed(-1),
        Listed(True),
        Up(3, 2**32),
        Down(2**32, True, False),
        Taken(b"\xa1", 9),
        Index(MAX_NODE_INDEX + 1),
        Unanswered(b"\x07", 2**32),
        Question(5, 2**32, True, "console", "10.0.0.1", b"frame"),
    ],
)
def test_a_field_that_no_node_says_is_refused(message: Message) -> None:
    with pytest.raises(ProtocolError, match="not a message between nodes"):
        decode(encode(message))


def test_many_players_take_several_messages() -> None:
    players = [(encode_player_id(number), number) for number in range(1, 2501)]
    sizes = [len(said.players) for frame in here(1, players) if isinstance(said := decode(frame), Here)]
    assert sizes == [1000, 1000, 500] and here(1, []) == []


def test_each_kind_has_a_number_of_its_own() -> None:
    kinds = get_args(Message)
    assert len({kind.kind for kind in kinds}) == len(kinds) == len(ALL)
