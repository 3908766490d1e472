"""The bounds of the protocol, and those that an endpoint sets on what it accepts."""

from __future__ import annotations

from dataclasses import dataclass, fields

MAX_KEY_BYTES = 256
MAX_PLAYER_ID_BYTES = 64
MAX_PLAYER_ID = 2**63 - 1
MAX_KEYS = 1024
"""How many keys a HELLO or KEYS frame may list."""

MAX_PING_BYTES = 64
MAX_CONTEXT_PAIRS = 8
MAX_CONTEXT_BYTES = 1024
"""What a CALL may carry of tracing: pairs, and the bytes of their names and values together."""

MAX_TERMS_CHARS = 200
MAX_REASON_CHARS = 200
"""What is kept of why a session is refused or ended."""

MAX_GRACE_S = 86_400
"""The longest time that a broker may be asked to take for draining."""

MAX_TOKEN_CHARS = 2048
"""A longer token is refused before anything of it is read. 28 allowed keys and a long ID fit."""

MAX_ENVELOPE_BYTES = 1024 * 1024
"""One call or answer with everything in it, encoded."""

MAX_FRAME_BYTES = MAX_ENVELOPE_BYTES + 4096
"""One message part. What is above an envelope leaves room for headers, those of a BOUNCE too."""

MAX_ENVELOPES = 1024
"""How many envelopes a DATA or RELAY frame may hold."""

BATCH_ENVELOPES = 256
BATCH_BYTES = 64 * 1024
"""A sender starts a new frame when the present one has reached either bound."""

BUNDLE_FRAMES = 256
"""How many frames a BUNDLE may carry. A sender starts another one at BATCH_BYTES too."""

PLAYER_HEARTBEAT_S = 1.0
TRUSTED_HEARTBEAT_S = 0.5
"""How often an endpoint sends heartbeats, unless it is told otherwise. A player says so in its
HELLO; where there are many, the broker asks them for fewer."""

MAX_HEARTBEAT_S = 60
"""The longest time between two heartbeats that a broker may ask for."""

IDS_A_FRAME = 1000
"""How many player IDs go into one JOINED or LEFT frame, and how many rows into an ANSWER."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an endpoint accepts from others. All are checked before a handler runs.

    Attributes:
        max_call_bytes: one call or answer, encoded, in bytes; at most 1 MiB. Checked on what is sent
            too, so that too large a call fails at once, where it is made.
        max_depth: how deep lists and maps may be nested; at most 64.
        max_array_len: items of one list; at least 6, since an envelope is a list itself. Frames with more
            envelopes than this are read one envelope at a time, which is slower.
        max_map_len: pairs of one map; at least 8, since a call's context is a map.
        max_in_flight: calls that may wait for their answer at one time, of one caller, and to one peer.
        max_in_flight_bytes: what those of one caller may take, in bytes.
        max_running: calls of all callers that may wait for their answer at one time.
        max_calls_per_s: calls a second of one caller, with a burst of one second; None for no limit.
        max_pending: calls that this endpoint itself may have waiting for answers.
        max_queued_bytes: what may wait for a slow link, in bytes.
    """

    max_call_bytes: int = MAX_ENVELOPE_BYTES
    max_depth: int = 64
    max_array_len: int = 131_072
    max_map_len: int = 16_384
    max_in_flight: int = 4096
    max_in_flight_bytes: int = 64 * 1024 * 1024
    max_running: int = 100_000
    max_calls_per_s: float | None = None
    max_pending: int = 100_000
    max_queued_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "max_calls_per_s" and value is None:
                continue
            fractions = field.name == "max_calls_per_s"
            if not (type(value) is int or (fractions and type(value) is float)) or not value > 0:
                kind = "a number" if fractions else "an int"
                raise ValueError(f"{field.name} must be {kind} above 0, not {value!r}")
        if self.max_call_bytes > MAX_ENVELOPE_BYTES:
            raise ValueError(f"max_call_bytes is at most {MAX_ENVELOPE_BYTES}, not {self.max_call_bytes}")
        if self.max_depth > 64:
            raise ValueError(f"max_depth is at most 64, not {self.max_depth}")
        if self.max_array_len < 6:
            raise ValueError(f"max_array_len is at least 6, not {self.max_array_len}")
        if self.max_map_len < MAX_CONTEXT_PAIRS:
            raise ValueError(f"max_map_len is at least {MAX_CONTEXT_PAIRS}, not {self.max_map_len}")
