"""A real broker in a thread of the test's process."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from ringback.errors import UsageError
from ringback.protocol.frames import Role
from ringback.systems import lack_of_unix
from ringback.testing.network import Network
from ringback.testing.ports import ANY_PORT, ReservedPort

if TYPE_CHECKING:
    from ringback_broker import Broker

DEFAULTS: dict[str, Any] = {
    "players": ANY_PORT,
    "backend": ANY_PORT,
    "grace": 0.05,
    "max_players": 1000,  # for more, it may have to raise the limit of descriptors of the test's process
}
"""The settings of a broker of tests, where they differ from those of any other broker."""

ENDED_WITHIN_S = 30.0


class LocalBroker:
    """A broker that works in a thread of this process, on free ports. It starts in a `with` block.

    It can be killed and brought back at the same addresses.

    Args:
        proxied: whether there is a `network` between endpoints and the broker. It needs TCP.
        settings: settings of the broker, as for `BrokerSettings`.

    Attributes:
        players: the address where players connect, from the beginning of the block.
        backend: the address where the server and operators connect.

    Raises:
        InvalidSetting: a setting is wrong.
        BindError: the broker cannot listen on an address that the settings name.
        UsageError: a broker does not run on this system.
    """

    players: str
    backend: str

    def __init__(self, *, proxied: bool = False, **settings: Any) -> None:
        self._settings = {**DEFAULTS, **settings}
        self._stack = ExitStack()
        self._network = Network() if proxied else None
        self._broker: Broker | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._changing = threading.RLock()

    def __repr__(self) -> str:
        where = f" at {self.players} and {self.backend}" if hasattr(self, "backend") else ""
        return f"<LocalBroker{where}: {'running' if self.running else 'down'}>"

    def __enter__(self) -> Self:
        _check_system()
        with ExitStack() as stack:
            for side in ("players", "backend"):
                if self._settings[side] == ANY_PORT:
                    port = ReservedPort()
                    stack.callback(port.close)
                    self._settings[side] = port.address
            self.start()
            stack.callback(self.stop)
            self.players, self.backend = self._settings["players"], self._settings["backend"]
            if self._network is not None:
                stack.enter_context(self._network)
                self.players, self.backend = self._network.carry_to(self.players, self.backend)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- where it is

    def address_for(self, role: Role) -> str:
        """Return where one more endpoint connects: on a link of its own, if there is a network."""
        address = self.players if role is Role.PLAYER else self.backend
        return address if self._network is None else self._network.new_link(address)

    def has_address(self, address: str) -> bool:
        """Return whether endpoints with an address connect to this broker. Not for users."""
        if self._network is not None and self._network.has_address(address):
            return True
        return address in (self.players, self.backend, self._settings["players"], self._settings["backend"])

    @property
    def http(self) -> str | None:
        """The URL of the HTTP side; None if there is none, or while the broker is down."""
        return None if self._broker is None else self._broker.http

    @property
    def network(self) -> Network:
        """What is between endpoints and the broker.

        Raises:
            UsageError: the broker is not `proxied`.
        """
        if self._network is None:
            raise UsageError(
                "there is no network between endpoints and this broker: let the test have the argument"
                " ringback_network, or make the broker with LocalBroker(proxied=True)"
            )
        return self._network

    @property
    def broker(self) -> Broker:
        """The broker itself.

        Raises:
            UsageError: it is down.
        """
        if self._broker is None:
            raise UsageError("the broker is down: call start()")
        return self._broker

    @property
    def running(self) -> bool:
        """Whether the broker works. It does not after `drain`, `stop` and `kill`."""
        return self._thread is not None and self._thread.is_alive()

    # -- its life. Any thread may change it: one change waits for the end of another

    def start(self) -> None:
        """Start the broker, at the addresses that it had before. Endpoints connect again by themselves.

        Raises:
            UsageError: it is running.
        """
        from ringback_broker import Broker, BrokerSettings

        with self._changing:
            if self.running:
                raise UsageError("the broker is running already: call restart() to have a new one")
            self._end()
            broker = self._broker = Broker(BrokerSettings(**self._settings))
            self._settings.update(players=broker.players, backend=broker.backend)
            if broker.http is not None:
                self._settings["http"] = broker.http.removeprefix("http://")
            self._thread = threading.Thread(target=self._run, args=(broker,), name="local broker")
            self._thread.start()

    def drain(self) -> None:
        """Ask the broker to drain, as the first signal does, and do not wait for it."""
        broker = self._broker  # another thread may end it meanwhile
        if broker is not None:
            broker.stop()

    def stop(self) -> None:
        """Let the broker drain, and wait until it has stopped: after the setting `grace` at the latest."""
        with self._changing:
            self.drain()
            self._end()

    def kill(self) -> None:
        """End the broker at once, as a power failure does: nobody is told. Do nothing if it is down."""
        with self._changing:
            if self._broker is not None:
                self._broker.stop(at_once=True)
            self._end()

    def restart(self) -> None:
        """Kill the broker, and start it again at the same addresses."""
        with self._changing:
            self.kill()
            self.start()

    def _run(self, broker: Broker) -> None:
        try:
            broker.run()
        except BaseException as error:
            self._failure = error

    def _end(self) -> None:
        """Wait until the broker has stopped."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(ENDED_WITHIN_S)
            if thread.is_alive():
                raise RuntimeError(f"the broker did not stop within {ENDED_WITHIN_S:g} s")
        self._broker = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise RuntimeError("the broker failed") from failure


def _check_system() -> None:
    """Check that the broker can be imported.

    Raises:
        UsageError: it needs what this system does not have.
    """
    try:
        from ringback_broker import Broker  # noqa: F401
    except ImportError as error:
        if (lack := lack_of_unix(error)) is None:
            raise
        raise UsageError(f"the broker of a test {lack}") from None
