"""The walk in docs/protocol.md is what really goes over the wire."""

from __future__ import annotations

from interop.walk import Message, messages, play


def test_a_real_broker_sends_the_bytes_of_the_walk() -> None:
    seen = []

    def take(message: Message, parts: list[bytes]) -> None:
        assert [part.hex(" ") for part in parts] == [part.hex(" ") for part in message.parts], message.title
        seen.append(message.title)

    play(take)
    expected = [message.title for message in messages() if message.sender == "broker"]
    assert seen == expected and len(seen) == 9
