"""Every exception of ringback, and the numbers that stand for them on the wire.

All are below `RingbackError`:

- `CallbackError`: the outcome of a call that has no results. It has a class for each `Code`, and
  `executed` says whether the handler ran.
- `LinkError`: an endpoint could not be started, or the broker refused it.
- `UsageError`: the program called a function in a state in which it cannot work. Arguments of a
  wrong type or value raise the builtin `TypeError` and `ValueError`.
- `ProtocolError`: a peer sent something that the protocol does not allow.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Literal, Self, TypeVar, Unpack

from ringback._argument_names import NoOthers, reject

E = TypeVar("E", bound=BaseException)

_MAX_REASON_CHARS = 200
"""How many characters are kept of what an exception says."""

MAX_CODE_CHARS = 64
"""How many characters an error code of an application may have."""

Executed = Literal["no", "maybe", "yes"]
"""Whether the handler of a failed call ran. A call with "no" is safe to try again."""

EXECUTED: tuple[Executed, ...] = ("no", "maybe", "yes")
"""All values of `Executed`. The position of each is its number on the wire."""


class Code(IntEnum):
    """Why a call failed. The number is what an ERROR envelope and a BOUNCE frame carry."""

    UNKNOWN_CALLBACK = 1
    UNKNOWN_PLAYER = 2
    NO_SERVER = 3
    INVALID_PAYLOAD = 4
    TOO_LARGE = 5
    RATE_LIMITED = 6
    OVERLOADED = 7
    FORBIDDEN = 8
    DRAINING = 9
    UNKNOWN_NODE = 11
    TIMEOUT = 20
    PLAYER_LEFT = 21
    SERVER_LOST = 22
    CONNECTION_LOST = 23
    CANCELLED = 24
    HANDLER_ERROR = 30


class RejectCode(IntEnum):
    """Why the broker refused a session, or ended one. The number is what a REJECT frame carries."""

    UNSUPPORTED_VERSION = 1
    PROTOCOL_ERROR = 2
    ID_TAKEN = 3
    SERVER_TAKEN = 4
    FULL = 5
    DRAINING = 6
    NO_SESSION = 7
    LEASE_EXPIRED = 8
    TOO_SLOW = 9
    RATE_LIMITED = 10
    HEARTBEAT_TOO_SHORT = 11
    UNAUTHORIZED = 12
    TOKEN_EXPIRED = 13
    REVOKED = 14
    REPLACED = 15
    KICKED = 16


class RingbackError(Exception):
    """The base of all exceptions of ringback.

    Each can be pickled and copied, also a subclass whose `__init__` takes other arguments.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class with `args`: `__init__` may take others, and would compute them anew.
        return _new, (type(self),), {"args": self.args, **vars(self)}

    def __copy__(self) -> Self:
        return fresh(self)


class UsageError(RingbackError, RuntimeError):
    """A function was called in a state in which it cannot work. The message says what to do."""


class ProtocolError(RingbackError):
    """A peer sent something that the protocol does not allow."""


