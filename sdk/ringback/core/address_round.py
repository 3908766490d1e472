"""One round of attempts to connect: which address is next, and what failed.

A program gives an endpoint one address, or those of several brokers that act as one. Each of them may have
several IPs. A round tries all IPs of one address in turn, then those of the next one.
"""

from __future__ import annotations

from collections.abc import Callable

from ringback.protocol.addresses import split_tcp

MIN_SHARE_S = 0.1
"""The least time that an address gets (RFC 8305, section 8: the recommended minimum between attempts)."""


class AddressRound:
    """The addresses that one round tries in turn.

    Args:
        brokers: the addresses that the program gave, at least one. They are shuffled, once: so endpoints that
            have the same list spread over its brokers, also when one of these dies.
        random: return a number from 0 to 1.

    Attributes:
        several: whether the program gave more than one address.
        address: the numeric address that is tried now, or was tried last. It is empty after the round, and
            while no IP of the present broker was tried.
    """

    def __init__(self, brokers: tuple[str, ...], random: Callable[[], float]) -> None:
        self.several = len(brokers) > 1
        self.address = ""
        self._brokers = sorted(brokers, key=lambda _: random()) if self.several else list(brokers)
        self._favourites = [""] * len(brokers)
        self._at = 0
        self._stays = True
        self._brokers_left = 0
        self._left: list[str] = []
        self._failed: list[str] = []
        self._full: list[int] = []

    @property
    def broker(self) -> str:
        """The address of the program's that is tried now, or was tried last."""
        return self._brokers[self._at]

    @property
    def favourite(self) -> str:
        """The numeric address at which the present broker answered last. Its others come after it."""
        return self._favourites[self._at]

    @property
    def more_ips(self) -> bool:
        """Whether there is an IP of the present broker that was not tried yet."""
        return bool(self._left)

    @property
    def more_brokers(self) -> bool:
        """Whether there is a broker whose name was not looked up yet."""
        return self._brokers_left > 0

    @property
    def more(self) -> bool:
        """Whether there is anything that was not tried yet."""
        return self.more_ips or self.more_brokers

    @property
    def failures(self) -> int:
        """How many addresses of this round have failed."""
        return len(self._failed)

    @property
    def all_full(self) -> bool:
        """Whether all brokers said in this round that they are full."""
        return len(self._full) == len(self._brokers)

    def next_broker(self) -> bool:
        """Move on to the next broker. Return whether this begins a round.

        Rounds follow one another in the order of the brokers, and an endpoint does not go back to the one
        that it has just lost. So what a broker of several had is shared among all others.
        """
        begins = not self._brokers_left
        if begins:
            self.end()
            self._brokers_left = len(self._brokers)
        if self._stays:
            self._stays = False
        else:
            self._at = (self._at + 1) % len(self._brokers)
        self._brokers_left -= 1
        self._left = []
        self.address = ""
        return begins

    def stay(self) -> None:
        """Begin the next round at the present broker."""
        self._stays = True

    def begin(self, addresses: tuple[str, ...]) -> None:
        """Take the numeric addresses of the present broker, the favourite first and the others in order."""
        self._left = sorted(addresses, key=lambda address: address != self.favourite)

    def end(self) -> None:
        """Try nothing that is left, and forget what failed."""
        self.address = ""
        self._brokers_left = 0
        self._left = []
        self._failed = []
        self._full = []

    def lookup_s(self, now: float, by: float) -> float:
        """Return how long the lookup of the present broker may take, in seconds."""
        return max(MIN_SHARE_S, (by - now) / (1 + self._brokers_left))

    def next(self, now: float, by: float) -> float:
        """Move on to the next IP of the present broker. Return how long it may take to answer, in seconds.

        All addresses that are left share the time until `by`. A broker that was not looked up yet counts as
        one.
        """
        share_s = max(MIN_SHARE_S, (by - now) / (len(self._left) + self._brokers_left))
        self.address = self._left.pop(0)
        return share_s

    def failed(self, why: str) -> None:
        """Take note that the present address failed."""
        is_ip = self.address not in ("", self.broker)
        if self.several:
            where = f"{self.broker} ({split_tcp(self.address)[0]})" if is_ip else self.broker
        else:
            where = self.address if is_ip else ""
        self._failed.append(f"{where}: {why}" if where else why)

    def not_tried(self) -> None:
        """Take note of all brokers that are left as failed, because no time was left for them."""
        while self._brokers_left:
            self.next_broker()
            self.failed("not tried")

    def is_full(self) -> None:
        """Take note that the present broker takes no more endpoints."""
        if self._at not in self._full:
            self._full.append(self._at)

    def answered(self) -> None:
        """Take note that a broker answered at the present address, if the round has one."""
        self._favourites[self._at] = self.address or self.favourite

    def summary(self) -> str:
        """Return why the addresses of this round failed; empty if none has."""
        return "; ".join(self._failed)
