"""The files that say who may join: the broker's key file, and the access list."""

from __future__ import annotations

from pathlib import Path

from ringback.credentials import KeyFileError, KeyPair, load_key_pair
from ringback_broker.admission.access_list import MAX_BYTES, AccessError, AccessList
from ringback_broker.daemon.background_reader import BackgroundReader
from ringback_broker.settings.schema import InvalidSetting

LOOK_S = 1.0
"""How often the broker looks whether the access list has changed."""


def load_broker_key(path: str) -> KeyPair:
    """Return the broker's key pair.

    Raises:
        InvalidSetting: the file cannot be read, or is not a broker's.
    """
    return _load("key_file", path, "broker")


def load_dashboard_key(path: str, broker: KeyPair) -> KeyPair:
    """Return the key pair of the dashboard's operator.

    Raises:
        InvalidSetting: the file cannot be read, or is not an operator's.
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
    """The file of the access list, which may change.

    Attributes:
        list: the access list at the start.

    Raises:
        InvalidSetting: the file cannot be read, or something in it is wrong.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._state: tuple[int, ...] | None = ()  # None: it is there, and could not be read
        self._said = ""  # why it could not be read
        self._look_at = 0.0
        self._reading = BackgroundReader(self.read, "ringback-keys")
        try:
            self.list = self.read()
        except AccessError as error:
            raise InvalidSetting("access", str(error)) from None

    def read(self) -> AccessList:
        """Read the file.

        Raises:
            AccessError: the file cannot be read, or something in it is wrong.
        """
        self._state = self._look()
        try:
            with self._path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            if self._state:
                self._state = None
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
        """Start reading if the file was replaced or written since it was read, or could not be read."""
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            if self._look() != self._state:
                self._reading.start()

    def start_reading(self) -> None:
        """Start reading, in a thread: thousands of keys take a second. `take` returns the result."""
        self._said = ""
        self._reading.start()

    def take(self) -> AccessList | AccessError | None:
        """Return what was read since the last call, or what is wrong with it; None if there is nothing
        new, also if it cannot be read for the same reason as the last time."""
        result = self._reading.take()
        if result is None:
            return None
        before, self._said = self._said, ""
        if isinstance(result, Exception) and self._state is None:
            self._said = str(result)
            if self._said == before:
                return None
        if isinstance(result, Exception) and not isinstance(result, AccessError):  # a fault of ours
            return AccessError(f"{self._path}: {type(result).__name__}: {result}")
        return result

    def _look(self) -> tuple[int, ...]:
        try:
            state = self._path.stat()
        except OSError:
            return ()
        # A copy may keep the time and the size, but not the time of the change itself.
        return state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size
