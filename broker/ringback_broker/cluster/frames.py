"""Messages between nodes. This is the interface that the realm needs."""

from __future__ import annotations

from typing import Protocol

from ringback_broker.peers.connection import Sent


class Frames(Protocol):
    """Sends messages to other nodes, and never waits.

    Messages may be lost, one or many: the realm numbers them, and notices. Those from one node to another one
    never arrive twice. They arrive in order, but for those that are lost.

    Attributes:
        max_bytes: how many bytes a message may have at most, all parts together.
    """

    max_bytes: int

    def listen(self, boot: bytes) -> None:
        """Take messages to this boot of the node from now on, and none to an earlier one.

        This takes effect before any record that is put later. Messages that are sent bear this boot.
        """

    def send(self, node: str, boot: bytes, parts: tuple[bytes, ...], epoch: int = 0) -> Sent:
        """Send a message to one boot of a node.

        `Sent.FULL`: too much waits to be sent. `Sent.GONE`: there is no connection, or the message is too
        large.

        Args:
            epoch: if not 0, `nobody` gets it in case nobody is there to take the message. This is not always
                known.
        """
        ...


class FramesTaker(Protocol):
    """What the messages of other nodes arrive at, each in a step of the loop."""

    def from_node(self, node: str, boot: bytes, parts: tuple[bytes, ...], now: float) -> None:
        """Take a message that one boot of a node has sent. It has the parts that were sent."""

    def nobody(self, node: str, boot: bytes, epoch: int, now: float) -> None:
        """Take note that nobody was there to take a message to one boot of a node: it is lost."""

    def interrupted(self, now: float) -> None:
        """Take note that messages of any node may have been lost, so that the realm does not have to find
        out: the connection was lost, or something was too slow."""
