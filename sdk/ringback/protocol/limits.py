"""The bounds of the protocol, and the limits that an endpoint sets for what it accepts."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ringback._argument_names import checks_names

MAX_KEY_BYTES = 256
MAX_PLAYER_ID_BYTES = 64
MAX_PLAYER_ID = 2**63 - 1
MAX_KEYS = 1024
"""How many keys a HELLO or KEYS frame may list."""

MAX_PING_BYTES = 64
MAX_CONTEXT_PAIRS = 8
MAX_CONTEXT_BYTES = 1024
"""The tracing context that a CALL may carry: its pairs, and the bytes of all names and values together."""

MAX_TERMS_CHARS = 200
MAX_SCHEMA_BYTES = 4096
MAX_SCHEMAS_BYTES = 256 * 1024
"""The JSON Schema of one callback, and those of all callbacks that a HELLO or KEYS frame has, in bytes."""

MAX_REASON_CHARS = 200
"""How much is kept of the reason why a session is refused or ended."""

MAX_GRACE_S = 86_400
"""The longest time that an operator may give a broker to drain."""

MAX_TOKEN_CHARS = 2048
"""A longer token is refused unread. One with 28 allowed public keys and a long ID fits."""

TICKET_BYTES = 16
"""The ticket that the broker gives with a WELCOME."""

MAX_ENVELOPE_BYTES = 1024 * 1024
"""The largest encoded call or reply, with everything in it."""

MAX_FRAME_BYTES = MAX_ENVELOPE_BYTES + 4096
"""The largest frame. It has room for an envelope and all headers, also those of a BOUNCE."""

MAX_ENVELOPES = 1024
"""How many envelopes a DATA or RELAY frame may hold."""

BATCH_ENVELOPES = 256
BATCH_BYTES = 64 * 1024
"""A sender starts a new frame when the present one has reached either bound."""

BUNDLE_FRAMES = 256
"""How many frames a BUNDLE may carry. A sender also starts another one at BATCH_BYTES."""

PLAYER_HEARTBEAT_S = 1.0
TRUSTED_HEARTBEAT_S = 0.5
"""The default intervals of heartbeats. A player names its interval in its HELLO; in a crowd, the broker
asks for a longer one."""

MAX_HEARTBEAT_S = 60
"""The longest interval of heartbeats that a broker may ask for."""

IDS_A_FRAME = 1000
"""How many player IDs one JOINED or LEFT frame may have, and how many rows an ANSWER."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that an endpoint sets for what it accepts. They are checked before a handler runs.

    Attributes:
        max_call_bytes: the bytes of one encoded call or reply; at most 1 MiB. This is also checked before a
            call is sent, so that a call that is too large fails at once.
        max_depth: how deeply lists and maps may be nested; at most 64.
        max_array_len: the items of one list; at least 6, because an envelope is a list. A frame with more
            envelopes is read one envelope at a time, which is slower.
        max_map_len: the pairs of one map; at least 8, because the context of a call is a map.
        max_in_flight: the calls in flight from one caller, and to one peer.
        max_in_flight_bytes: the bytes of the calls in flight from one caller.
        max_running: the calls in flight from all callers together.
        max_calls_per_s: the calls per second from one caller, with a burst of one second; None for no limit.
        max_pending: the calls of this endpoint itself that may wait for replies.
        max_queued_bytes: the bytes that may wait for a slow link.
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
            raise ValueError(
                f"max_call_bytes must be at most {MAX_ENVELOPE_BYTES}, not {self.max_call_bytes}"
            )
        if self.max_depth > 64:
            raise ValueError(f"max_depth must be at most 64, not {self.max_depth}")
        if self.max_array_len < 6:
            raise ValueError(f"max_array_len must be at least 6, not {self.max_array_len}")
        if self.max_map_len < MAX_CONTEXT_PAIRS:
            raise ValueError(f"max_map_len must be at least {MAX_CONTEXT_PAIRS}, not {self.max_map_len}")


Limits.__init__ = checks_names(Limits.__init__)  # type: ignore[method-assign]  # the one that dataclass makes
