"""What a broker is given to be a node of a realm."""

from __future__ import annotations

from dataclasses import dataclass

from ringback_broker.cluster.frames import Frames
from ringback_broker.cluster.records import Records


@dataclass(frozen=True, slots=True)
class Cluster:
    """The realm that a broker joins.

    Attributes:
        node: the name of this broker in it.
        lease_s: how long the other nodes wait for a node that says nothing.
    """

    node: str
    lease_s: float
    records: Records
    frames: Frames
