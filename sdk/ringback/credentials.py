"""CURVE key pairs (rfc.zeromq.org/spec/26) and their files.

A key file is TOML that only its owner can read. Its fields are `name`, `role`, `public`, `secret`, for a
player the `ids` that it wants, and `broker`, the broker's public key, if it is known. A second file has
everything but the secret, for the broker's access list.
"""

from __future__ import annotations

import os
import tomllib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from ringback.protocol.names import check_key_name, check_public_key
from ringback.protocol.player_ids import PlayerID, check_player_id
from ringback.systems import others_may_read

__all__ = ["KeyFileError", "KeyPair", "load_key_pair", "new_key_pair", "write_key_pair"]

ROLES = ("broker", "server", "operator", "player")
PUBLIC_SUFFIX, SECRET_SUFFIX = ".pub", ".key"


class KeyFileError(ValueError):
    """A key pair or key file is wrong. The message says what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair and its owner. Its repr does not show the secret key.

    Attributes:
        name: the identity that access lists and logs show.
        role: `broker`, `server`, `operator` or `player`.
        public: the public key in Z85, 40 characters.
        secret: the secret key, likewise.
        ids: the player IDs that the owner wants, for a player.
        broker: the broker's public key in Z85, if it is known.
    """

    name: str
    role: str
    public: str
    secret: str
    ids: tuple[PlayerID, ...] = ()
    broker: str | None = None

    def with_broker(self, broker: str) -> KeyPair:
        """Return a copy with the broker's public key, 40 characters of Z85."""
        return replace(self, broker=broker)

    def __repr__(self) -> str:
        return f"<KeyPair {self.name!r} {self.public!r}>"  # not the secret


def new_key_pair(name: str, role: str, ids: tuple[PlayerID, ...] = (), broker: str | None = None) -> KeyPair:
    """Return a new key pair. Save it with `write_key_pair`, and add its public key to the access list.

    Args:
        name: 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-". The first is a letter or digit.
        role: `broker`, `server`, `operator` or `player`.
        ids: for a player, the player IDs that it wants.
        broker: the broker's public key, 40 characters of Z85, if it is known.

    Raises:
        KeyFileError: the name, the role, an ID or the broker's public key is wrong.
    """
    public, secret = zmq.curve_keypair()
    while public.startswith(b"-"):  # a command would take it for an option
        public, secret = zmq.curve_keypair()
    pair = KeyPair(name, role, public.decode(), secret.decode(), ids, broker)
    _check(pair)
    return pair


def new_ephemeral_pair(broker: str) -> KeyPair:
    """Return a new key pair for a player with a token: it encrypts, and proves no identity."""
    public, secret = zmq.curve_keypair()
    return KeyPair("ephemeral", "player", public.decode(), secret.decode(), broker=broker)


def load_key_pair(path: str | os.PathLike[str]) -> KeyPair:
    """Return the key pair of a key file.

    Raises:
        KeyFileError: the file cannot be read, other users may read it, or its content is wrong.
    """
    path = Path(path)
    fields = read_key_file(path)
    try:
        if others_may_read(path.stat().st_mode):
            raise KeyFileError(f"other users may read this file: run chmod 600 {path}")
        pair = _pair(fields)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None
    return pair


def write_key_pair(pair: KeyPair, folder: str | Path) -> Path:
    """Write NAME.key, which only the owner can read, and NAME.pub. Return the path of NAME.key.

    Raises:
        KeyFileError: one of the files exists already, or cannot be written.
    """
    public: dict[str, Any] = {"name": pair.name, "role": pair.role, "public": pair.public}
    if pair.ids:
        public["ids"] = list(pair.ids)
    secret = {**public, "secret": pair.secret}
    if pair.broker is not None:
        secret["broker"] = pair.broker
    return write_files(Path(folder), pair.name, public, secret)


