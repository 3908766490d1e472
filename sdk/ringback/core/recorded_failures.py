"""The calls that failed since the last report, as many of them as it lists one by one."""

from __future__ import annotations

from ringback.core.callback_record import CallbackRecord
from ringback.core.peers import Peer
from ringback.errors import MAX_CODE_CHARS, CallbackError, ProtocolError
from ringback.protocol.reports import FailedCall

MAX_A_REPORT = 50
MAX_OF_A_CALLBACK = 5
"""How many failed calls one report lists: in all, and of one callback. Those beyond are only counted. Many
calls fail when something is wrong, and an endpoint must not get slow just then."""


class RecordedFailures:
    """The first calls that failed since the last report. They have no payloads and no messages."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, FailedCall]] = []
        self._lost = 0

    def add(
        self, record: CallbackRecord, peer: Peer, key: str, now: float, took_s: float, error: CallbackError
    ) -> None:
        """Keep a call that failed, if there is room.

        Args:
            record: the record that counts it.
            key: the key that was called; "" if it could not be read. Such a call is not listed.
        """
        if len(self._calls) >= MAX_A_REPORT or record.listed >= MAX_OF_A_CALLBACK:
            self._lost += 1
        elif key:
            try:
                player_id = peer.player_id
            except ProtocolError:  # an ID part that is no player ID
                return
            # A call that ends in the step in which it was made may begin after the time of that step.
            code, took_s = str(error.code_name)[:MAX_CODE_CHARS], max(0.0, took_s)
            self._calls.append((now, FailedCall(0.0, record.side, player_id, key, code, took_s)))
            record.listed += 1

    def take(self, now: float) -> tuple[tuple[FailedCall, ...], int]:
        """Return the calls, and how many more failed, and begin anew."""
        # A worker may have replied after the time of this step.
        calls = tuple(call._replace(age_s=max(0.0, now - at)) for at, call in self._calls)
        lost = self._lost
        self._calls, self._lost = [], 0
        return calls, lost
