"""Bundles: the frames of many players in one message between the broker and a trusted peer.

What a server sends at one moment to a hundred players, and what they answer, takes one message and not a
hundred. On a player's own link there is nobody to share a message with.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgpack

from ringback.errors import ProtocolError
from ringback.protocol.frames import HEADER_BYTES, FrameType, header
from ringback.protocol.limits import BUNDLE_FRAMES, MAX_FRAME_BYTES

BUNDLE = header(FrameType.BUNDLE)


def bundle(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Gives the frame that carries DATA frames, each with its address."""
    body: bytes = msgpack.packb([part for pair in pairs for part in pair])
    return BUNDLE + body


def unbundle(frame: bytes) -> list[bytes]:
    """Gives what a BUNDLE carries: address, frame, address, frame, and so on.

    Raises:
        ProtocolError: it does not have that form. What the frames are is not looked at.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame has at most {MAX_FRAME_BYTES} bytes, this one {len(frame)}")
    try:
        parts = msgpack.unpackb(frame[HEADER_BYTES:], max_array_len=2 * BUNDLE_FRAMES, max_map_len=0)
    except Exception as error:  # msgpack raises five kinds; each means the same here
        raise ProtocolError(f"a BUNDLE that is not msgpack within the limits: {error}") from None
    if type(parts) is not list or len(parts) % 2 or not {bytes}.issuperset(map(type, parts)):
        raise ProtocolError("the body of a BUNDLE is an array of addresses and frames")
    return parts
