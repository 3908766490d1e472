"""Callbacks between one server and many players through a ZeroMQ broker: the blocking face.

`ringback.aio` has the same classes for asyncio.
"""

from ringback._blocking import Call, CallGroup, Operator, Player, Server
from ringback._context import remaining
from ringback._version import __version__
from ringback.core.calls import Execution
from ringback.core.handlers import Registration
from ringback.core.permissions import OPERATORS
from ringback.errors import (
    BrokerUnreachable,
    CallbackError,
    CallTimeout,
    Cancelled,
    Code,
    ConnectionLost,
    Draining,
    Forbidden,
    HandlerError,
    IDTaken,
    InvalidPayload,
    LinkError,
    NoServer,
    Overloaded,
    PlayerLeft,
    RateLimited,
    Refused,
    RejectCode,
    RingbackError,
    ServerLost,
    ServerTaken,
    TooLarge,
    Unauthorized,
    UnknownCallback,
    UnknownPlayer,
    UsageError,
)
from ringback.protocol.limits import Limits
from ringback.protocol.names import PlayerID

__all__ = [
    "OPERATORS",
    "BrokerUnreachable",
    "Call",
    "CallGroup",
    "CallTimeout",
    "CallbackError",
    "Cancelled",
    "Code",
    "ConnectionLost",
    "Draining",
    "Execution",
    "Forbidden",
    "HandlerError",
    "IDTaken",
    "InvalidPayload",
    "Limits",
    "LinkError",
    "NoServer",
    "Operator",
    "Overloaded",
    "Player",
    "PlayerID",
    "PlayerLeft",
    "RateLimited",
    "Refused",
    "Registration",
    "RejectCode",
    "RingbackError",
    "Server",
    "ServerLost",
    "ServerTaken",
    "TooLarge",
    "Unauthorized",
    "UnknownCallback",
    "UnknownPlayer",
    "UsageError",
    "__version__",
    "remaining",
]
