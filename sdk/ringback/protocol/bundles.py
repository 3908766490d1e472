"""Bundles: the frames of many players in one message between the broker and a trusted endpoint.

The calls that a server sends to a hundred players at one moment take one message instead of a hundred, and
so do their replies. A player's own link carries no bundles: there is nobody to share a message with.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgpack

from ringback.errors import ProtocolError
from ringback.protocol.frames import HEADER_BYTES, FrameType, header
from ringback.protocol.limits import BUNDLE_FRAMES, MAX_FRAME_BYTES
from ringback.protocol.values import fault_of

BUNDLE = header(FrameType.BUNDLE)


def bundle(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the BUNDLE frame that carries frames, each with its ID part."""
    body: bytes = msgpack.packb([part for pair in pairs for part in pair])
    return BUNDLE + body


def unbundle(frame: bytes) -> list[bytes]:
    """Return what a BUNDLE carries: an ID part, its frame, an ID part, its frame, and so on.

    Raises:
        ProtocolError: it does not have that form. The frames themselves are not checked.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame must have at most {MAX_FRAME_BYTES} bytes, not {len(frame)}")
    try:
        parts = msgpack.unpackb(frame[HEADER_BYTES:], max_array_len=2 * BUNDLE_FRAMES, max_map_len=0)
    except Exception as error:  # msgpack raises five kinds; each means the same here
        why = fault_of(error)
        raise ProtocolError(f"the body of a BUNDLE must be msgpack within the limits: {why}") from None
    if type(parts) is not list or len(parts) % 2 or not {bytes}.issuperset(map(type, parts)):
        raise ProtocolError("the body of a BUNDLE must be an array of ID parts and frames")
    return parts
