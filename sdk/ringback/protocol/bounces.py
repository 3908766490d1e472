"""Bounces: frames that could not be delivered, sent back whole to their senders."""

from __future__ import annotations

from ringback.protocol.frames import HEADER, VERSION, FrameType


def bounce(code: int, frame: bytes) -> bytes:
    """Return the BOUNCE of a frame: a header with the code that says why, and the whole frame behind it."""
    return HEADER.pack(VERSION, FrameType.BOUNCE, code, 0) + frame
