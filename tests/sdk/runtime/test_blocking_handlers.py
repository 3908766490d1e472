"""What the endpoints of the blocking face share where they run handlers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ringback import Limits, Player
from ringback.protocol.envelopes import Encoder


def test_endpoints_with_the_same_limits_share_the_encoder_of_a_thread() -> None:
    def encoders() -> list[Encoder]:
        return [player._shell.encoder() for player in players]

    address = "tcp://127.0.0.1:1"
    players = [Player(address), Player(address, limits=Limits()), Player(address, limits=Limits(max_depth=8))]
    one, same, other = here = encoders()
    assert one is same is not other and encoders() == here
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(encoders).result()
    assert there[0] is there[1] and not set(there) & set(here)
