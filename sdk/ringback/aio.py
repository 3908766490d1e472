"""The asyncio face: calls are awaited, on one event loop.

`Server`, `Player` and `Operator` have the names and signatures of the blocking face; starting and
closing are coroutines, and a call is awaited.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ringback._roles.calls import CallBase, unwrap
from ringback._roles.groups import GroupBase
from ringback._roles.roles import Face, OperatorFace, PlayerFace, ServerFace
from ringback._runtime.asyncio_shell import AsyncioShell
from ringback._runtime.waiter import Waiter
from ringback.core.calls import PendingCall
from ringback.core.permissions import OPERATORS
from ringback.errors import CallbackError, UsageError
from ringback.protocol.envelopes import Encoder
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import PlayerID

if TYPE_CHECKING:
    from os import PathLike

    from ringback._runtime.link_keys import Token
    from ringback.credentials import KeyPair

__all__ = ["OPERATORS", "Call", "CallGroup", "Operator", "Player", "Server"]


class Call(CallBase):
    """A call that was triggered: `await` it. It ends exactly once: with results, or with an error."""

    __slots__ = ()
    _face: AsyncioFace

    def __await__(self) -> Generator[Any, None, Any]:
        """Gives the result: None for none, the value of one, a tuple of several.

        Cancelling the task that awaits cancels the call.

        Raises:
            CallbackError: the call failed; `error.executed` says whether the handler ran.
        """
        self._seen = True
        if not self._done:
            waiter = Waiter(self._face._shell)
            self.add_waiter(waiter.wake)
            try:
                yield waiter
            except asyncio.CancelledError:
                self.cancel()
                raise
        return unwrap(self._outcome())

    def result(self) -> Any:
        """Gives the result of a call that has ended, as `await` does.

        Raises:
            CallbackError: the call failed.
            asyncio.InvalidStateError: it has not ended.
        """
        return unwrap(self.results)

    @property
    def results(self) -> tuple[Any, ...]:
        """All results of a call that has ended, as a tuple; raises as `result` does."""
        self._check_done()
        return self._outcome()

    @property
    def error(self) -> CallbackError | None:
        """The error of a call that has ended, None on success."""
        self._check_done()
        self._seen = True
        return self._error

    def _check_done(self) -> None:
        if not self._done:
            raise asyncio.InvalidStateError(f"the call of {self.key!r} has not ended: await it")


class CallGroup(GroupBase[Call]):
    """The calls of one trigger on many players. `async for` gives (player ID, call) as the calls end."""

    def __init__(self) -> None:
        super().__init__()
        self._event = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[tuple[PlayerID, Call]]:
        position = 0
        while True:
            while position < len(self._ended):
                yield self._given(position)
                position += 1
            if self._complete:
                self._result()
                return
            await self._next()

    async def all(self) -> dict[PlayerID, Call]:
        """Waits until all calls have ended, and gives each player's.

        Raises:
            CallbackError: it could not be found out who is connected.
        """
        while not self._complete:
            await self._next()
        return self._result()

    async def _next(self) -> None:
        self._event.clear()
        await self._event.wait()

    def _changed(self) -> None:
        self._event.set()


class AsyncioFace(Face[Call, CallGroup]):
    """How an asyncio endpoint starts and ends.

    It belongs to the loop that it was started on; trigger from there alone. A `cb` may be called from
    any thread.

    Args:
        address: of the broker: `tcp://HOST:PORT` or `ipc://PATH`; for a player the players' address,
            else the backend's.
        limits: what is accepted from others.
        connect_timeout: how long `start` waits for the broker, in seconds.
        heartbeat: how often the link carries a sign of life, 0.1 to 60 seconds: who is silent is found after
            about twice that. None: 1.0 for a player, else 0.5.
        key_file: the endpoint's own key, a file made by `ringback keys new`.
        broker_key: the broker's public key, where the key file does not name it.
        token: of a player without a key of its own: the token, or a function that gives one, a plain one
            (called in a thread) or a coroutine function, for each new link; needs `broker_key`.
    """

    _shell: AsyncioShell
    _call_class = Call

    def __init__(
        self,
        address: str,
        *,
        player_id: PlayerID | None = None,
        limits: Limits | None = None,
        connect_timeout: float = 5.0,
        heartbeat: float | None = None,
        key_file: str | PathLike[str] | KeyPair | None = None,
        broker_key: str | None = None,
        token: Token | None = None,
    ) -> None:
        super().__init__(
            address,
            player_id=player_id,
            limits=limits,
            connect_timeout=connect_timeout,
            heartbeat=heartbeat,
            key_file=key_file,
            broker_key=broker_key,
            token=token,
        )

    async def start(self) -> Self:
        """Connects, and waits until the broker has welcomed this endpoint.

        Afterwards a lost link is opened again by itself.

        Raises:
            BrokerUnreachable: no broker answered within `connect_timeout`.
            Refused: the broker refuses, for example `IDTaken` or `ServerTaken`.
            UsageError: it is started already.
        """
        if self._shell.running:
            raise UsageError("this endpoint is started already")
        await self._shell.start(self._connect_timeout_s)
        return self

    async def close(self) -> None:
        """Leaves the broker. What is in flight ends with `ConnectionLost`. A second time does nothing."""
        self._shell.stop()
        tasks = self._shell.other_tasks()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    async def run_forever(self) -> None:
        """Starts if need be, and returns only by cancellation, closed."""
        if not self._shell.running:
            await self.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _make_shell(self) -> AsyncioShell:
        return AsyncioShell(*self._shell_arguments())

    def _make_group(self) -> CallGroup:
        return CallGroup()

    def _encoder(self) -> Encoder:
        return self._shell.encoder()

    def _check_running(self) -> None:
        if not self._shell.running:
            raise UsageError(
                "this endpoint is not started, or closed: await start(), or use it in an `async with` block"
            )
        if threading.get_ident() != self._shell.thread:
            raise UsageError(
                "an asyncio endpoint is used from its loop's thread alone; from another one use"
                " asyncio.run_coroutine_threadsafe, or the blocking face"
            )

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        function(*arguments)

    def _keys_changed(self) -> None:
        if not self._shell.running:
            return
        if threading.get_ident() == self._shell.thread:
            self._endpoint.keys_changed()
        else:
            self._shell._loop.call_soon_threadsafe(self._endpoint.keys_changed)

    def cancel_call(self, call: PendingCall) -> None:
        """What `Call.cancel` does."""
        if threading.get_ident() != self._shell.thread:
            raise UsageError("a call of an asyncio endpoint is cancelled from its loop's thread alone")
        super().cancel_call(call)


class Server(ServerFace[Call, CallGroup], AsyncioFace):
    __doc__ = f"The one server. {AsyncioFace.__doc__}"


class Player(PlayerFace[Call, CallGroup], AsyncioFace):
    __doc__ = f"""A player. {AsyncioFace.__doc__}
        player_id: an int from 1 to 2**63-1 or a str of 1 to 64 bytes; None for one that the broker gives.
    """

    def __init__(self, address: str, player_id: PlayerID | None = None, **settings: Any) -> None:
        super().__init__(address, player_id=player_id, **settings)


class Operator(OperatorFace[Call, CallGroup], AsyncioFace):
    __doc__ = f"An operator: a trusted program beside the server. {AsyncioFace.__doc__}"
