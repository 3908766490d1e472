"""Callbacks between one server and many players through a ZeroMQ broker: the blocking face.

`ringback.aio` has the same classes for asyncio. What a program does not use is not loaded: the broker, say,
needs nothing of the faces.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ringback._version import __version__

if TYPE_CHECKING:
    from ringback._runtime.call_context import remaining as remaining
    from ringback.blocking import Call as Call
    from ringback.blocking import CallGroup as CallGroup
    from ringback.blocking import Operator as Operator
    from ringback.blocking import Player as Player
    from ringback.blocking import Server as Server
    from ringback.core.execution import Execution as Execution
    from ringback.core.permissions import OPERATORS as OPERATORS
    from ringback.core.registry import Registration as Registration
    from ringback.errors import (
        BrokerUnreachable as BrokerUnreachable,
    )
    from ringback.errors import (
        CallbackError as CallbackError,
    )
    from ringback.errors import (
        CallTimeout as CallTimeout,
    )
    from ringback.errors import (
        Cancelled as Cancelled,
    )
    from ringback.errors import (
        Code as Code,
    )
    from ringback.errors import (
        ConnectionLost as ConnectionLost,
    )
    from ringback.errors import (
        Draining as Draining,
    )
    from ringback.errors import (
        Forbidden as Forbidden,
    )
    from ringback.errors import (
        HandlerError as HandlerError,
    )
    from ringback.errors import (
        IDTaken as IDTaken,
    )
    from ringback.errors import (
        InvalidPayload as InvalidPayload,
    )
    from ringback.errors import (
        LinkError as LinkError,
    )
    from ringback.errors import (
        NoServer as NoServer,
    )
    from ringback.errors import (
        Overloaded as Overloaded,
    )
    from ringback.errors import (
        PlayerLeft as PlayerLeft,
    )
    from ringback.errors import (
        RateLimited as RateLimited,
    )
    from ringback.errors import (
        Refused as Refused,
    )
    from ringback.errors import (
        RejectCode as RejectCode,
    )
    from ringback.errors import (
        RingbackError as RingbackError,
    )
    from ringback.errors import (
        ServerLost as ServerLost,
    )
    from ringback.errors import (
        ServerTaken as ServerTaken,
    )
    from ringback.errors import (
        TooLarge as TooLarge,
    )
    from ringback.errors import (
        Unauthorized as Unauthorized,
    )
    from ringback.errors import (
        UnknownCallback as UnknownCallback,
    )
    from ringback.errors import (
        UnknownPlayer as UnknownPlayer,
    )
    from ringback.errors import (
        UsageError as UsageError,
    )
    from ringback.protocol.limits import Limits as Limits
    from ringback.protocol.player_ids import PlayerID as PlayerID

_NAMES = {
    "ringback.blocking": (
        "Call",
        "CallGroup",
        "Operator",
        "Player",
        "Server",
    ),
    "ringback._runtime.call_context": ("remaining",),
    "ringback.core.execution": ("Execution",),
    "ringback.core.registry": ("Registration",),
    "ringback.core.permissions": ("OPERATORS",),
    "ringback.errors": (
        "BrokerUnreachable",
        "CallbackError",
        "CallTimeout",
        "Cancelled",
        "Code",
        "ConnectionLost",
        "Draining",
        "Forbidden",
        "HandlerError",
        "IDTaken",
        "InvalidPayload",
        "LinkError",
        "NoServer",
        "Overloaded",
        "PlayerLeft",
        "RateLimited",
        "Refused",
        "RejectCode",
        "RingbackError",
        "ServerLost",
        "ServerTaken",
        "TooLarge",
        "Unauthorized",
        "UnknownCallback",
        "UnknownPlayer",
        "UsageError",
    ),
    "ringback.protocol.limits": ("Limits",),
    "ringback.protocol.player_ids": ("PlayerID",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'ringback' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
