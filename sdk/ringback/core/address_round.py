"""One round of attempts to connect: the addresses of the broker that are left to try, and what failed."""

from __future__ import annotations

MIN_SHARE_S = 0.1
"""The least time that an address gets (RFC 8305, section 8: the recommended minimum between attempts)."""


class AddressRound:
    """The addresses that one round tries in turn.

    Attributes:
        address: the address that is tried now, or was tried last; empty before the first and after the round.
        favourite: the address at which a broker answered last. A round begins with it if it is still one of
            the addresses.
    """

    def __init__(self, broker: str) -> None:
        self.address = ""
        self.favourite = ""
        self._broker = broker
        self._left: list[str] = []
        self._failed: list[str] = []

    @property
    def more(self) -> bool:
        """Whether there is an address that was not tried yet."""
        return bool(self._left)

    def begin(self, addresses: tuple[str, ...]) -> None:
        """Begin a round with these addresses, the favourite first and the others in their order."""
        self.end()
        self._left = sorted(addresses, key=lambda address: address != self.favourite)

    def end(self) -> None:
        """Try none of the addresses that are left, and forget what failed."""
        self.address = ""
        self._left = []
        self._failed = []

    def next(self, now: float, by: float) -> float:
        """Move on to the next address. Return how long it may take to answer, in seconds.

        All addresses that are left share the time until `by`.
        """
        share_s = max(MIN_SHARE_S, (by - now) / len(self._left))
        self.address = self._left.pop(0)
        return share_s

    def failed(self, why: str) -> None:
        """Take note that the present address failed."""
        self._failed.append(why if self.address in ("", self._broker) else f"{self.address}: {why}")

    def answered(self) -> None:
        """Take note that a broker answered at the present address, if the round has one."""
        self.favourite = self.address or self.favourite

    def summary(self) -> str:
        """Return why the addresses of this round failed; empty if none has."""
        return "; ".join(self._failed)
