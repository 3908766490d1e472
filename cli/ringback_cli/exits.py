"""Exit codes: one for each class of error, so that a script can tell them apart."""

from __future__ import annotations

from enum import IntEnum

from ringback.errors import Code


class Exit(IntEnum):
    """What a process of ringback ends with. Tens: the handler did not run; twenties: nobody knows;
    thirties: it ran."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_BROKER = 3
    REFUSED = 4
    BIND_FAILED = 5
    SOME_FAILED = 6
    FORCED = 7
    UNKNOWN_CALLBACK = 10
    UNKNOWN_PLAYER = 11
    NO_SERVER = 12
    INVALID_PAYLOAD = 13
    TOO_LARGE = 14
    RATE_LIMITED = 15
    OVERLOADED = 16
    FORBIDDEN = 17
    DRAINING = 18
    TIMEOUT = 20
    PLAYER_LEFT = 21
    SERVER_LOST = 22
    CONNECTION_LOST = 23
    CANCELLED = 24
    HANDLER_ERROR = 30
    APPLICATION_ERROR = 31


def exit_of(code: Code | str) -> Exit:
    """Gives the exit code for the error of a call."""
    return Exit[code.name] if isinstance(code, Code) else Exit.APPLICATION_ERROR
