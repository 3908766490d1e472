"""A call that is encoded and leaves later: the same call, with another ID and the budget that is left."""

from __future__ import annotations

import pytest
from support.corefakes import TestCall

from ringback.core.encoded_call import budget_ms, encoded_call
from ringback.protocol.envelope_decoding import decode
from ringback.protocol.envelopes import CALL, Encoder, join
from ringback.protocol.frames import FrameType
from ringback.protocol.limits import Limits

write = Encoder(Limits())


@pytest.mark.parametrize("context", [None, {"traceparent": "00-01"}])
@pytest.mark.parametrize("payload", [None, {"a": [1, 2.5, b"x", "é"]}, "x" * 70_000])
def test_the_call_is_the_same_but_for_its_id_and_budget(
    payload: object, context: dict[str, str] | None
) -> None:
    encoded = encoded_call(FrameType.DATA, b"\x07", write.call(5, "shop:é", payload, 9000, context))
    assert (encoded.kind, encoded.encoded_id) == (FrameType.DATA, b"\x07")
    call = TestCall(2**63, "shop:é", deadline=103.5)
    decoded, unreadable, _ = decode(join([encoded.envelope(call, now=101.0)]), Limits())
    assert not unreadable
    assert decoded == [[CALL, 2**63, "shop:é", payload, 2500, *([context] if context else [])]]


@pytest.mark.parametrize(
    ("deadline", "now", "expected"),
    [
        (None, 100.0, None),
        (100.0, 100.0, 0),
        (99.0, 100.0, 0),
        (100.0001, 100.0, 1),  # some time is left: 0 would say that it is over
        (102.0, 100.0, 2000),
    ],
)
def test_the_budget_that_is_left(deadline: float | None, now: float, expected: int | None) -> None:
    assert budget_ms(deadline, now) == expected
