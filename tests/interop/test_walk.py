"""The walk in docs/protocol.md is what really goes over the wire."""

from __future__ import annotations

from interop.walk import BROKER_ID, Message, as_on_page, messages, play


def test_a_real_broker_sends_the_bytes_of_the_walk() -> None:
    seen = []
    numbers: list[bytes] = []

    def take(message: Message, parts: list[bytes]) -> None:
        assert [as_on_page(part) for part in parts] == [part.hex(" ") for part in message.parts], (
            message.title
        )
        numbers.extend(BROKER_ID.findall(b"".join(parts)))
        seen.append(message.title)

    play(take)
    expected = [message.title for message in messages() if message.sender == "broker"]
    assert seen == expected and len(seen) == 9
    assert len(numbers) == 2 and len(set(numbers)) == 1 and numbers[0] != bytes(8)  # the two WELCOMEs
