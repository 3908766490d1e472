"""Keys for tests: a broker's, a list, and those of who may join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ringback.credentials import KeyPair, load_key_pair, new_key_pair, write_key_pair
from ringback.protocol.player_ids import PlayerID


class KeyRing:
    """A folder with the broker's key and the list of the keys that may join.

    Attributes:
        settings: of a broker that goes by them.
        options: the same for the command line.
        public: the broker's public key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.access = folder / "access.toml"
        self.key_file = write_key_pair(new_key_pair("broker", "broker"), folder)
        self.public = load_key_pair(self.key_file).public
        self.settings: dict[str, Any] = {"key_file": str(self.key_file), "access": str(self.access)}
        self.options = ("--key-file", str(self.key_file), "--access", str(self.access))
        self._listed: dict[str, str] = {}
        self.write()

    def make(self, name: str, role: str, *ids: PlayerID) -> KeyPair:
        """Makes a key that is not on the list."""
        return new_key_pair(name, role, ids, self.public)

    def add(self, name: str, role: str, *ids: PlayerID, more: str = "") -> KeyPair:
        """Makes a key that is."""
        pair = self.make(name, role, *ids)
        lines = ["[[key]]", f'name = "{name}"', f'role = "{role}"', f'public = "{pair.public}"']
        if ids:
            lines.append(f"ids = {list(ids)!r}".replace("'", '"'))
        self.list(name, "\n".join([*lines, more, ""]))
        return pair

    def list(self, name: str, text: str) -> None:
        self._listed[name] = text
        self.write()

    def remove(self, name: str) -> None:
        del self._listed[name]
        self.write()

    def write(self) -> None:
        temporary = self.access.with_suffix(".new")
        temporary.write_text("\n".join(self._listed.values()))
        temporary.replace(self.access)
