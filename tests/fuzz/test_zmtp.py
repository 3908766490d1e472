"""Send raw ZMTP to a running broker for a moment. `make fuzz` does it longer, with new seeds."""

from __future__ import annotations

from fuzz.zmtp import Tally, attack


def test_raw_zmtp_does_not_harm_a_broker() -> None:
    attack(Tally(seed=1), seconds=None, connections=300, before=100)
