"""Frames in libzmq's own memory."""

from __future__ import annotations

import zmq

from ringback_broker.peers.connection import LargeFrame


def test_a_large_frame_reads_like_bytes() -> None:
    message = zmq.Frame(b"header and body")
    frame = LargeFrame(message)
    assert (len(frame), frame[:6], bytes(frame)) == (15, b"header", b"header and body")
    assert frame.message is message
