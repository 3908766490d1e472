"""What a player can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, overload

from ringback._argument_names import NoOthers, check_options, checks_names, reject
from ringback._roles.base import C, F, G, RoleBase
from ringback._roles.registering import RegisterOptions, register, register_contract
from ringback._roles.trigger_options import Callback, OnError, OnProgress, asks_for_progress
from ringback._roles.typed_calls import Outgoing
from ringback._runtime.call_context import DEFAULT_TIMEOUT_S
from ringback.contracts import (
    ClientCallback,
    ClientHandler,
    Contract,
    P,
    R,
    RegisterOnPlayer,
    ServerCallback,
    check_contract,
)
from ringback.core.registry import Registration
from ringback.core.retry import Retry
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
        idempotent: bool = False,
        serial: bool = False,
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
        idempotent: bool = False,
        serial: bool = False,
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
        idempotent: bool = False,
        serial: bool = False,
    ) -> Any:
        """Register a callback that the server or an operator triggers on this player.

        Also usable as a decorator, without `handler`.

        Args:
            handler: a function of (payload, cb), which replies with `cb(*results)`, or of (payload), which
                replies with what it returns. It may be a coroutine function.
            limit: how often one caller may call it, as for `Server.register_server_callback`. A caller is
                the server or an operator.
            idempotent: whether the handler may run twice for one call without harm, as for
                `Server.register_server_callback`.
            serial: whether the calls of this callback run one after the other, whoever makes them.

        All other arguments, the returned registration and the errors are those of
        `Server.register_server_callback`.
        """
        return register(
            self._registry,
            key,
            handler,
            replace=replace,
            in_thread=in_thread,
            limit=limit,
            idempotent=idempotent,
            serial=serial,
            log_name=self._log_name,
        )

    @overload
    def register(
        self,
        contract: ClientCallback[P, R],
        handler: None = None,
        **options: Unpack[RegisterOptions],
    ) -> RegisterOnPlayer[P, R]: ...

    @overload
    def register(
        self,
        contract: ClientCallback[P, R],
        handler: ClientHandler[P, R],
        **options: Unpack[RegisterOptions],
    ) -> Registration: ...

    def register(self, contract: Any, handler: Any = None, **options: Unpack[RegisterOptions]) -> Any:
        """Register the handler of a contract. Also usable as a decorator, without `handler`.

        The types of the contract are checked as in `Server.register`.

        The other arguments are those of `register_client_callback`.

        Args:
            contract: a `ClientCallback`.
            handler: as for `register_client_callback`, with the types of the contract.

        The returned registration and the errors are those of `Server.register_server_callback`.
        """
        check_options("register", options, RegisterOptions)
        return register_contract(self._registry, ClientCallback, contract, handler, options)

    def trigger_server_callback(
        self,
        key: str,
        payload: object = None,
        callback: Callback | None = None,
        *,
        on_error: OnError | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        wait_for_room: bool = False,
        on_progress: OnProgress | None = None,
        progress: bool = False,
        retry: bool | Retry | None = None,
        **unknown: Unpack[NoOthers],
    ) -> C:
        """Trigger a callback that the server has registered.

        The arguments, the returned call and the errors are those of `Server.trigger_client_callback`.
        """
        if unknown:
            reject(PlayerRole.trigger_server_callback, unknown)
        # Flat, and again in each trigger: most calls have none of these options.
        send = self._way(wait_for_room, retry) if wait_for_room or retry else None
        asks = None
        if on_progress is not None or progress:
            asks = asks_for_progress(on_progress, progress)
        return self._trigger(FrameType.DATA, b"", key, payload, callback, on_error, timeout, send, asks)

    def _trigger_contract(
        self,
        contract: Contract[Any, Any],
        payload: object,
        callback: Callback | None = None,
        on_error: OnError | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        wait_for_room: bool = False,
        on_progress: OnProgress | None = None,
        progress: bool = False,
        retry: bool | Retry | None = None,
    ) -> Any:
        """Trigger a callback of the server that has a contract. `trigger` of each face calls this."""
        check_contract(contract, ServerCallback, with_key="trigger_server_callback")
        send = self._way(wait_for_room, retry) if wait_for_room or retry else None
        asks, typed = asks_for_progress(on_progress, progress), Outgoing(contract, payload)
        return self._trigger(
            FrameType.DATA,
            b"",
            contract.key,
            typed.payload,
            callback,
            on_error,
            timeout,
            send,
            asks,
            typed,
        )
