"""The files that say who may join: the broker's own key, and the list of the keys of others."""

from __future__ import annotations

from pathlib import Path

from ringback.credentials import KeyFileError, KeyPair, load_key_pair
from ringback_broker.admission.access_list import MAX_BYTES, AccessError, AccessList
from ringback_broker.daemon.background_reader import Reading
from ringback_broker.settings.schema import InvalidSetting

LOOK_S = 1.0
"""How often the list is looked at for changes."""


def load_broker_key(path: str) -> KeyPair:
    """Gives the broker's own keys.

    Raises:
        InvalidSetting: the file can't be read, or is not a broker's.
    """
    return _load("key_file", path, "broker")


def load_dashboard_key(path: str, broker: KeyPair) -> KeyPair:
    """Gives the keys of the operator that the dashboard is.

    Raises:
        InvalidSetting: the file can't be read, or is not an operator's.
    """
    return _load("dashboard_key_file", path, "operator").with_broker(broker.public)


def _load(setting: str, path: str, role: str) -> KeyPair:
    try:
        pair = load_key_pair(path)
    except KeyFileError as error:
        raise InvalidSetting(setting, str(error)) from None
    if pair.role != role:
        raise InvalidSetting(setting, f"{path} is the key of {_a(pair.role)}, not of {_a(role)}")
    return pair


def _a(role: str) -> str:
    return f"an {role}" if role == "operator" else f"a {role}"


class AccessFile:
    """The list of keys as a file that may change.

    Attributes:
        list: what stood in it at first.

    Raises:
        InvalidSetting: it can't be read, or something in it is wrong.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._state: tuple[int, ...] = ()
        self._look_at = 0.0
        self._reading = Reading(self.read, "ringback-keys")
        try:
            self.list = self.read()
        except AccessError as error:
            raise InvalidSetting("access", str(error)) from None

    def read(self) -> AccessList:
        """Reads it.

        Raises:
            AccessError: it can't be read, or something in it is wrong.
        """
        self._state = self._look()
        try:
            with self._path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise AccessError(f"{self._path}: {error.strerror}") from None
        try:
            if len(raw) > MAX_BYTES:
                raise AccessError(f"it has more than {MAX_BYTES} bytes")
            return AccessList.parse(raw.decode())
        except UnicodeDecodeError:
            raise AccessError(f"{self._path}: it is not UTF-8") from None
        except AccessError as error:
            raise AccessError(f"{self._path}: {error}") from None

    def look(self, now: float) -> None:
        """Has it read anew if it is another file, or was written, since it was read."""
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            if self._look() != self._state:
                self.start_reading()

    def start_reading(self) -> None:
        """Has it read in a thread: thousands of keys take a second. `take` gives what came of it."""
        self._reading.start()

    def take(self) -> AccessList | AccessError | None:
        """Gives what was read since the last time, or what is wrong with it; None if there is nothing new."""
        result = self._reading.take()
        if isinstance(result, Exception) and not isinstance(result, AccessError):  # a fault of ours
            return AccessError(f"{self._path}: {type(result).__name__}: {result}")
        return result

    def _look(self) -> tuple[int, ...]:
        try:
            state = self._path.stat()
        except OSError:
            return ()
        return state.st_ino, state.st_mtime_ns, state.st_size
