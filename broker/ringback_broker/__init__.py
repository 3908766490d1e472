"""The broker of ringback: a pure switchboard, and the loop around it."""

# Names are imported when they are used: the command line often needs the settings alone.

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringback_broker.daemon.broker import Broker as Broker
    from ringback_broker.daemon.nats_side import RealmFailed as RealmFailed
    from ringback_broker.net.router_socket import BindError as BindError
    from ringback_broker.settings.schema import BrokerSettings as BrokerSettings
    from ringback_broker.settings.schema import InvalidSetting as InvalidSetting

_MODULES = {
    "BrokerSettings": "settings.schema",
    "InvalidSetting": "settings.schema",
    "BindError": "net.router_socket",
    "Broker": "daemon.broker",
    "RealmFailed": "daemon.nats_side",
}

__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
