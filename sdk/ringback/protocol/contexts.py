"""The context of a CALL: what it asks of the handler's side, and the context of tracing.

A handler's side that does not know a name ignores it. So a caller may ask for something in a context
although the other side may be older.
"""

from __future__ import annotations

from collections.abc import Mapping

from ringback.protocol.limits import MAX_CONTEXT_BYTES, MAX_CONTEXT_PAIRS

PROGRESS = "ringback-progress"
"""The name of the pair that asks for PROGRESS. Its value is "1"."""

ONCE = "ringback-once"
"""The name of the pair that asks to remember the call. Its value is the token, in hexadecimal digits."""


def bounded(*contexts: Mapping[str, str]) -> dict[str, str]:
    """Return the pairs that fit into one context, the first ones first."""
    kept: dict[str, str] = {}
    room = MAX_CONTEXT_BYTES
    for context in contexts:
        for name, value in context.items():
            size = len(name.encode()) + len(value.encode())
            if size <= room and len(kept) < MAX_CONTEXT_PAIRS and name not in kept:
                kept[name] = value
                room -= size
    return kept
