"""Key pairs of CURVE (rfc.zeromq.org/spec/26), and the files that they are kept in.

A key file is TOML, readable by its owner alone: `name`, `role`, `public`, `secret`, for a player the `ids`
that it wants to have, and `broker`, the broker's public key, where that is known. The part of it that is
no secret is written beside it, for whoever keeps the broker's list.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zmq

from ringback.protocol.names import check_key_name, check_public_key
from ringback.protocol.player_ids import PlayerID, check_player_id

ROLES = ("broker", "server", "operator", "player")
PUBLIC_SUFFIX, SECRET_SUFFIX = ".pub", ".key"


class KeyFileError(ValueError):
    """A key or key file is wrong; the message says what, and what to do."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair, and whose it is.

    Attributes:
        name: what lists and logs call it.
        role: `broker`, `server`, `operator` or `player`.
        public, secret: in Z85, 40 characters each.
        ids: the player IDs that it is meant for.
        broker: the broker's public key in Z85, where it is known.
    """

    name: str
    role: str
    public: str
    secret: str
    ids: tuple[PlayerID, ...] = ()
    broker: str | None = None

    def with_broker(self, broker: str) -> KeyPair:
        """Gives the same with the broker's public key."""
        return replace(self, broker=broker)

    def __repr__(self) -> str:
        return f"<KeyPair {self.name!r} {self.public!r}>"  # not the secret


def new_key_pair(name: str, role: str, ids: tuple[PlayerID, ...] = (), broker: str | None = None) -> KeyPair:
    """Makes a key pair.

    Raises:
        KeyFileError: the name, the role, an ID or the broker's key is wrong.
    """
    public, secret = zmq.curve_keypair()
    pair = KeyPair(name, role, public.decode(), secret.decode(), ids, broker)
    _check(pair)
    return pair


def new_ephemeral_pair(broker: str) -> KeyPair:
    """Makes a key pair for an endpoint that shows who it is by a token: it only hides what is said."""
    public, secret = zmq.curve_keypair()
    return KeyPair("ephemeral", "player", public.decode(), secret.decode(), broker=broker)


def load_key_pair(path: str | os.PathLike[str]) -> KeyPair:
    """Reads a key file.

    Raises:
        KeyFileError: it can't be read, others may read it, or something in it is wrong.
    """
    path = Path(path)
    fields = read_key_file(path)
    try:
        if path.stat().st_mode & 0o077:
            raise KeyFileError(f"others may read it: chmod 600 {path}")
        pair = _pair(fields)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None
    return pair


def write_key_pair(pair: KeyPair, folder: str | Path) -> Path:
    """Writes NAME.key, for its owner alone, and NAME.pub beside it; gives the path of the first.

    Raises:
        KeyFileError: one of them exists, or can't be written.
    """
    public: dict[str, Any] = {"name": pair.name, "role": pair.role, "public": pair.public}
    if pair.ids:
        public["ids"] = list(pair.ids)
    secret = {**public, "secret": pair.secret}
    if pair.broker is not None:
        secret["broker"] = pair.broker
    return write_files(Path(folder), pair.name, public, secret)


def write_files(folder: Path, name: str, public: dict[str, Any], secret: dict[str, Any]) -> Path:
    """Writes what is public to NAME.pub and all of it to NAME.key; overwrites nothing."""
    path = folder / f"{name}{SECRET_SUFFIX}"
    for target, mode, fields in (
        (path, 0o600, secret),
        (folder / f"{name}{PUBLIC_SUFFIX}", 0o644, public),
    ):
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except OSError as error:
            raise KeyFileError(f"{target}: {error.strerror}") from None
        with os.fdopen(descriptor, "w") as file:
            file.writelines(f"{key} = {_toml(value)}\n" for key, value in fields.items())
    return path


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        # TOML's basic strings escape as JSON does, but for DEL, which JSON leaves as it is.
        escaped = "".join(
            f"\\u{ord(c):04x}" if ord(c) < 0x20 or ord(c) == 0x7F else f"\\{c}" if c in '"\\' else c
            for c in value
        )
        return f'"{escaped}"'
    return str(value)


def read_key_file(path: Path) -> dict[str, Any]:
    """Reads the fields of a key file, of either kind, as they stand there.

    Raises:
        KeyFileError: it can't be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise KeyFileError(f"{path}: it is not TOML: {error}") from None


def _check(pair: KeyPair) -> None:
    try:
        check_key_name(pair.name)
        if pair.role not in ROLES:
            raise KeyFileError(f"the role of a key is one of {', '.join(ROLES)}, not {pair.role!r:.80}")
        if pair.ids and pair.role != "player":
            raise KeyFileError(f"only a player has IDs, not a {pair.role}")
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
        raise KeyFileError(f"ids is a list of player IDs, not {ids!r:.80}")
    if type(secret) is not str:
        raise KeyFileError(f"it has no secret: that is in the file that ends with {SECRET_SUFFIX}")
    named: dict[str, Any] = {field: fields.get(field) for field in ("name", "role", "public", "broker")}
    pair = KeyPair(**named, secret=secret, ids=tuple(ids))
    _check(pair)
    try:
        matches = zmq.curve_public(secret.encode()).decode() == pair.public
    except (zmq.ZMQError, ValueError):
        matches = False
    if not matches:
        raise KeyFileError("its secret and its public key are no pair")
    return pair
