"""The files of a small deployment: key pairs, the access list, and what to do with them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringback_cli import access_files
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import DEFAULT_BACKEND, DEFAULT_PLAYERS

if TYPE_CHECKING:
    from ringback import PlayerID
    from ringback.credentials import KeyPair

ACCESS = "access.toml"


@dataclass(frozen=True)
class KeySet:
    """The files that are made.

    Attributes:
        folder: where they are.
        broker: the broker's key pair.
        endpoints: the key pairs of the server, the operator and the players, in the order of the access list.
    """

    folder: Path
    broker: KeyPair
    endpoints: tuple[KeyPair, ...]

    def key_file(self, name: str) -> str:
        """Return the path of a key file."""
        return str(self.folder / f"{name}.key")

    @property
    def access(self) -> str:
        """The path of the access list."""
        return str(self.folder / ACCESS)

    def paths(self) -> dict[str, str]:
        """Return the paths of all files, with what each is for; "" for one that has no further use."""
        found = {
            self.key_file("broker"): "secret: stays with the broker",
            self.access: "who may join: stays with the broker",
            str(self.folder / "broker.pub"): "not secret: for the key files of further endpoints",
        }
        for pair in self.endpoints:
            where = {"server": "of the server", "operator": "of the operator"}.get(pair.role, "of the player")
            found[self.key_file(pair.name)] = f"secret: move it to the machine {where}"
            found[str(self.folder / f"{pair.name}.pub")] = ""  # the access list has it already
        return found


def new_key_set(folder: Path, player_ids: Mapping[str, PlayerID]) -> KeySet:
    """Return new key pairs for a broker, a server, an operator and some players. Nothing is written.

    Args:
        player_ids: the IDs of the players, by the names of their keys.

    Raises:
        Failure: a name cannot be that of a key.
    """
    from ringback.credentials import KeyFileError, new_key_pair

    try:
        broker = new_key_pair("broker", "broker")
        roles: dict[str, tuple[str, tuple[PlayerID, ...]]] = {
            "server": ("server", ()),
            "operator": ("operator", ()),
            **{name: ("player", (player_id,)) for name, player_id in player_ids.items()},
        }
        endpoints = [new_key_pair(name, role, ids, broker.public) for name, (role, ids) in roles.items()]
    except KeyFileError as error:
        raise Failure(Exit.USAGE, str(error)) from None
    return KeySet(folder, broker, tuple(endpoints))


def write_key_set(keys: KeySet) -> None:
    """Write all files, in a folder that is created if it does not exist.

    Raises:
        Failure: one of the files exists already, and nothing is written; or they cannot be written.
    """
    from ringback.credentials import KeyFileError, write_key_pair

    there = [path for path in keys.paths() if Path(path).exists()]
    if there:
        others = f" and {len(there) - 1} more" if len(there) > 1 else ""
        reason = "exists already, and nothing is overwritten: name another folder"
        raise Failure(Exit.USAGE, f"--dir: {there[0]}{others} {reason}")
    document = access_files.new_document()
    for pair in keys.endpoints:
        fields: dict[str, Any] = {"name": pair.name, "role": pair.role, "public": pair.public}
        access_files.append(document, "key", {**fields, **({"ids": list(pair.ids)} if pair.ids else {})})
    try:
        keys.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for pair in (keys.broker, *keys.endpoints):
            write_key_pair(pair, keys.folder)
        with Path(keys.access).open("x", encoding="utf-8") as file:
            file.write(access_files.text_of(document))
    except KeyFileError as error:
        raise Failure(Exit.FAILED, f"cannot write {error}") from None
    except OSError as error:
        raise Failure(
            Exit.FAILED, f"cannot write {error.filename or keys.access}: {error.strerror}"
        ) from None


def listening(address: str) -> str:
    """Return where the broker listens to be reached at an address: at all IPs, or only on this machine."""
    from ringback.protocol.addresses import is_local

    return address if is_local(address) else f"tcp://0.0.0.0:{address.rpartition(':')[2]}"


def commands(keys: KeySet, players: str, backend: str) -> dict[str, str]:
    """Return what starts each part, by the part: commands of a shell, and code for programs.

    Args:
        players, backend: the addresses at which endpoints reach the broker.
    """
    broker = ["ringback", "broker", "--key-file", keys.key_file("broker"), "--access", keys.access]
    for option, address, default in (
        ("--players", players, DEFAULT_PLAYERS),
        ("--backend", backend, DEFAULT_BACKEND),
    ):
        if address != default:
            broker += [option, listening(address)]
    operator = ["ringback", "top", "--key-file", keys.key_file("operator")]
    if backend != DEFAULT_BACKEND:
        operator += ["--backend", backend]
    server = f"Server({_quoted(backend)}, key_file={_quoted(keys.key_file('server'))})"
    code = {
        pair.name: f"Player({_quoted(players)}, key_file={_quoted(keys.key_file(pair.name))})"
        for pair in keys.endpoints
        if pair.role == "player"
    }
    return {"broker": shlex.join(broker), "server": server, "operator": shlex.join(operator), **code}


def _quoted(text: str) -> str:
    """Return a str as Python has it, in double quotes."""
    return json.dumps(text)


def in_words(keys: KeySet, starts: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines that say what was made, which file goes where, and what to do next.

    Args:
        starts: what `commands` returns.
    """
    uses = {path: use for path, use in keys.paths().items() if use}
    width = max(map(len, uses))
    yield from (f"{path:<{width}}  {use}" for path, use in uses.items())
    for part, start in starts.items():
        how = "run" if part in ("broker", "operator") else "in its program"
        yield from ("", f"{part}, {how}:", f"    {start}")
    folder = str(keys.folder)
    new = ["ringback", "keys", "new", "anna", "--role", "player", "--id", "1", "--dir", folder]
    new += ["--broker-key", str(keys.folder / "broker.pub")]
    allow = ["ringback", "keys", "allow", str(keys.folder / "anna.pub"), "--access", keys.access]
    yield from ("", "one more player, run:", f"    {shlex.join(new)}", f"    {shlex.join(allow)}")
