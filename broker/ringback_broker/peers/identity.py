"""Who a peer has proved to be."""

from __future__ import annotations

from dataclasses import dataclass

from ringback.protocol.player_ids import PlayerID


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a peer has shown to be.

    Attributes:
        name: of its key in the broker's list, or of the key that signed its token.
        public: the key of its connection.
        ids: the player IDs that it may take.
        expires_at: when its token ends, by the wall clock (unix time, seconds).
        by_token: whether a token said so.
    """

    name: str
    public: str
    ids: tuple[PlayerID, ...] = ()
    expires_at: float | None = None
    by_token: bool = False
