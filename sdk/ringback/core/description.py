"""What an endpoint tells the broker of itself: HELLO on each link, and KEYS when its callbacks change."""

from __future__ import annotations

from ringback.core.registry import Registry
from ringback.protocol.control import Hello, Keys
from ringback.protocol.frames import Role
from ringback.protocol.player_ids import PlayerID


class Description:
    """What the broker is told of one endpoint.

    Attributes:
        player_id: the ID of a player: the one that it named, or the one that the broker gave it.
        heartbeat_ms: the interval of heartbeats, in milliseconds.
        standby: whether this is a server that waits while another one acts.
        ticket: what the broker gave with the latest WELCOME, to take the same place again; empty if nothing.
        keys_changed: whether the broker has to be told the keys of the callbacks.
    """

    def __init__(
        self,
        role: Role,
        registry: Registry,
        software: str,
        *,
        player_id: PlayerID | None,
        heartbeat_ms: int,
        standby: bool,
    ) -> None:
        self.player_id = player_id
        self.heartbeat_ms = heartbeat_ms
        self.standby = standby
        self.ticket = b""
        self.keys_changed = False
        self._role = role
        self._registry = registry
        self._software = software

    def hello(self, token: str | None) -> Hello:
        """Return the HELLO of a new link."""
        is_player, is_operator = self._role is Role.PLAYER, self._role is Role.OPERATOR
        self.keys_changed = False
        return Hello(
            self._role,
            self.player_id,
            self._registry.keys(),
            self._software,
            heartbeat_ms=self.heartbeat_ms if is_player else None,
            token=token,
            bundles=None if is_player else True,
            terms=self._terms(),
            ticket=None if is_operator else self.ticket,
            schemas=self._registry.schemas(),
            standby=self.standby or None,
            server_links=None if is_operator else True,
        )

    def keys(self) -> Keys:
        """Return what the broker is told when the callbacks have changed."""
        self.keys_changed = False
        return Keys(self._registry.keys(), self._terms(), self._registry.schemas())

    def _terms(self) -> dict[str, str] | None:
        return self._registry.terms() if self._role is Role.SERVER else None
