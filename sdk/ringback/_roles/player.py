"""What a player can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, overload

from ringback._argument_names import NoOthers, checks_names, reject
from ringback._roles.base import C, Callback, F, G, OnError, RoleBase
from ringback._roles.registering import register
from ringback._runtime.call_context import DEFAULT_TIMEOUT_S
from ringback.core.registry import Registration
from ringback.protocol.frames import FrameType
from ringback.protocol.player_ids import PlayerID


class PlayerRole(RoleBase[C, G]):
    """The functions of a player."""

    @property
    def player_id(self) -> PlayerID | None:
        """The ID of this player: its own choice, or the broker's. None until the broker has chosen one."""
        return self._endpoint.player_id

    @overload
    def register_client_callback(
        self,
        key: str,
        handler: None = None,
        *,
        replace: bool = False,
        in_thread: bool = False,
        limit: str | None = None,
    ) -> Callable[[F], F]: ...

    @overload
    def register_client_callback(
        self,
        key: str,
        handler: Callback,
        *,
        replace: bool = False,
        in_thread: bool = False,
        limit: str | None = None,
    ) -> Registration: ...

    @checks_names
    def register_client_callback(
        self,
        key: str,
        handler: Any = None,
        *,
        replace: bool = False,
        in_thread: bool = False,
        limit: str | None = None,
    ) -> Any:
        """Register a callback that the server or an operator triggers on this player.

        Also usable as a decorator, without `handler`.

        Args:
            handler: a function of (payload, cb), which replies with `cb(*results)`, or of (payload), which
                replies with what it returns. It may be a coroutine function.
            limit: how often one caller may call it, as for `Server.register_server_callback`. A caller is
                the server or an operator.

        All other arguments, the returned registration and the errors are those of
        `Server.register_server_callback`.
        """
        return register(self._registry, key, handler, replace=replace, in_thread=in_thread, limit=limit)

    def trigger_server_callback(
        self,
        key: str,
        payload: object = None,
        callback: Callback | None = None,
        *,
        on_error: OnError | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        wait_for_room: bool = False,
        **unknown: Unpack[NoOthers],
    ) -> C:
        """Trigger a callback that the server has registered.

        The arguments, the returned call and the errors are those of `Server.trigger_client_callback`.
        """
        if unknown:
            reject(PlayerRole.trigger_server_callback, unknown)
        send = self._send_when_room if wait_for_room else None
        return self._trigger(FrameType.DATA, b"", key, payload, callback, on_error, timeout, send)
