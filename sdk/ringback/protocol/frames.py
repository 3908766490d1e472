"""Frames: the 8-byte header, the types, and which role may send which.

A frame is one part of a message. `docs/protocol.md` is the specification; this module and `control` are
its code.
"""

from __future__ import annotations

import struct
from enum import IntEnum, StrEnum

VERSION = 1
SUPPORTED_VERSIONS = (1,)
HEADER = struct.Struct("!BBHI")
"""Version, type, code (0 except in a BOUNCE) and link number, in network byte order."""

HEADER_BYTES = HEADER.size
SERVER_LINK = 0
"""The link number of the server that acts. Operators have numbers from 1."""

FIRST_OWN_LINK = 2**31
"""Servers have link numbers of their own from here, for the calls that they make. No operator reaches it."""


class FrameType(IntEnum):
    """The type of a frame. The number is the second byte of its header."""

    HELLO = 1
    WELCOME = 2
    REJECT = 3
    BYE = 4
    PING = 5
    PONG = 6
    JOINED = 7
    LEFT = 8
    SERVER_UP = 9
    SERVER_DOWN = 10
    DRAINING = 11
    KEYS = 12
    QUERY = 13
    ANSWER = 14
    ORDER = 15
    DATA = 16
    RELAY = 17
    BOUNCE = 18
    BUNDLE = 19
    REPORT = 20
    WATCH = 21


class Role(StrEnum):
    """What an endpoint is."""

    PLAYER = "player"
    SERVER = "server"
    OPERATOR = "operator"


_FROM_ALL = {FrameType.BYE, FrameType.PING, FrameType.PONG, FrameType.KEYS, FrameType.DATA}
_FROM_TRUSTED = _FROM_ALL | {FrameType.RELAY, FrameType.BUNDLE, FrameType.REPORT}
_FROM_SERVER = _FROM_TRUSTED | {FrameType.ORDER}
BROKER_ACCEPTS: dict[Role | None, frozenset[FrameType]] = {
    None: frozenset({FrameType.HELLO}),
    Role.PLAYER: frozenset(_FROM_ALL),
    Role.SERVER: frozenset(_FROM_SERVER),
    Role.OPERATOR: frozenset(_FROM_SERVER | {FrameType.QUERY}),
}
"""The frame types that the broker accepts from a peer, by its role; None before its HELLO."""


class SessionState(StrEnum):
    """The state of a session, as an endpoint sees it."""

    GREETING = "greeting"
    STANDBY = "standby"
    READY = "ready"
    RETIRING = "retiring"
    DRAINING = "draining"
    ENDED = "ended"


def _endpoint_transitions() -> dict[Role, dict[tuple[SessionState, FrameType], SessionState]]:
    greeting, ready, draining = SessionState.GREETING, SessionState.READY, SessionState.DRAINING
    common = {FrameType.PING, FrameType.PONG, FrameType.DATA, FrameType.BOUNCE}
    own = {
        Role.PLAYER: {FrameType.SERVER_UP, FrameType.SERVER_DOWN},
        Role.SERVER: {
            FrameType.JOINED,
            FrameType.LEFT,
            FrameType.RELAY,
            FrameType.BUNDLE,
            FrameType.ANSWER,
            FrameType.WATCH,
        },
        Role.OPERATOR: {
            FrameType.LEFT,
            FrameType.SERVER_UP,
            FrameType.SERVER_DOWN,
            FrameType.RELAY,
            FrameType.BUNDLE,
            FrameType.ANSWER,
            FrameType.WATCH,
        },
    }
    tables = {}
    for role in Role:
        table = {
            (greeting, FrameType.WELCOME): ready,
            (ready, FrameType.DRAINING): draining,
            **{(state, FrameType.REJECT): SessionState.ENDED for state in (greeting, ready, draining)},
            **{(state, kind): state for state in (ready, draining) for kind in common | own[role]},
        }
        if role is Role.SERVER:
            table[greeting, FrameType.JOINED] = greeting
            table |= _transitions_between_servers(common | own[role])
        tables[role] = table
    return tables


def _transitions_between_servers(
    served: set[FrameType],
) -> dict[tuple[SessionState, FrameType], SessionState]:
    """Return the transitions of a server that stands by, begins to act, or hands over.

    A WELCOME while greeting leads to `standby` if it says so; see `LinkState.stand_by`.

    Args:
        served: the frame types that a server takes while it acts.
    """
    ready, standby, retiring = SessionState.READY, SessionState.STANDBY, SessionState.RETIRING
    waiting = {FrameType.PING, FrameType.PONG, FrameType.JOINED, FrameType.WATCH, FrameType.ANSWER}
    return {
        (standby, FrameType.WELCOME): ready,
        (ready, FrameType.WELCOME): retiring,
        **{(state, FrameType.DRAINING): SessionState.DRAINING for state in (standby, retiring)},
        **{(state, FrameType.REJECT): SessionState.ENDED for state in (standby, retiring)},
        **{(standby, kind): standby for kind in waiting},
        **{(retiring, kind): retiring for kind in served},
    }


ENDPOINT_TRANSITIONS = _endpoint_transitions()
"""The next state for a state and a frame type, by role. Other frames are ignored and counted."""


def header(frame_type: FrameType, link: int = 0, code: int = 0) -> bytes:
    """Return the header of a frame: its first 8 bytes."""
    return HEADER.pack(VERSION, frame_type, code, link)
