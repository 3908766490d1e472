"""What the trusted side triggers: a server and an operator alike."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Unpack

from ringback._argument_names import NoOthers, checks_names, reject
from ringback._roles.base import C, G, RoleBase
from ringback._roles.trigger_options import (
    Callback,
    OnError,
    OnProgress,
    asks_for_progress,
    encoded_player_id,
)
from ringback._roles.typed_calls import Outgoing
from ringback._runtime import call_context
from ringback._runtime.call_context import DEFAULT_TIMEOUT_S
from ringback.contracts import ClientCallback, Contract, ServerCallback, check_contract, wrong_key
from ringback.core.retry import Retry
from ringback.protocol.envelopes import EncodedOnce
from ringback.protocol.frames import FrameType
from ringback.protocol.names import check_key
from ringback.protocol.player_ids import PlayerID, check_player_id


class TrustedRole(RoleBase[C, G]):
    """What a server and an operator trigger."""

    _source_route: FrameType | None
    """How a call of `trigger_callback` goes to the server; None for a server itself."""

    def trigger_client_callback(
        self,
        key: str,
        player_id: PlayerID,
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
        """Trigger a callback that a player has registered.

        Args:
            key: the callback's key, a str of 1 to 256 bytes.
            player_id: the player, an int from 1 to 2**63-1 or a str of 1 to 64 bytes.
            payload: None, bool, int, float, str, bytes, or a list or dict of these. At most 1 MiB encoded.
            callback: a function that is called with the results if the call succeeds.
            on_error: a function that is called with the `CallbackError` if the call fails. With a
                `callback` but no `on_error`, a failure is logged.
            timeout: in seconds; None for no limit. In a handler, at most the time that is left.
            wait_for_room: whether a call over the limits `max_pending`, `max_in_flight` or
                `max_queued_bytes` waits until there is room for it. False: it fails with OVERLOADED. At most
                `max_pending` calls wait. One that waits until its time is over fails with TIMEOUT, and
                `executed="no"`.
            on_progress: a function that is called with each value that the handler reports by
                `cb.progress(value)`: in order, and before `callback`. It may be a coroutine function.
            progress: whether the program iterates these values, by `call.progress()`.
            retry: whether to try the call again within its time, as long as this cannot run its handler
                twice: True, or a `Retry` that says how often and when. docs/guide.md says which errors it is
                for. `executed` of the error is then true of all tries together.

        Returns:
            The call. It ends exactly once, with results or with an error. Wait for it, or pass `callback`.

        Raises:
            TypeError, ValueError: an argument has the wrong type or value.
            UsageError: this endpoint is not started, or closed.
        """
        if unknown:
            reject(TrustedRole.trigger_client_callback, unknown)
        # Flat, and again in each trigger: most calls have none of these options.
        send = self._way(wait_for_room, retry) if wait_for_room or retry else None
        asks = None
        if on_progress is not None or progress:
            asks = asks_for_progress(on_progress, progress)
        return self._trigger(
            FrameType.DATA,
            encoded_player_id(player_id),
            key,
            payload,
            callback,
            on_error,
            timeout,
            send,
            asks,
        )

    def trigger_callback(
        self,
        key: str,
        source: PlayerID,
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
        """Trigger a server callback in the name of a player.

        A server triggers a callback of its own, without the broker. An operator triggers a callback of the
        server.

        Args:
            source: the player ID that the handler gets as `source`. This player need not be connected.

        All other arguments, the returned call and the errors are those of `trigger_client_callback`.
        """
        if unknown:
            reject(TrustedRole.trigger_callback, unknown)
        # Flat, and again in each trigger: most calls have none of these options.
        send = self._way(wait_for_room, retry) if wait_for_room or retry else None
        asks = None
        if on_progress is not None or progress:
            asks = asks_for_progress(on_progress, progress)
        return self._trigger(
            self._source_route,
            encoded_player_id(source),
            key,
            payload,
            callback,
            on_error,
            timeout,
            send,
            asks,
        )

    @checks_names
    def trigger_all_client_callbacks(
        self,
        key: str,
        payload: object = None,
        *,
        players: Iterable[PlayerID] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        retry: bool | Retry | None = None,
    ) -> G:
        """Trigger a callback on many players.

        Calls over the limits of this endpoint wait until there is room for them: `wait_for_room` is always
        on.

        Args:
            key: the callback's key, a str of 1 to 256 bytes.
            payload: as for `trigger_client_callback`.
            players: the player IDs, as a list, a set or another iterable; None for all players that are
                connected now.
            timeout: in seconds, for all calls together; None for no limit.
            retry: as for `trigger_client_callback`.

        Returns:
            A group of calls. Iterate it to get (player ID, call) as the calls end, or use `all()`, which
            returns a dict of all calls by player ID. Each call has results or an error of its own.

        Raises:
            TypeError, ValueError: an argument has the wrong type or value.
            UsageError: this endpoint is not started, or closed.
        """
        return self._trigger_all(key, payload, players, timeout, retry)

    def _trigger_all(
        self,
        key: str,
        payload: object,
        players: Iterable[PlayerID] | None,
        timeout: float | None,
        retry: bool | Retry | None,
        typed: Outgoing | None = None,
    ) -> G:
        self._check_running()
        try:
            check_key(key)
        except TypeError as error:
            raise wrong_key(key, error, "trigger_all") from None
        send = self._way(True, retry, bounded=False)
        group = self._make_group()
        until, _ = call_context.deadline_and_budget(timeout, time.monotonic())
        group.deadline = until
        once = EncodedOnce(self._max_call_bytes)

        def trigger(player_id: PlayerID) -> C:
            encoded_id, left_s = encoded_player_id(player_id), time_left(until)
            return self._trigger(
                FrameType.DATA, encoded_id, key, payload, None, None, left_s, send, None, typed, once
            )

        if players is None:
            self._list_players(partial(group.begin, trigger), group.fail, until)
        else:
            group.begin(trigger, [check_player_id(player_id) for player_id in _several(players)])
        return group

    def _trigger_contract(
        self,
        contract: Contract[Any, Any],
        player_id: PlayerID,
        payload: object,
        callback: Callback | None = None,
        on_error: OnError | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        wait_for_room: bool = False,
        on_progress: OnProgress | None = None,
        progress: bool = False,
        retry: bool | Retry | None = None,
    ) -> Any:
        """Trigger a callback that has a contract. `trigger` of each face calls this."""
        check_contract(
            contract, ClientCallback, ServerCallback, with_key="trigger_client_callback or trigger_callback"
        )
        kind = FrameType.DATA if isinstance(contract, ClientCallback) else self._source_route
        send = self._way(wait_for_room, retry) if wait_for_room or retry else None
        encoded_id, typed = encoded_player_id(player_id), Outgoing(contract, payload)
        asks = asks_for_progress(on_progress, progress)
        return self._trigger(
            kind, encoded_id, contract.key, typed.payload, callback, on_error, timeout, send, asks, typed
        )

    def _trigger_contract_on_all(
        self,
        contract: Contract[Any, Any],
        payload: object,
        players: Iterable[PlayerID] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        retry: bool | Retry | None = None,
    ) -> Any:
        """Trigger a callback with a contract on many players. `trigger_all` of each face calls this."""
        check_contract(contract, ClientCallback, with_key="trigger_all_client_callbacks")
        typed = Outgoing(contract, payload)
        return self._trigger_all(contract.key, typed.payload, players, timeout, retry, typed)

    @abstractmethod
    def _list_players(
        self, then: Callable[[list[PlayerID]], None], failed: OnError, until: float | None
    ) -> None: ...


def _several(players: Any) -> Iterable[Any]:
    """Return the players that a program names, one after another."""
    if isinstance(players, str | bytes | bytearray) or not isinstance(players, Iterable):
        raise TypeError(
            "players must be None or an iterable of player IDs, such as a list or a set, not"
            f" {type(players).__name__}; for one player, use trigger_client_callback"
        )
    return players


def time_left(until: float | None) -> float | None:
    """Return the timeout of a call that must end by a moment; None for no limit."""
    return None if until is None else max(0.0, until - time.monotonic())
