"""Exit codes: each class of error has one of its own, so that a script can tell them apart."""

from __future__ import annotations

import re
import sys
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringback.errors import CallbackError


class Exit(IntEnum):
    """The exit codes of `ringback`.

    10 to 19: the handler did not run. 20 to 29: it may have run. 30 to 39: it ran.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_BROKER = 3
    REFUSED = 4
    BIND_FAILED = 5
    SOME_FAILED = 6
    FORCED = 7
    REALM_FAILED = 8
    UNKNOWN_NODE = 9
    UNKNOWN_CALLBACK = 10
    UNKNOWN_PLAYER = 11
    NO_SERVER = 12
    INVALID_PAYLOAD = 13
    TOO_LARGE = 14
    RATE_LIMITED = 15
    OVERLOADED = 16
    FORBIDDEN = 17
    DRAINING = 18
    NOT_BEGUN = 19
    TIMEOUT = 20
    PLAYER_LEFT = 21
    SERVER_LOST = 22
    CONNECTION_LOST = 23
    CANCELLED = 24
    INVALID_ANSWER = 25
    UNCERTAIN = 26
    HANDLER_ERROR = 30
    APPLICATION_ERROR = 31
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


HELP_WIDTH = 78
"""The width of a line of `--help`, without its indent of two."""

MEANINGS: dict[Exit, str] = {
    Exit.OK: "the command succeeded",
    Exit.FAILED: "an error that has no exit code of its own",
    Exit.USAGE: "an argument, an option or the JSON is wrong",
    Exit.NO_BROKER: "no broker answered in time",
    Exit.REFUSED: "the broker refused the session: it is full, the player ID is taken",
    Exit.BIND_FAILED: "the broker cannot listen on an address",
    Exit.SOME_FAILED: "the call of at least one player failed, or at least one node did not answer",
    Exit.FORCED: "a second signal stopped the broker at once",
    Exit.REALM_FAILED: "the realm cannot be used: credentials, bucket, permissions, node name",
    Exit.UNKNOWN_NODE: "the broker has no link to such a node",
    Exit.UNKNOWN_CALLBACK: "nothing is registered under the key",
    Exit.UNKNOWN_PLAYER: "no such player is connected",
    Exit.NO_SERVER: "no server is connected",
    Exit.INVALID_PAYLOAD: "the payload cannot be encoded, or is not accepted",
    Exit.TOO_LARGE: "the payload is too large",
    Exit.RATE_LIMITED: "the caller makes too many calls a second",
    Exit.OVERLOADED: "a queue on the way is full",
    Exit.FORBIDDEN: "the caller may not do this",
    Exit.DRAINING: "the broker is draining",
    Exit.NOT_BEGUN: "the handler was stopped before it began",
    Exit.TIMEOUT: "no reply came in time",
    Exit.PLAYER_LEFT: "the player left before it replied",
    Exit.SERVER_LOST: "the server left before it replied",
    Exit.CONNECTION_LOST: "the link to the broker was lost",
    Exit.CANCELLED: "the call was cancelled",
    Exit.INVALID_ANSWER: "the reply cannot be decoded, or there was no room for it",
    Exit.UNCERTAIN: "the call failed at its handler, which may have run",
    Exit.HANDLER_ERROR: "the handler raised an exception",
    Exit.APPLICATION_ERROR: "the handler replied with an error of its own",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.OUTPUT_CLOSED: "nobody reads standard output any more",
}
"""The meaning of each exit code. `ringback --help` and docs/cli.md list them."""


NEEDED = {
    "rich": "the live table needs rich (--count N and --json do not)",
    "tomlkit": "editing the access list needs tomlkit",
}
"""The packages of the extra `broker` that commands import, and what is said where one is missing."""


class Failure(Exception):
    """The reason why a command fails, and the exit code that says so.

    Args:
        exit: the exit code of the process.
        message: one line for people.
        code: the word before the message; None: the name of the exit code.
        call: the error of the call that failed; None: it was no call that failed.
        hint: what to do about it, in one line; "": the message says it, or nobody knows.
    """

    def __init__(
        self,
        exit: Exit,
        message: str,
        *,
        code: str | None = None,
        call: CallbackError | None = None,
        hint: str = "",
    ) -> None:
        self.exit = exit
        self.message = message
        self.code = exit.name if code is None else code
        self.call = call
        self.hint = hint
        super().__init__(message)


def failure_of(error: Exception) -> Failure:
    """Return the exit code and the line for any exception of a command."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name in NEEDED:
        from ringback.extras import install_command

        return Failure(Exit.USAGE, f"{NEEDED[error.name]}: {install_command('broker')}")
    if isinstance(error, ModuleNotFoundError):
        from ringback.systems import lack_of_unix

        if (lack := lack_of_unix(error)) is not None:
            return Failure(Exit.FAILED, f"this command {lack}")
    # An error of typer itself. The base class of these moves between typer's versions.
    if callable(format_message := getattr(error, "format_message", None)):
        help_of = getattr(getattr(error, "ctx", None), "command_path", "ringback")
        return Failure(Exit.USAGE, _with_hint(_plain(str(format_message())), help_of))
    if "ringback.errors" in sys.modules:
        from ringback import errors

        if isinstance(error, errors.CallbackError):
            return Failure(exit_of(error), error.message, code=error.code_name, call=error)
        if isinstance(error, errors.BrokerUnreachable):
            return Failure(Exit.NO_BROKER, str(error))
        if isinstance(error, errors.Refused):
            return Failure(Exit.REFUSED, error.message, code=error.code.name)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = "this is a bug of ringback; set RINGBACK_TRACEBACK=1 to see where it comes from"
    return Failure(Exit.FAILED, f"{what} ({hint})")


