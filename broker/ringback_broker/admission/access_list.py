"""The access list: which public keys may join, as what and as whom.

It is a TOML file that people read and edit, and that `ringback keys allow` and `revoke` write.
`docs/security.md` describes it. Pure: the text and the time are arguments.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ringback.errors import RejectCode, UsageError
from ringback.protocol.control import Hello
from ringback.protocol.frames import Role
from ringback.protocol.names import check_key_name, check_public_key
from ringback.protocol.player_ids import PlayerID, check_player_id
from ringback_broker.admission.token_verifier import BadToken, TokenVerifier
from ringback_broker.peers.connection import Side
from ringback_broker.peers.identity import Identity

MAX_BYTES = 64 * 1024 * 1024
"""How large the file may be. That is room for several hundred thousand keys."""


class AccessError(ValueError):
    """The access list is wrong. The message says where, and what is allowed."""


class Denied(Exception):
    """A peer may not join as what it says. The message is for the peer."""

    def __init__(self, reason: str, code: RejectCode = RejectCode.UNAUTHORIZED) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


@dataclass(frozen=True, slots=True)
class Entry:
    """One public key of the access list.

    Attributes:
        name: for people and logs.
        role: the role of the peer that holds the key.
        public: the public key, in Z85.
        ids: the IDs that a player may take. A player that asks for none gets the first.
        sources: whether an operator may call the server in the name of a source.
        orders: whether an operator may kick players, drain the broker and watch calls.
        note: for people.
    """

    name: str
    role: Role
    public: str
    ids: tuple[PlayerID, ...] = ()
    sources: bool = True
    orders: bool = True
    note: str = ""


class AccessList:
    """What the access list says.

    Attributes:
        entries: the entries, by public key.
    """

    def __init__(
        self, entries: Mapping[str, Entry], token_keys: Mapping[str, str], audience: str = "ringback"
    ) -> None:
        self.entries = entries
        self._token_keys = token_keys
        self._tokens = TokenVerifier(token_keys, audience) if token_keys else None

    def __len__(self) -> int:
        return len(self.entries) + len(self._token_keys)

    @classmethod
    def parse(cls, text: str) -> AccessList:
        """Read an access list.

        Raises:
            AccessError: something in it is wrong.
        """
        try:
            return cls._parse(text)
        except AccessError:
            raise
        except RecursionError:
            raise AccessError("it is nested too deeply") from None
        except ValueError as error:  # an int of too many digits, when it is read or shown
            raise AccessError(str(error)) from None

    @classmethod
    def _parse(cls, text: str) -> AccessList:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise AccessError(f"it is not TOML: {error}") from None
        _check_known(document, {"audience", "key", "token_key"}, "the access list")
        audience = document.get("audience", "ringback")
        if type(audience) is not str or not audience:
            raise AccessError(f"audience must be a str that is not empty, not {audience!r:.80}")
        entries: dict[str, Entry] = {}
        for place, fields in _tables(document, "key"):
            entry = _entry(place, fields)
            if entry.public in entries:
                raise AccessError(f"{place}: {entries[entry.public].name!r} has the same public key")
            entries[entry.public] = entry
        _check_unique([entry.name for entry in entries.values()], "key")
        token_keys = dict(_token_key(place, fields) for place, fields in _tables(document, "token_key"))
        _check_unique([fields["name"] for _, fields in _tables(document, "token_key")], "token_key")
        return cls(entries, token_keys, audience)

    def rows(self) -> list[dict[str, Any]]:
        """Return the entries as rows for people."""
        rows: list[dict[str, Any]] = []
        for entry in self.entries.values():
            row: dict[str, Any] = {"name": entry.name, "role": entry.role.value, "public": entry.public}
            if entry.role is Role.PLAYER:
                row["ids"] = list(entry.ids)
            if entry.role is Role.OPERATOR:
                row |= {"sources": entry.sources, "orders": entry.orders}
            rows.append({**row, "note": entry.note})
        return rows + [
            {"name": name, "role": "token", "public": public} for name, public in self._token_keys.items()
        ]

    # -- who may come in

    def admits(self, side: Side, public: str) -> bool:
        """Return whether a connection with this public key may be made at all, before HELLO says more."""
        entry = self.entries.get(public)
        if entry is None:
            return side is Side.PLAYERS and self._tokens is not None
        return (entry.role is Role.PLAYER) is (side is Side.PLAYERS)

    def identify(self, hello: Hello, public: str, unix_s: float) -> Identity:
        """Return the identity of a peer that said HELLO.

        Args:
            public: the public key of its connection.
            unix_s: the wall clock's time, for tokens.

        Raises:
            Denied: it may not join as what it says.
        """
        if hello.token is not None:
            return self._by_token(hello, hello.token, public, unix_s)
        entry = self.entries.get(public)
        if entry is None:
            raise Denied("this public key is not on the access list, and the HELLO has no token")
        if entry.role is not hello.role:
            raise Denied(f"this public key has the role {entry.role}, not {hello.role}")
        return _check_id(hello, _by_key(entry))

    def _by_token(self, hello: Hello, token: str, public: str, unix_s: float) -> Identity:
        if hello.role is not Role.PLAYER:
            raise Denied("only players may join with a token")
        if self._tokens is None:
            raise Denied("this broker accepts no tokens")
        try:
            verified = self._tokens.verify(token, public, unix_s)
        except BadToken as error:
            code = RejectCode.TOKEN_EXPIRED if error.expired else RejectCode.UNAUTHORIZED
            raise Denied(f"the token was refused: {error.reason}", code) from None
        identity = Identity(
            verified.key_name, public, (verified.player_id,), expires_at=verified.expires_at, by_token=True
        )
        return _check_id(hello, identity)

    def still_admits(
        self, identity: Identity, role: Role, player_id: PlayerID | None, before: AccessList
    ) -> bool:
        """Return whether a session may go on that an earlier access list has let in."""
        if identity.by_token:
            key = self._token_keys.get(identity.name)
            return key is not None and key == before._token_keys.get(identity.name)
        entry = self.entries.get(identity.public_key)
        if entry is None or entry.role is not role:
            return False
        return player_id is None or player_id in entry.ids

    def may_relay(self, identity: Identity) -> bool:
        """Return whether a peer may name sources in calls to the server. Operators can lack that right."""
        entry = self.entries.get(identity.public_key)
        return entry is None or entry.sources

    def may_order(self, identity: Identity) -> bool:
        """Return whether an operator may give orders. Operators can lack that right too."""
        entry = self.entries.get(identity.public_key)
        return entry is None or entry.orders


def _by_key(entry: Entry) -> Identity:
    return Identity(entry.name, entry.public, entry.ids)


def _check_id(hello: Hello, identity: Identity) -> Identity:
    wanted = hello.player_id
    if wanted is not None and wanted not in identity.ids:
        raise Denied(f"{identity.name!r} may not be player {wanted!r}")
    return identity


def _tables(document: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    tables = document.get(name, [])
    if type(tables) is not list or not all(type(fields) is dict for fields in tables):
        raise AccessError(f"{name} must be a list of tables: [[{name}]]")
    return [(f"[[{name}]] {number}", fields) for number, fields in enumerate(tables, 1)]


def _entry(place: str, fields: dict[str, Any]) -> Entry:
    place = f"{place} ({fields['name']})" if type(fields.get("name")) is str else place
    _check_known(fields, {"name", "role", "public", "ids", "sources", "orders", "note"}, place)
    role = fields.get("role")
    if type(role) is not str or role not in [*Role]:
        raise AccessError(f"{place}: role must be one of {', '.join(Role)}, not {role!r:.80}")
    ids = fields.get("ids", [])
    if type(ids) is not list or (role == Role.PLAYER) is not bool(ids):
        what = "a player needs ids, the IDs that it may take"
        raise AccessError(f"{place}: {what if role == Role.PLAYER else f'a {role} has no ids'}")
    rights = {}
    for right in ("sources", "orders"):
        rights[right] = fields.get(right, True)
        if type(rights[right]) is not bool or (right in fields and role != Role.OPERATOR):
            raise AccessError(f"{place}: {right} must be true or false, and only operators have it")
    note = fields.get("note", "")
    if type(note) is not str:
        raise AccessError(f"{place}: note must be a str, not {note!r:.80}")
    try:
        name, public = check_key_name(fields.get("name")), check_public_key(fields.get("public"))
        checked = tuple(check_player_id(player_id) for player_id in ids)
    except (TypeError, ValueError) as error:
        raise AccessError(f"{place}: {error}") from None
    return Entry(name, Role(role), public, checked, note=note, **rights)


def _token_key(place: str, fields: dict[str, Any]) -> tuple[str, str]:
    _check_known(fields, {"name", "public", "note"}, place)
    public = fields.get("public")
    if type(public) is not str:
        raise AccessError(f"{place}: public must be a str, not {public!r:.80}")
    try:
        name = check_key_name(fields.get("name"))
        TokenVerifier({name: public}, "ringback")
    except (TypeError, ValueError, UsageError) as error:  # UsageError: PyJWT is not installed
        raise AccessError(f"{place}: {error}") from None
    return name, public


def _check_known(fields: dict[str, Any], names: set[str], place: str) -> None:
    """Refuse unknown names: a misspelled one must not go unnoticed."""
    unknown = sorted(fields.keys() - names)
    if unknown:
        raise AccessError(f"{place}: {unknown[0]!r:.80} is unknown; the names are {', '.join(sorted(names))}")


def _check_unique(names: list[str], kind: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise AccessError(f"two [[{kind}]] tables have the name {twice[0]!r}")
