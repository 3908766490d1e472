"""Key pairs for tests: the broker's, those of endpoints that may join, and the access list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ringback.credentials import KeyPair, load_key_pair, new_key_pair, write_key_pair
from ringback.protocol.player_ids import PlayerID


class KeyRing:
    """A folder with the broker's key file and the access list.

    Attributes:
        settings: the settings of a broker that uses them.
        options: the same as options of the command line.
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
        """Make a key pair that is not on the access list."""
        return new_key_pair(name, role, ids, self.public)

    def add(self, name: str, role: str, *ids: PlayerID, more: str = "") -> KeyPair:
        """Make a key pair, and add it to the access list. `more` is further lines of its entry."""
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
