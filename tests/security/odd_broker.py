"""Run a broker in a way that the command line has no option for.

python odd_broker.py SETTINGS [KEY...]      settings in JSON; its list raises for these public keys
"""

from __future__ import annotations

import json
import sys

from ringback_broker import Broker, BrokerSettings
from ringback_broker.admission.access_list import AccessList
from ringback_broker.daemon.logs import log_to_stderr
from ringback_broker.peers.connection import Side

settings, *poisoned = sys.argv[1:]
admits = AccessList.admits


def admits_or_raises(access: AccessList, side: Side, public: str) -> bool:
    if public in poisoned:
        raise RuntimeError("the list is broken")
    return admits(access, side, public)


AccessList.admits = admits_or_raises  # type: ignore[method-assign]
with log_to_stderr("text", "debug"):
    broker = Broker(BrokerSettings(**json.loads(settings)))
    broker.handle_signals()
    broker.run()
