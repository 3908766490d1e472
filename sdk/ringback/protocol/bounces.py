"""Bounces: frames that could not be delivered, sent back whole to their sender."""

from __future__ import annotations

from ringback.protocol.frames import HEADER, VERSION, FrameType


def bounce(code: int, frame: bytes) -> bytes:
    """Gives the BOUNCE of a frame that could not be delivered: it comes back whole, behind a header."""
    return HEADER.pack(VERSION, FrameType.BOUNCE, code, 0) + frame
