"""Tests of programs that use ringback: a broker in the test's process, endpoints, faults and a recorder.

`ringback.testing.plugin` has the fixtures.
"""

# Names are imported when they are used: pytest loads the plugin in each program, also if no test uses it.

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringback.testing.endpoints import AioEndpoints as AioEndpoints
    from ringback.testing.endpoints import Endpoints as Endpoints
    from ringback.testing.local_broker import LocalBroker as LocalBroker
    from ringback.testing.log_errors import Errors as Errors
    from ringback.testing.log_errors import HiddenErrorsWarning as HiddenErrorsWarning
    from ringback.testing.log_errors import LoggedError as LoggedError
    from ringback.testing.network import Network as Network
    from ringback.testing.presence import reconnected as reconnected
    from ringback.testing.presence import until_acting as until_acting
    from ringback.testing.presence import until_connected as until_connected
    from ringback.testing.presence import until_disconnected as until_disconnected
    from ringback.testing.presence import until_joined as until_joined
    from ringback.testing.presence import until_left as until_left
    from ringback.testing.recording import AioCalls as AioCalls
    from ringback.testing.recording import Calls as Calls
    from ringback.testing.recording import RecordedCall as RecordedCall

_MODULES = {
    "AioEndpoints": "endpoints",
    "Endpoints": "endpoints",
    "LocalBroker": "local_broker",
    "Errors": "log_errors",
    "HiddenErrorsWarning": "log_errors",
    "LoggedError": "log_errors",
    "Network": "network",
    "reconnected": "presence",
    "until_acting": "presence",
    "until_connected": "presence",
    "until_disconnected": "presence",
    "until_joined": "presence",
    "until_left": "presence",
    "AioCalls": "recording",
    "Calls": "recording",
    "RecordedCall": "recording",
}

__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
