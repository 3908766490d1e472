"""Presence: what an endpoint knows of who is connected, and what ends when somebody leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ringback.core.endpoint_state import EndpointState
from ringback.core.peers import Peer
from ringback.core.shell import EndpointEvent, Shell
from ringback.errors import Code
from ringback.protocol.frames import SERVER_LINK, FrameType, Role, header
from ringback.protocol.player_ids import PlayerID, encode_player_id

SERVER_ROUTE = header(FrameType.DATA, SERVER_LINK)
"""The route of the server, as a player sees it."""


class Presence:
    """Who is connected, as the broker says.

    Attributes:
        players: on a server, the IDs of the connected players, in the order in which they joined.
    """

    def __init__(
        self, role: Role, state: EndpointState, shell: Shell, drop_peer: Callable[[Peer, Code, str], None]
    ) -> None:
        self.players: dict[PlayerID, None] = {}
        self._role = role
        self._state = state
        self._shell = shell
        self._drop_peer = drop_peer

    def joined(self, player_ids: Iterable[PlayerID]) -> None:
        """Take note of players that have joined."""
        for player_id in player_ids:
            self.players[player_id] = None
            self._shell.event(EndpointEvent.PLAYER_JOINED, player_id)

    def left(self, player_ids: Iterable[PlayerID]) -> None:
        """Take note of players that have left, and end what is in flight with them."""
        for player_id in player_ids:
            for head in {self._state.headers[FrameType.DATA], SERVER_ROUTE}:
                peer = self._state.peers.get(encode_player_id(player_id) + head)
                if peer is not None:
                    self._drop_peer(peer, Code.PLAYER_LEFT, f"player {player_id!r} left before it replied")
            if self._state.recorder is not None:
                self._state.recorder.player_left(player_id)
            self._forget(player_id)

    def server_left(self, own_link: int | None) -> None:
        """End what is in flight with the server.

        Args:
            own_link: the link number of its own, with which it calls players; None if it has none.
        """
        is_player = self._role is Role.PLAYER
        routes = {SERVER_ROUTE if is_player else self._state.headers[FrameType.RELAY]}
        if is_player and own_link:
            routes.add(header(FrameType.DATA, own_link))
        for peer in list(self._state.peers.values()):
            if peer.header in routes:
                self._drop_peer(peer, Code.SERVER_LOST, "the server left before it replied")

    def clear(self) -> None:
        """Forget all players: without a link nobody says who is connected."""
        for player_id in list(self.players):
            self._forget(player_id)

    def _forget(self, player_id: PlayerID) -> None:
        if player_id in self.players:
            del self.players[player_id]
            self._shell.event(EndpointEvent.PLAYER_LEFT, player_id)
