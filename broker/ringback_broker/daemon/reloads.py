"""What SIGHUP reloads, and what changes by itself: the settings and the access list."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ringback_broker.admission.access_list import AccessError, AccessList
from ringback_broker.daemon.background_reader import BackgroundReader
from ringback_broker.daemon.key_files import AccessFile
from ringback_broker.daemon.logs import audit
from ringback_broker.settings.changes import change
from ringback_broker.settings.schema import BrokerSettings

log = logging.getLogger("ringback.broker")


class AccessListReload:
    """The access list of a running broker. A file that is wrong changes nothing.

    Args:
        use: puts another access list in force.
    """

    def __init__(self, file: AccessFile, use: Callable[[AccessList], None]) -> None:
        self._file = file
        self._use = use

    def start(self) -> None:
        """Start reading the file, in a thread."""
        self._file.start_reading()

    def tick(self, now: float) -> None:
        """Read the file again if it has changed, and use what was read."""
        self._file.look(now)
        found = self._file.take()
        if isinstance(found, AccessError):
            log.error("the access list was not reloaded, and the old one stays valid: %s", found)
            audit(event="keys not reloaded", reason=str(found))
        elif found is not None:
            log.info("the access list was reloaded: %d keys", len(found))
            audit(event="keys reloaded", keys=len(found))
            self._use(found)


class SettingsReload:
    """The settings of a running broker. Settings that are wrong change nothing.

    Args:
        settings: what the broker was started with.
        read: reads the settings again and returns them. A thread calls this.
        use: puts other settings in force.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        read: Callable[[], BrokerSettings],
        use: Callable[[BrokerSettings], None],
    ) -> None:
        self._settings = settings
        self._reading = BackgroundReader(read, "ringback-settings")
        self._use = use

    def start(self) -> None:
        """Start reading, in a thread."""
        self._reading.start()

    def tick(self, _now: float) -> None:
        """Use what was read, as far as a running broker can."""
        found = self._reading.take()
        if isinstance(found, Exception):
            log.error("the settings were not reloaded, and the old ones stay valid: %s", found)
            audit(event="settings not reloaded", reason=str(found))
        elif found is not None:
            changed = change(self._settings, found)
            self._settings = changed.settings
            self._use(changed.settings)
            log.info("the settings were reloaded: %s", ", ".join(changed.taken) or "nothing has changed")
            audit(event="settings reloaded", taken=changed.taken, waiting=changed.waiting)
            if changed.waiting:
                log.warning("these settings change after a restart: %s", ", ".join(changed.waiting))


def start_all(reloads: list[AccessListReload | SettingsReload]) -> None:
    """Start all reloads. Say so if there is nothing to reload."""
    for reload in reloads:
        reload.start()
    if not reloads:
        log.info("there is nothing to reload: no settings file, no access list")
