"""Remembered calls: how they are forgotten once their callers have the outcome."""

from __future__ import annotations

from support.corefakes import connected, data, envelopes_of

from ringback.protocol import control
from ringback.protocol.contexts import ONCE
from ringback.protocol.envelopes import RESULT, Encoder
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.limits import Limits
from ringback.protocol.repeats import REPEAT_KEY

write = Encoder(Limits())
SEVEN, EIGHT = b"\x07", b"\x08"
TOKEN = bytes(range(16))

FIRST = data(write.call(1, "k", "p", None, {ONCE: TOKEN.hex()}))
REPEAT = data(write.call(2, REPEAT_KEY, ["k", TOKEN, 1000, "p"], None))


def test_a_cancel_after_the_outcome_is_a_receipt() -> None:
    desk = connected(Role.SERVER)
    desk.gets(FIRST, SEVEN)
    desk.handle()[0]("done")
    memory = desk.core._once.memory
    assert len(memory.calls) == 1 and memory.size > 0
    desk.gets(data(write.cancel(2)), SEVEN)  # another call
    desk.gets(data(write.cancel(1)), EIGHT)  # another caller
    assert len(memory.calls) == 1
    desk.gets(data(write.cancel(1)), SEVEN)
    assert (memory.calls, memory.size, memory._shares) == ({}, 0, {})
    desk.gets(data(write.cancel(1)), SEVEN)
    desk.wait(1000.0)
    desk.check_at_rest()


def test_only_the_latest_reply_has_a_receipt() -> None:
    """The caller did not get the one before, since it tried again."""
    desk = connected(Role.SERVER)
    desk.gets(FIRST, SEVEN)
    desk.handle()[0]("done")
    desk.gets(REPEAT, SEVEN)
    desk.flush()
    frames = [frame for _, frame in desk.shell.take_sent() if frame[1] == FrameType.DATA]
    replies = [envelope for frame in frames for envelope in envelopes_of(frame)]
    assert replies == [[RESULT, 1, ["done"]], [RESULT, 2, ["done"]]]
    desk.gets(data(write.cancel(1)), SEVEN)
    assert desk.core.load().remembered == 1
    desk.gets(data(write.cancel(2)), SEVEN)
    assert desk.core.load().remembered == 0


def test_a_repeat_that_waited_has_the_receipt() -> None:
    desk = connected(Role.SERVER)
    desk.gets(FIRST, SEVEN)
    [execution] = desk.handle()
    desk.told(control.Left((7,)))
    desk.gets(REPEAT, SEVEN)
    execution("done")
    desk.gets(data(write.cancel(1)), SEVEN)
    assert desk.core.load().remembered == 1
    desk.gets(data(write.cancel(2)), SEVEN)
    assert desk.core.load().remembered == 0


def test_an_outcome_that_nobody_waited_for_has_no_receipt() -> None:
    desk = connected(Role.SERVER)
    desk.gets(FIRST, SEVEN)
    [execution] = desk.handle()
    desk.told(control.Left((7,)))
    execution("done")
    desk.gets(data(write.cancel(1)), SEVEN)
    assert desk.core.load().remembered == 1
