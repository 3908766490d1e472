"""The network between endpoints and a broker, with the faults that a test wants."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from ringback._runtime.call_context import check_timeout
from ringback.testing.arguments import check_endpoint
from ringback.testing.proxy import NONE, STALLED, Faults, LoopThread, Proxy

if TYPE_CHECKING:
    from ringback._roles.base import RoleBase


class Network:
    """Links that can be slow, silent or cut.

    Endpoints that `ringback_endpoints` and `ringback_aio_endpoints` make have a link each. All others share
    one for players and one for the backend: what is done to one of them is done to all that share its link.

    Each function takes the endpoints that it is about; without any, it is about all links. `delay`, `drop`
    and `refuse` are then also about the links of endpoints that come later, until `restore()`.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._thread = LoopThread()
        self._proxies: dict[str, Proxy] = {}
        self._faults = NONE
        self._refuses = False

    def __enter__(self) -> Self:
        self._stack.enter_context(self._thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def carry_to(self, players: str, backend: str) -> tuple[str, str]:
        """Carry to these addresses of a broker. Not for users.

        Returns:
            The addresses of the two links that endpoints share.
        """
        for address in (players, backend):
            if not address.startswith("tcp://"):
                raise ValueError(
                    f"a network carries tcp only, and the broker has the address {address}: leave players and"
                    " backend out of the settings, and it has free ports"
                )
        return self._link(players), self._link(backend)

    def new_link(self, shared: str) -> str:
        """Return the address of another link to where a shared one leads. Not for users."""
        return self._link(self._proxies[shared].target)

    def _link(self, target: str) -> str:
        proxy = self._stack.enter_context(Proxy(target, self._thread))
        proxy.set_faults(self._faults)
        if self._refuses:
            proxy.refuse()
        self._proxies[proxy.address] = proxy
        return proxy.address

    def has_address(self, address: str) -> bool:
        """Return whether an address is one of this network's links. Not for users."""
        return address in self._proxies

    def delay(self, seconds: float, *endpoints: RoleBase[Any, Any]) -> None:
        """Let each byte arrive so much later, in both directions.

        Raises:
            TypeError, ValueError: `seconds` is not a number of seconds.
        """
        if check_timeout(seconds, "seconds") is None:
            raise ValueError(f"seconds must be a number, not {seconds}: use drop() if nothing shall arrive")
        self._set(Faults(delay_s=seconds), endpoints)

    def drop(self, *endpoints: RoleBase[Any, Any]) -> None:
        """Drop everything: nothing arrives, and connections stay open, as when a cable is pulled.

        After `restore`, what was lost arrives: TCP sends it again.
        """
        self._set(STALLED, endpoints)

    def refuse(self, *endpoints: RoleBase[Any, Any]) -> None:
        """Refuse new connections. Those that are open stay: `cut` them too if no link shall be left."""
        for proxy in self._of(endpoints):
            proxy.refuse()
        self._refuses = self._refuses or not endpoints

    def cut(self, *endpoints: RoleBase[Any, Any], reset: bool = False) -> int:
        """Close the connections. Endpoints connect again by themselves.

        Args:
            reset: whether with a RST, as after a crash of the other machine.

        Returns:
            How many connections there were.
        """
        return sum(proxy.cut(reset=reset) for proxy in self._of(endpoints))

    def restore(self, *endpoints: RoleBase[Any, Any]) -> None:
        """End `delay`, `drop` and `refuse`."""
        self._set(NONE, endpoints)
        for proxy in self._of(endpoints):
            proxy.accept()
        self._refuses = self._refuses and bool(endpoints)

    def _set(self, faults: Faults, endpoints: tuple[RoleBase[Any, Any], ...]) -> None:
        for proxy in self._of(endpoints):
            proxy.set_faults(faults)
        if not endpoints:
            self._faults = faults

    def _of(self, endpoints: tuple[RoleBase[Any, Any], ...]) -> list[Proxy]:
        """Return the proxies of endpoints, all of an endpoint with several addresses; without any, of all.

        Raises:
            TypeError: one of them is not an endpoint.
            ValueError: one of them does not connect through this network.
        """
        if not endpoints:
            return list(self._proxies.values())
        proxies: dict[Proxy, None] = {}
        for endpoint in endpoints:
            check_endpoint(endpoint)
            links = [self._proxies[address] for address in endpoint.addresses if address in self._proxies]
            proxies |= dict.fromkeys(links)
            if not links:
                raise ValueError(
                    f"{endpoint!r} does not connect through this network: make it with ringback_endpoints or"
                    " ringback_aio_endpoints, or at the address ringback_broker.players or .backend"
                )
        return list(proxies)
