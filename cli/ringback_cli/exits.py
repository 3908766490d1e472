"""Exit codes: one for each class of error, so that a script can tell them apart."""

from __future__ import annotations

import re
import sys
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringback.errors import CallbackError


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
    INVALID_ANSWER = 25
    HANDLER_ERROR = 30
    APPLICATION_ERROR = 31
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


MEANINGS: dict[Exit, str] = {
    Exit.OK: "all went well",
    Exit.FAILED: "anything that has no code of its own",
    Exit.USAGE: "an argument, an option or the JSON is wrong",
    Exit.NO_BROKER: "no broker answered in time",
    Exit.REFUSED: "the broker refused: the player ID is taken, it is full",
    Exit.BIND_FAILED: "the broker can't listen at an address",
    Exit.SOME_FAILED: "trigger all: at least one player's call failed",
    Exit.FORCED: "the broker was ended by a second signal",
    Exit.UNKNOWN_CALLBACK: "nothing is registered under the key",
    Exit.UNKNOWN_PLAYER: "no such player is connected",
    Exit.NO_SERVER: "no server is connected",
    Exit.INVALID_PAYLOAD: "the payload can't be carried, or is not accepted",
    Exit.TOO_LARGE: "the payload is too large",
    Exit.RATE_LIMITED: "the caller calls too often",
    Exit.OVERLOADED: "a queue on the way is full",
    Exit.FORBIDDEN: "the caller may not call this",
    Exit.DRAINING: "the broker is about to stop",
    Exit.TIMEOUT: "no answer in time",
    Exit.PLAYER_LEFT: "the player left before it answered",
    Exit.SERVER_LOST: "the server left before it answered",
    Exit.CONNECTION_LOST: "the link to the broker was lost",
    Exit.CANCELLED: "the call was cancelled",
    Exit.INVALID_ANSWER: "an answer came that can't be read",
    Exit.HANDLER_ERROR: "the handler raised",
    Exit.APPLICATION_ERROR: "the handler gave an error of its own",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.OUTPUT_CLOSED: "nobody reads standard output any more",
}
"""What each code says; `ringback --help` and docs/cli.md list them."""


class Failure(Exception):
    """Why a command ends without doing what it was told.

    Args:
        exit: what the process ends with.
        message: one line for people.
        code: what stands before the message; the name of the exit code unless given.
    """

    def __init__(self, exit: Exit, message: str, *, code: str | None = None) -> None:
        self.exit = exit
        self.message = message
        self.code = exit.name if code is None else code
        super().__init__(message)


def exit_of(error: CallbackError) -> Exit:
    """Gives the exit code for the error of a call."""
    from ringback.errors import Code

    if not isinstance(error.code, Code):
        return Exit.APPLICATION_ERROR
    code = Exit[error.code.name]
    if code < Exit.TIMEOUT and error.executed != "no":
        # An unreadable answer has the code of an unreadable payload; yet the tens promise that
        # trying again is safe.
        return Exit.INVALID_ANSWER
    return code


def failure_of(error: Exception) -> Failure:
    """Gives the exit code and the line for anything that a command raises."""
    if isinstance(error, Failure):
        return error
    # Typer's own errors. Their base class has another module in each of its versions.
    if callable(format_message := getattr(error, "format_message", None)):
        return Failure(Exit.USAGE, _with_hint(str(format_message())))
    if "ringback.errors" in sys.modules:
        from ringback import errors

        if isinstance(error, errors.CallbackError):
            return Failure(exit_of(error), error.message, code=error.code_name)
        if isinstance(error, errors.BrokerUnreachable):
            return Failure(Exit.NO_BROKER, str(error))
        if isinstance(error, errors.Refused):
            return Failure(Exit.REFUSED, error.message, code=error.code.name)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Failure(
        Exit.FAILED, f"{what} (this should not happen; with RINGBACK_TRACEBACK=1 it shows from where)"
    )


def _with_hint(message: str) -> str:
    if re.search(r"option:? '?-[\d.]", message):
        return f"{message.rstrip('.')}. Before what begins with a minus put --, as in: -- -5"
    return message


def epilog() -> str:
    r"""Gives the list for `--help`. \b keeps typer from joining the lines."""
    width = max(len(code.name) for code in Exit)
    lines = [f"{code:>5}  {code.name:<{width}}  {MEANINGS[code]}" for code in Exit]
    return "\n".join(
        [
            "\b",
            "Errors are one line on standard error, CODE: message. Exit codes:",
            *lines,
            "",
            "\b",
            "10 to 19: the handler did not run. 20 to 29: nobody knows. 30 to 39: it ran.",
        ]
    )
