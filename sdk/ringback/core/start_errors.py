"""The errors of a start: no broker answered, or all that answered refused."""

from __future__ import annotations

from ringback.core.address_round import AddressRound
from ringback.errors import BrokerUnreachable, LinkError, Refused, refused


def unreachable(
    attempts: AddressRound, *, waits_for: str, is_tried: bool, found: bool, last_round: str
) -> BrokerUnreachable:
    """Return the error of a start for which the time is over, and which no broker has refused.

    Args:
        attempts: the round that is under way. It ends.
        waits_for: what the attempt waits for before it has an address; empty if for nothing.
        is_tried: whether a link was opened, and nothing has answered.
        found: whether there was an address to try.
        last_round: why the round before failed; empty if there was none.
    """
    several, broker = attempts.several, attempts.broker
    if is_tried and (several or attempts.address != broker):
        attempts.failed("no answer")
    if several:
        if waits_for:
            attempts.failed(waits_for)
        attempts.not_tried()
        why = last_round or attempts.summary()
        if not found:
            return BrokerUnreachable(f"no broker can be found: {why}")
        where = ""
    else:
        why = last_round or waits_for or attempts.summary()
        if not found:
            return BrokerUnreachable(f"the broker at {broker} cannot be found: {why}")
        where = f" at {broker}"
    detail = f" ({why})" if why else ""
    return BrokerUnreachable(
        f"no broker answered{where} in time{detail}; start one with `ringback broker`, or give its address"
    )


def refused_by_all(attempts: AddressRound, refusal: LinkError | None) -> LinkError | None:
    """Return the latest refusal of a round that is over, with all else that failed in it."""
    if isinstance(refusal, Refused) and attempts.failures > 1:
        return refused(refusal.code, f"no broker lets this endpoint in: {attempts.summary()}")
    return refusal
