"""The blocking face: calls are waited for, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ringback._roles.calls import CallBase, unwrap
from ringback._roles.groups import GroupBase
from ringback._roles.roles import Face, OperatorFace, PlayerFace, ServerFace
from ringback._runtime.blocking_shell import BlockingShell
from ringback._runtime.worker_pool import waiting
from ringback.errors import CallbackError, UsageError
from ringback.protocol.envelopes import Encoder
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import PlayerID

if TYPE_CHECKING:
    from os import PathLike

    from ringback._runtime.link_keys import Token
    from ringback.credentials import KeyPair


class Call(CallBase):
    """A call that was triggered. It ends exactly once: with results, or with an error."""

    __slots__ = ()
    _face: BlockingFace

    def result(self) -> Any:
        """Waits for the end and gives the result: None for none, the value of one, a tuple of several.

        Raises:
            CallbackError: the call failed; `error.executed` says whether the handler ran.
        """
        self._wait()
        return unwrap(self._outcome())

    @property
    def results(self) -> tuple[Any, ...]:
        """All results as a tuple; waits and raises as `result` does."""
        self._wait()
        return self._outcome()

    @property
    def error(self) -> CallbackError | None:
        """Waits for the end and gives the error, None on success."""
        self._wait()
        return self._error

    def _wait(self) -> None:
        self._seen = True  # also if Ctrl-C ends the wait
        if self._done:
            return
        done = threading.Lock()
        done.acquire()
        self.add_waiter(done.release)
        with waiting():
            done.acquire()


class CallGroup(GroupBase[Call]):
    """The calls of one trigger on many players. Iterating gives (player ID, call) as the calls end."""

    def __init__(self) -> None:
        super().__init__()
        self._condition = threading.Condition()

    def __iter__(self) -> Iterator[tuple[PlayerID, Call]]:
        position = 0
        while True:
            self._wait(lambda: len(self._ended) > position or self._complete)  # noqa: B023
            if position == len(self._ended):
                self._result()
                return
            yield self._given(position)
            position += 1

    def all(self) -> dict[PlayerID, Call]:
        """Waits until all calls have ended, and gives each player's.

        Raises:
            CallbackError: it could not be found out who is connected.
        """
        self._wait(lambda: self._complete)
        return self._result()

    def _wait(self, until: Callable[[], bool]) -> None:
        with waiting(), self._condition:
            self._condition.wait_for(until)

    def _changed(self) -> None:
        with self._condition:
            self._condition.notify_all()


class BlockingFace(Face[Call, CallGroup]):
    """How a blocking endpoint starts, ends and waits.

    Args:
        address: of the broker: `tcp://HOST:PORT` or `ipc://PATH`; for a player the players' address,
            else the backend's.
        limits: what is accepted from others.
        connect_timeout: how long `start` waits for the broker, in seconds.
        heartbeat: how often the link carries a sign of life, 0.1 to 60 seconds: who is silent is found after
            about twice that. None: 1.0 for a player, else 0.5.
        key_file: the endpoint's own key, a file made by `ringback keys new`.
        broker_key: the broker's public key, where the key file does not name it.
        token: of a player without a key of its own: the token, or a function that gives one, which is called
            for each new link, in a worker; needs `broker_key`.
        workers: handlers that may run at one time; those that wait for calls of their own do not count.
        max_threads: workers in all.
    """

    _shell: BlockingShell
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
        workers: int = 4,
        max_threads: int = 256,
    ) -> None:
        if type(workers) is not int or type(max_threads) is not int or not 1 <= workers <= max_threads:
            raise ValueError(
                f"workers and max_threads are ints, 1 <= workers <= max_threads, not {workers}, {max_threads}"
            )
        self._worker_counts = (workers, max_threads)
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

    def start(self) -> Self:
        """Connects, and waits until the broker has welcomed this endpoint.

        Afterwards a lost link is opened again by itself.

        Raises:
            BrokerUnreachable: no broker answered within `connect_timeout`.
            Refused: the broker refuses, for example `IDTaken` or `ServerTaken`.
            UsageError: it is started already.
        """
        if self._shell.running:
            raise UsageError("this endpoint is started already")
        self._shell.start(self._connect_timeout_s)
        return self

    def close(self) -> None:
        """Leaves the broker. What is in flight ends with `ConnectionLost`. A second time does nothing."""
        self._shell.stop()

    def run_forever(self) -> None:
        """Starts if need be, and returns when it is closed, from a signal handler or another thread; Ctrl-C
        closes it too."""
        try:
            if not self._shell.running:
                self.start()
            self._shell.ended.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _make_shell(self) -> BlockingShell:
        workers, max_threads = self._worker_counts
        return BlockingShell(*self._shell_arguments(), workers=workers, max_threads=max_threads)

    def _make_group(self) -> CallGroup:
        return CallGroup()

    def _encoder(self) -> Encoder:
        return self._shell.encoder()

    def _check_running(self) -> None:
        if not self._shell.running:
            raise UsageError(
                "this endpoint is not started, or closed: call start(), or use it in a `with` block"
            )

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        self._shell.submit(function, *arguments)

    def _keys_changed(self) -> None:
        if self._shell.running:
            self._shell.submit(self._endpoint.keys_changed)


class Server(ServerFace[Call, CallGroup], BlockingFace):
    __doc__ = f"The one server. {BlockingFace.__doc__}"


class Player(PlayerFace[Call, CallGroup], BlockingFace):
    __doc__ = f"""A player. {BlockingFace.__doc__}
        player_id: an int from 1 to 2**63-1 or a str of 1 to 64 bytes; None for one that the broker gives.
    """

    def __init__(self, address: str, player_id: PlayerID | None = None, **settings: Any) -> None:
        super().__init__(address, player_id=player_id, **settings)


class Operator(OperatorFace[Call, CallGroup], BlockingFace):
    __doc__ = f"An operator: a trusted program beside the server. {BlockingFace.__doc__}"
