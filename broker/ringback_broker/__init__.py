"""The broker of ringback: a pure switchboard, and the loop around it.

The names of this package are loaded when they are used: the command line asks for the settings alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringback_broker.config import BrokerConfig as BrokerConfig
    from ringback_broker.config import ConfigError as ConfigError
    from ringback_broker.daemon import BindError as BindError
    from ringback_broker.daemon import Broker as Broker

_MODULES = {"BrokerConfig": "config", "ConfigError": "config", "BindError": "daemon", "Broker": "daemon"}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