def write_files(folder: Path, name: str, public: dict[str, Any], secret: dict[str, Any]) -> Path:
    """Write the public fields to NAME.pub and all fields to NAME.key. Return the path of NAME.key.

    Raises:
        KeyFileError: one of the files exists already, or cannot be written. Then no new file is left.
    """
    path = folder / f"{name}{SECRET_SUFFIX}"
    with ExitStack() as written:
        for target, mode, fields in (
            (path, 0o600, secret),
            (folder / f"{name}{PUBLIC_SUFFIX}", 0o644, public),
        ):
            try:
                # Path.open has no `opener`, which creates the file with its mode.
                with open(target, "x", encoding="utf-8", opener=partial(os.open, mode=mode)) as file:
                    written.callback(target.unlink, missing_ok=True)
                    file.writelines(f"{key} = {_toml(value)}\n" for key, value in fields.items())
            except FileExistsError:
                reason = "exists already, and is not overwritten: choose another name or folder"
                raise KeyFileError(f"{target} {reason}") from None
            except OSError as error:
                raise KeyFileError(f"{target}: {error.strerror}") from None
        written.pop_all()
    return path


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        # A basic string of TOML escapes the same characters as JSON, and also DEL.
        escaped = "".join(
            f"\\u{ord(c):04x}" if ord(c) < 0x20 or ord(c) == 0x7F else f"\\{c}" if c in '"\\' else c
            for c in value
        )
        return f'"{escaped}"'
    return str(value)


def read_key_file(path: Path) -> dict[str, Any]:
    """Return the fields of a file NAME.key or NAME.pub, unchecked.

    Raises:
        KeyFileError: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KeyFileError(f"{path}: this file is not TOML: {error}") from None


def public_key_of(text: str, role: str) -> str:
    """Return a public key: the text itself, or the one in the file NAME.pub or NAME.key at this path.

    Args:
        text: 40 characters of Z85, or a path.
        role: whose key it must be. A key by itself does not say so; a file does.

    Raises:
        KeyFileError: the text is neither, the file cannot be read, or is the key of another role.
    """
    try:
        return check_public_key(text)
    except ValueError:
        pass
    try:
        if not text:
            raise KeyFileError("not ''")
        fields = read_key_file(Path(text))
        if fields.get("role") != role:
            raise KeyFileError(f"{text}: this is a key of the role {fields.get('role')!r:.80}, not {role!r}")
        return check_public_key(fields.get("public"))
    except (TypeError, ValueError) as error:  # ValueError: also a NUL in the path
        forms = f"the public key of a {role}, 40 characters of Z85, or the path of its {PUBLIC_SUFFIX} file"
        raise KeyFileError(f"it must be {forms}; {error}") from None


def _check(pair: KeyPair) -> None:
    try:
        check_key_name(pair.name)
        if pair.role not in ROLES:
            raise KeyFileError(
                f"the role of a key pair must be one of {', '.join(ROLES)}, not {pair.role!r:.80}"
            )
        if pair.ids and pair.role != "player":
            raise KeyFileError(f"only a player may have IDs, not a {pair.role}")
        for player_id in pair.ids:
            check_player_id(player_id)
        check_public_key(pair.public)
        if pair.broker is not None:
            check_public_key(pair.broker)
    except (TypeError, ValueError) as error:
        raise KeyFileError(str(error)) from None


def _pair(fields: dict[str, Any]) -> KeyPair:
    ids, secret = fields.get("ids", []), fields.get("secret")
    if type(ids) is not list:
        raise KeyFileError(f"ids must be a list of player IDs, not {ids!r:.80}")
    if type(secret) is not str:
        raise KeyFileError(f"there is no secret in this file: use the file that ends with {SECRET_SUFFIX}")
    named: dict[str, Any] = {field: fields.get(field) for field in ("name", "role", "public", "broker")}
    pair = KeyPair(**named, secret=secret, ids=tuple(ids))
    _check(pair)
    try:
        matches = zmq.curve_public(secret.encode()).decode() == pair.public
    except (zmq.ZMQError, ValueError):
        matches = False
    if not matches:
        raise KeyFileError("the secret key and the public key are not a pair")
    return pair