class CallbackError(RingbackError):
    """The outcome of a call that has no results.

    A handler may raise it, or a subclass, with a code of the application (a str). Code, message and
    data then reach the caller, with `executed="yes"`.

    Args:
        message: what happened, for people.
        code: a `Code`, or a str of 1 to 64 characters that names an error of the application. None, the
            default: the `default_code` of the class.
        executed: whether the handler ran: "no", "maybe" or "yes".
        data: any value that a payload may have.

    Raises:
        TypeError, ValueError: the message, the code or `executed` has the wrong type or value.
    """

    default_code: ClassVar[Code | str] = "APPLICATION_ERROR"
    default_executed: ClassVar[Executed] = "yes"

    code: Code | str
    message: str
    executed: Executed
    data: Any

    def __init__(
        self,
        message: str = "",
        *,
        code: Code | str | None = None,
        executed: Executed | None = None,
        data: object = None,
        **unknown: Unpack[NoOthers],
    ) -> None:
        if unknown:
            reject(CallbackError.__init__, unknown)
        code = self.default_code if code is None else code
        executed = self.default_executed if executed is None else executed
        if not isinstance(code, Code):
            _check_code(code)
        if not isinstance(message, str):
            raise TypeError(f"the message of an error must be a str, not {type(message).__name__}")
        if executed not in EXECUTED:
            raise ValueError(f"executed must be 'no', 'maybe' or 'yes', not {executed!r}")
        self.code = code
        self.message = message
        self.executed = executed
        self.data = data
        super().__init__(message)

    @property
    def code_name(self) -> str:
        """The code as a word: `UNKNOWN_PLAYER`, or the code of the application."""
        return self.code.name if isinstance(self.code, Code) else self.code

    def __str__(self) -> str:
        if "message" not in vars(self):  # a subclass may have left out super().__init__()
            return super().__str__()
        return f"{self.code_name}: {self.message}" if self.message else self.code_name

    def __repr__(self) -> str:
        if "message" not in vars(self):
            return super().__repr__()
        return f"{type(self).__name__}({self.message!r}, code={self.code_name!r}, executed={self.executed!r})"


def _check_code(code: object) -> None:
    """Raise an error for a code that no receiver would accept."""
    allowed = f"the code of an error must be a Code, or a str of 1 to {MAX_CODE_CHARS} characters"
    if not isinstance(code, str):
        raise TypeError(f"{allowed}, not {type(code).__name__}")
    text = str.__str__(code)  # a `class E(str, Enum)` has another __str__, and other subclasses may raise
    if not 0 < len(text) <= MAX_CODE_CHARS:
        raise ValueError(f"{allowed}, not one of {len(text)}")
    if not text.isascii() and text.encode(errors="replace").decode() != text:
        raise ValueError(f"{allowed}, without lone surrogates, not {text!r}")


class UnknownCallback(CallbackError):
    """The endpoint that was called has no callback with this key."""

    default_code = Code.UNKNOWN_CALLBACK
    default_executed = "no"


class UnknownPlayer(CallbackError):
    """No player with this ID is connected."""

    default_code = Code.UNKNOWN_PLAYER
    default_executed = "no"


class NoServer(CallbackError):
    """No server is connected."""

    default_code = Code.NO_SERVER
    default_executed = "no"


class InvalidPayload(CallbackError):
    """The payload cannot be encoded, or the endpoint that was called does not accept it."""

    default_code = Code.INVALID_PAYLOAD
    default_executed = "no"


class TooLarge(CallbackError):
    """The call is larger than the limit allows."""

    default_code = Code.TOO_LARGE
    default_executed = "no"


class RateLimited(CallbackError):
    """The caller calls too often. `data["retry_after"]` is the time in s until the next call may run."""

    default_code = Code.RATE_LIMITED
    default_executed = "no"


class Overloaded(CallbackError):
    """A queue or table on the way is full."""

    default_code = Code.OVERLOADED
    default_executed = "no"


class Forbidden(CallbackError):
    """The caller may not call this callback."""

    default_code = Code.FORBIDDEN
    default_executed = "no"


class Draining(CallbackError):
    """The broker is about to stop, and takes no new calls."""

    default_code = Code.DRAINING
    default_executed = "no"


class UnknownNode(CallbackError):
    """An operator named a node to which its broker has no link."""

    default_code = Code.UNKNOWN_NODE
    default_executed = "no"


class CallTimeout(CallbackError, TimeoutError):
    """No reply came within the timeout of the call."""

    default_code = Code.TIMEOUT
    default_executed = "maybe"


class PlayerLeft(CallbackError):
    """The player that was called left before it replied."""

    default_code = Code.PLAYER_LEFT
    default_executed = "maybe"


class ServerLost(CallbackError):
    """The server left before it replied."""

    default_code = Code.SERVER_LOST
    default_executed = "maybe"


class ConnectionLost(CallbackError):
    """The link to the broker was lost, or the endpoint was closed, before the reply came."""

    default_code = Code.CONNECTION_LOST
    default_executed = "maybe"


