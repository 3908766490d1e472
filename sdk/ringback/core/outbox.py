"""The outbox: what waits to be sent. What is queued for a peer at one moment leaves in one frame."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice

from ringback.core.peers import Peer
from ringback.core.shell import Shell
from ringback.errors import CallbackError, Executed, Overloaded
from ringback.protocol.bundles import bundle
from ringback.protocol.envelopes import call_heads, call_id_in, join
from ringback.protocol.limits import BATCH_BYTES, BATCH_ENVELOPES, BUNDLE_FRAMES

SHORT_REPLY_BYTES = 256
"""A reply up to this size is kept as it is, also without room: an error in its place would not be shorter."""


class Outbox:
    """The queues of one endpoint, and their one way out.

    Attributes:
        queued_bytes: the bytes of all envelopes that wait.
        bundles: whether the broker takes the frames of many peers in one message.
    """

    def __init__(self, shell: Shell, deliver: Callable[[Peer, bytes], None]) -> None:
        self.queued_bytes = 0
        self.bundles = False
        self._shell = shell
        self._deliver = deliver
        self._control: deque[bytes] = deque()
        self._waiting: OrderedDict[Peer, None] = OrderedDict()  # those with something in `outgoing`
        self._wanted = False

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting and not self._control

    @property
    def is_for_one_peer(self) -> bool:
        """Whether envelopes wait, and all of them for the same peer behind the link."""
        return len(self._waiting) == 1 and not next(iter(self._waiting)).local

    # -- what goes in

    def add(self, peer: Peer, envelope: bytes) -> None:
        """Queue an envelope."""
        if not peer.outgoing:
            self._waiting[peer] = None
            self._want_flush()
        peer.outgoing.append(envelope)
        size = len(envelope)
        peer.outgoing_bytes += size
        self.queued_bytes += size

    def add_control(self, frame: bytes) -> None:
        """Queue a frame for the broker itself."""
        self._control.append(frame)
        self._want_flush()

    def _want_flush(self) -> None:
        if not self._wanted:
            self._wanted = True
            self._shell.want_flush()

    # -- what leaves

    def flush(self) -> bool:
        """Send what waits. Return False if the link took no more and something still waits."""
        self._wanted = False
        while self._control:
            if not self._shell.send(b"", self._control[0]):
                return self._link_is_full()
            self._control.popleft()
        while self._waiting:
            peer = next(iter(self._waiting))
            if self.bundles and peer.header and len(self._waiting) > 1:
                if not self._flush_bundle():
                    return self._link_is_full()
                continue
            if not self._flush_peer(peer):
                return self._link_is_full()
            self._waiting.pop(peer, None)
        return True

    def _flush_peer(self, peer: Peer) -> bool:
        while peer.outgoing:
            batch, size = _first_batch(peer)
            if not peer.local and not self._shell.send(peer.encoded_id, peer.header + join(batch)):
                return False
            self._take_out(peer, batch, size)
            if peer.local:
                self._deliver(peer, join(batch))
        return True

    def _flush_bundle(self) -> bool:
        """Send one frame of each of the peers that have waited longest, in one message."""
        pairs: list[tuple[bytes, bytes]] = []
        batches: list[tuple[Peer, list[bytes], int]] = []
        bundled = 0
        for peer in islice(self._waiting, BUNDLE_FRAMES):
            if not peer.header:  # what goes to this endpoint itself takes another way
                break
            batch, size = _first_batch(peer)
            if pairs and bundled + size > BATCH_BYTES:
                break
            pairs.append((peer.encoded_id, peer.header + join(batch)))
            batches.append((peer, batch, size))
            bundled += size
        sent = self._shell.send(*pairs[0]) if len(pairs) == 1 else self._shell.send(b"", bundle(pairs))
        if sent:
            for peer, batch, size in batches:
                self._take_out(peer, batch, size)
                if not peer.outgoing:
                    self._waiting.pop(peer, None)
        return sent

    def _take_out(self, peer: Peer, batch: list[bytes], size: int) -> None:
        """Take what has been sent out of a peer's queue."""
        self.queued_bytes -= size
        peer.outgoing_bytes -= size
        # The usual case takes all; a slice is for what does not fit into one frame.
        peer.outgoing = [] if batch is peer.outgoing else peer.outgoing[len(batch) :]

    def _link_is_full(self) -> bool:
        """Deliver what goes to this endpoint itself: it needs no link. Return False."""
        for peer in [peer for peer in self._waiting if peer.local]:
            self._flush_peer(peer)
            self._waiting.pop(peer, None)
        return False

    # -- what is taken out again

    def forget(self, peer: Peer) -> list[bytes]:
        """Drop the envelopes that wait for a peer, and return them."""
        unsent = peer.outgoing
        peer.outgoing = []
        self.queued_bytes -= peer.outgoing_bytes
        peer.outgoing_bytes = 0
        self._waiting.pop(peer, None)
        return unsent

    def forget_control(self) -> None:
        """Drop the frames that wait for the broker itself."""
        self._control.clear()

    def withdraw_calls(self, peer: Peer, call_ids: set[int]) -> set[int]:
        """Take those of these calls out that have not left yet. Return their IDs."""
        withdrawn: set[int] = set()
        kept = []
        for envelope in peer.outgoing:
            call_id = call_id_in(envelope)
            if call_id in call_ids:
                withdrawn.add(call_id)
                peer.outgoing_bytes -= len(envelope)
                self.queued_bytes -= len(envelope)
            else:
                kept.append(envelope)
        peer.outgoing = kept
        if not kept:
            self._waiting.pop(peer, None)
        return withdrawn

    def withdraw_call(self, peer: Peer, call_id: int) -> bool:
        """Take one call out. Return False if it has left."""
        heads = call_heads(call_id)
        for position, envelope in enumerate(peer.outgoing):
            if envelope.startswith(heads):
                del peer.outgoing[position]
                peer.outgoing_bytes -= len(envelope)
                self.queued_bytes -= len(envelope)
                if not peer.outgoing:
                    self._waiting.pop(peer, None)
                return True
        return False


def _first_batch(peer: Peer) -> tuple[list[bytes], int]:
    """Return the envelopes that the next frame takes, and their bytes."""
    outgoing = peer.outgoing
    if len(outgoing) <= BATCH_ENVELOPES and peer.outgoing_bytes <= BATCH_BYTES:
        return outgoing, peer.outgoing_bytes
    count = size = 0
    for envelope in outgoing[:BATCH_ENVELOPES]:
        if count and size + len(envelope) > BATCH_BYTES:
            break
        count += 1
        size += len(envelope)
    return outgoing[:count], size


def executed_in(error: CallbackError | None) -> Executed:
    """Return whether the handler ran, as a reply says; a reply with results has no error."""
    return "yes" if error is None else error.executed


def no_room(executed: Executed) -> Overloaded:
    """Return the short error that takes the place of a reply for which there is no room."""
    return Overloaded("the reply found no room on the way back", executed=executed)
