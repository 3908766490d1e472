"""What the parts of the switchboard share: tables, counters and limits. None of it sends anything."""

from __future__ import annotations

from dataclasses import dataclass

from ringback_broker.admission.connections_by_ip import ConnectionsByIP
from ringback_broker.admission.hello import Admission
from ringback_broker.admission.strangers import Strangers
from ringback_broker.operations.counters import BrokerCounters
from ringback_broker.operations.registered_keys import RegisteredKeys
from ringback_broker.peers.roster import Roster
from ringback_broker.switchboard.endings import Endings
from ringback_broker.switchboard.rate_limit import RateLimit
from ringback_broker.switchboard.window import Windows


@dataclass(frozen=True, slots=True)
class State:
    """What the parts of the switchboard share."""

    roster: Roster
    counters: BrokerCounters
    registered_keys: RegisteredKeys
    strangers: Strangers
    connections_by_ip: ConnectionsByIP
    admission: Admission
    rate_limit: RateLimit
    windows: Windows
    endings: Endings