class Cancelled(CallbackError):
    """The caller cancelled the call."""

    default_code = Code.CANCELLED
    default_executed = "maybe"


class HandlerError(CallbackError):
    """The handler raised something other than a `CallbackError` with a code of the application."""

    default_code = Code.HANDLER_ERROR
    default_executed = "yes"


ERROR_CLASSES: dict[Code, type[CallbackError]] = {
    Code.UNKNOWN_CALLBACK: UnknownCallback,
    Code.UNKNOWN_PLAYER: UnknownPlayer,
    Code.NO_SERVER: NoServer,
    Code.INVALID_PAYLOAD: InvalidPayload,
    Code.TOO_LARGE: TooLarge,
    Code.RATE_LIMITED: RateLimited,
    Code.OVERLOADED: Overloaded,
    Code.FORBIDDEN: Forbidden,
    Code.DRAINING: Draining,
    Code.UNKNOWN_NODE: UnknownNode,
    Code.TIMEOUT: CallTimeout,
    Code.PLAYER_LEFT: PlayerLeft,
    Code.SERVER_LOST: ServerLost,
    Code.CONNECTION_LOST: ConnectionLost,
    Code.CANCELLED: Cancelled,
    Code.HANDLER_ERROR: HandlerError,
}
"""The class of each code. A test checks that none is missing."""


def _new(kind: type[RingbackError]) -> RingbackError:
    """Return an empty error, for pickle and copy to fill."""
    return kind.__new__(kind)


def reason_of(error: BaseException) -> str:
    """Return what an exception says, in words. A class of the program may raise when it is asked."""
    try:
        text = str(error)[:_MAX_REASON_CHARS]
    except Exception:
        text = ""
    return text or type(error).__name__


def stripped(error: E) -> E:
    """Return an error that was raised and is kept now, without its traceback and what it came from.

    Their frames hold whatever the program was doing, and the call that keeps the error.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def fresh(error: E) -> E:
    """Return a copy of a kept error, to be raised: with its cause and notes, and without a traceback.

    To raise the kept error itself would make a cycle of it, its traceback and whatever keeps it. Each time
    it is raised, its traceback would grow, also that of another thread.
    """
    copy = type(error).__new__(type(error))
    copy.args = error.args
    copy.__dict__.update(vars(error))
    if hasattr(error, "__notes__"):
        copy.__notes__ = list(error.__notes__)
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    copy.__suppress_context__ = error.__suppress_context__
    return copy


def call_error(
    code: int | str, message: str, executed: Executed | None = None, data: object = None
) -> CallbackError:
    """Return the exception for a code: of the class of its `Code`, or a plain `CallbackError`."""
    if isinstance(code, str):
        return CallbackError(message, code=code, executed=executed, data=data)
    return ERROR_CLASSES[Code(code)](message, executed=executed, data=data)


class LinkError(RingbackError):
    """An endpoint could not be started."""


class BrokerUnreachable(LinkError, ConnectionError):
    """No broker answered at the address, or at any of several, within `connect_timeout`."""


class Refused(LinkError):
    """The broker refused a session, or ended it. `code` is a `RejectCode`."""

    def __init__(self, code: RejectCode, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(code, message)  # both, so that it can be copied and pickled

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


class IDTaken(Refused):
    """Another player with this ID is connected."""


class ServerTaken(Refused):
    """Another server is connected."""


class Unauthorized(Refused):
    """The broker does not accept the public key or token, or it is for something else."""


REFUSED_CLASSES: dict[RejectCode, type[Refused]] = {
    RejectCode.ID_TAKEN: IDTaken,
    RejectCode.SERVER_TAKEN: ServerTaken,
    RejectCode.UNAUTHORIZED: Unauthorized,
    RejectCode.TOKEN_EXPIRED: Unauthorized,
    RejectCode.REVOKED: Unauthorized,
}


def refused(code: RejectCode, message: str) -> Refused:
    """Return the exception for a REJECT."""
    return REFUSED_CLASSES.get(code, Refused)(code, message)