def _plain(message: str) -> str:
    """Return a message of typer on one line, without the words that its checks put in front of a reason."""
    return " ".join(message.split()).replace(": Value error, ", ": ")


def _with_hint(message: str, command: str) -> str:
    if re.search(r"option:? '?-[\d.]", message):
        return f"{message.rstrip('.')}. Put -- before an argument that begins with a minus, as in: -- -5"
    if re.match("Missing|No such|Got unexpected", message) and "?" not in message:  # it names nothing else
        with_help = f"{message.rstrip('.')}: see `{command} --help`"
        if re.search(r"option:? '?-[^-]", message):  # one in 85 public keys begins so
            return f"{with_help}. Put -- before an argument that begins with a minus"
        return with_help
    return message


def exit_of(error: CallbackError) -> Exit:
    """Return the exit code for the error of a call."""
    from ringback.errors import Code

    code = Exit[error.code.name] if isinstance(error.code, Code) else Exit.APPLICATION_ERROR
    if code < Exit.TIMEOUT and error.executed != "no":
        # A reply that cannot be decoded has the error code of such a payload. But an exit code from 10 to 19
        # promises that trying again is safe.
        return Exit.INVALID_ANSWER
    if code >= Exit.HANDLER_ERROR and error.executed != "yes":  # a task that was cancelled before it began
        return Exit.NOT_BEGUN if error.executed == "no" else Exit.UNCERTAIN
    return code


def epilog() -> str:
    """Return the list of exit codes for `--help`."""
    from textwrap import wrap  # only this needs it

    width = max(len(code.name) for code in Exit)
    lines = []
    for code in Exit:
        begin = f"{code:>3}  {code.name:<{width}}  "
        lines += wrap(MEANINGS[code], HELP_WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))
    keep_lines = "\b"  # tells typer not to join the lines of the paragraph
    return "\n".join(
        [
            keep_lines,
            "Errors go to standard error as `CODE: message`. Lines `data:`, `executed:` and",
            "`hint:` follow if they say more. With --json an error is one line of JSON.",
            "Exit codes:",
            *lines,
            "",
            keep_lines,
            "10 to 19: the handler did not run. 20 to 29: it may have run; the line",
            "`executed:` says if more is known. 30 to 39: it ran.",
        ]
    )
