"""A guild of players: callbacks of a server, in a function, so that `test_guild.py` can use them."""

import threading
from typing import Any

from ringback import CallbackError, PlayerID, Server


def add_guild(server: Server) -> None:
    """Let players join a guild. The first one leads it, and decides who else joins."""
    members: list[PlayerID] = []
    changing = threading.Lock()  # handlers run in several threads

    @server.register_server_callback("guild:join")
    def join(source: PlayerID, payload: Any) -> list[PlayerID]:
        with changing:
            leader = members[0] if members else source
        if leader != source:
            call = server.trigger_client_callback("guild:accept", leader, source)
            if call.error is not None or call.result() is not True:  # the leader may leave meanwhile
                raise CallbackError(f"{leader} does not agree", code="NOT_WANTED")
        with changing:
            if source not in members:
                members.append(source)
            return list(members)

    @server.on_player_left
    def left(player_id: PlayerID) -> None:
        with changing:
            if player_id in members:
                members.remove(player_id)
