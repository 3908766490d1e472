"""The broker of ringback: a pure switchboard, and the loop around it."""

from ringback_broker.config import BrokerConfig, ConfigError
from ringback_broker.daemon import BindError, Broker

__all__ = ["BindError", "Broker", "BrokerConfig", "ConfigError"]
