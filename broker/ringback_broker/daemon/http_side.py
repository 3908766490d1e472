"""Opening the HTTP side of the broker, and giving it a snapshot each second."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ringback.extras import install_command
from ringback.protocol.addresses import dialled
from ringback_broker.daemon.key_files import load_dashboard_key
from ringback_broker.operations.snapshot import Snapshot
from ringback_broker.settings.schema import BrokerSettings, InvalidSetting

if TYPE_CHECKING:
    from ringback.credentials import KeyPair
    from ringback_broker.http.dashboard import Dashboard

SNAPSHOT_S = 1.0


class HTTPSide:
    """Metrics, health and the dashboard. It listens once this is made, and answers from `start` to `close`.

    Args:
        address: where to listen, HOST:PORT.
        backend: the address where operators connect, for the dashboard.
        keys: the broker's own; None: connections are not encrypted.
        software: what runs, with its version.
        take_snapshot: returns what the broker knows at a time.

    Attributes:
        url: where it listens, with the real port.

    Raises:
        BindError: the broker cannot listen on the address.
        InvalidSetting: a package is missing, or a file cannot be used.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        address: str,
        backend: str,
        keys: KeyPair | None,
        software: str,
        take_snapshot: Callable[[float], Snapshot],
    ) -> None:
        self._take_snapshot = take_snapshot
        self._snapshot = take_snapshot(0.0)
        self._snapshot_at = 0.0
        try:
            from ringback_broker.http.server import HTTPServer, read_token

            dashboard = self._dashboard(settings, backend, keys, software) if settings.dashboard else None
        except ImportError as error:
            extra = "dashboard" if settings.dashboard else "metrics"
            raise InvalidSetting("http", f"{error.name} is not installed: {install_command(extra)}") from None
        token = None if settings.http_token_file is None else read_token(settings.http_token_file)
        self._server = HTTPServer(address, token, self.look, software, dashboard)
        self.url = self._server.url

    def _dashboard(
        self, settings: BrokerSettings, backend: str, keys: KeyPair | None, software: str
    ) -> Dashboard:
        from ringback_broker.http.dashboard import Dashboard
        from ringback_broker.http.dashboard_operator import DashboardOperator

        own = None
        if keys is not None and settings.dashboard_key_file is not None:
            own = load_dashboard_key(settings.dashboard_key_file, keys)
        return Dashboard(DashboardOperator(dialled(backend), own, self.look), software)

    def look(self) -> Snapshot:
        """Return the latest snapshot. Any thread may call this."""
        return self._snapshot

    def start(self, now: float) -> None:
        """Start answering, in a thread."""
        self._snapshot = self._take_snapshot(now)
        self._server.start()

    def tick(self, now: float) -> None:
        """Take a snapshot if one is due."""
        if now >= self._snapshot_at:
            self._snapshot = self._take_snapshot(now)
            self._snapshot_at = now + SNAPSHOT_S

    def close(self) -> None:
        """Stop answering. Closing twice does no harm."""
        self._server.close()
