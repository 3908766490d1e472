"""Who a peer has proved to be."""

from __future__ import annotations

from dataclasses import dataclass

from ringback.protocol.player_ids import PlayerID


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a peer has proved to be.

    Attributes:
        name: of its entry in the access list, or of the key that signed its token.
        public_key: the public key of its connection, in Z85.
        ids: the player IDs that it may take.
        expires_at: when its token ends, in seconds since 1970; None without a token.
        by_token: whether a token proved it.
    """

    name: str
    public_key: str
    ids: tuple[PlayerID, ...] = ()
    expires_at: float | None = None
    by_token: bool = False
