"""Callbacks between one server and many players through a ZeroMQ broker: the blocking face.

`ringback.aio` has the same classes for asyncio.
"""

# A module is loaded when one of its names is first used. So the broker, for example, loads no face.

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ringback._version import __version__

if TYPE_CHECKING:  # for type checkers and editors; a test compares it with _NAMES
    from ringback._runtime.call_context import remaining as remaining
    from ringback.blocking import (
        Call as Call,
        CallGroup as CallGroup,
        Operator as Operator,
        Player as Player,
        Server as Server,
    )
    from ringback.contracts import ClientCallback as ClientCallback, ServerCallback as ServerCallback
    from ringback.core.execution import Execution as Execution
    from ringback.core.permissions import OPERATORS as OPERATORS
    from ringback.core.registry import Registration as Registration
    from ringback.core.retry import Retry as Retry
    from ringback.errors import (
        BrokerUnreachable as BrokerUnreachable,
        CallbackError as CallbackError,
        CallTimeout as CallTimeout,
        Cancelled as Cancelled,
        Code as Code,
        ConnectionLost as ConnectionLost,
        Draining as Draining,
        Forbidden as Forbidden,
        HandlerError as HandlerError,
        IDTaken as IDTaken,
        InvalidPayload as InvalidPayload,
        LinkError as LinkError,
        NoServer as NoServer,
        Overloaded as Overloaded,
        PlayerLeft as PlayerLeft,
        RateLimited as RateLimited,
        Refused as Refused,
        RejectCode as RejectCode,
        RingbackError as RingbackError,
        ServerLost as ServerLost,
        ServerTaken as ServerTaken,
        TooLarge as TooLarge,
        Unauthorized as Unauthorized,
        UnknownCallback as UnknownCallback,
        UnknownNode as UnknownNode,
        UnknownPlayer as UnknownPlayer,
        UsageError as UsageError,
    )
    from ringback.protocol.limits import Limits as Limits
    from ringback.protocol.player_ids import PlayerID as PlayerID

_NAMES = {
    "ringback.blocking": "Call CallGroup Operator Player Server",
    "ringback._runtime.call_context": "remaining",
    "ringback.contracts": "ClientCallback ServerCallback",
    "ringback.core.execution": "Execution",
    "ringback.core.permissions": "OPERATORS",
    "ringback.core.registry": "Registration",
    "ringback.core.retry": "Retry",
    "ringback.errors": """
        BrokerUnreachable CallbackError CallTimeout Cancelled Code ConnectionLost Draining Forbidden
        HandlerError IDTaken InvalidPayload LinkError NoServer Overloaded PlayerLeft RateLimited Refused
        RejectCode RingbackError ServerLost ServerTaken TooLarge Unauthorized UnknownCallback
        UnknownNode UnknownPlayer UsageError
    """,
    "ringback.protocol.limits": "Limits",
    "ringback.protocol.player_ids": "PlayerID",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

_TO_IMPORT = ("aio", "credentials", "testing", "tokens", "tracing")
"""Modules for users. `import ringback` alone loads none of them."""

__all__ = [*_MODULES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        advice = f": write `import ringback.{name}`" if name in _TO_IMPORT else ""
        text = f"module 'ringback' has no attribute {name!r}{advice}"
        raise AttributeError(text, name=name, obj=sys.modules[__name__])  # Python then says what is near
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
