"""`ringback keys`: make key pairs, and edit the access list of the broker."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.exits import Exit, Failure
from ringback_cli.options import StringIDOption, one_of, parse_player_id
from ringback_cli.output import print_json, show_help

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

app = typer.Typer(
    short_help="Make key pairs, and edit the access list.", invoke_without_command=True, rich_markup_mode=None
)

AccessOption = Annotated[
    Path,
    typer.Option("--access", metavar="FILE", envvar="RINGBACK_ACCESS", help="The broker's access list."),
]
IDsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--id",
        metavar="ID",
        help="Let the player take this ID; repeat the option for several. A player needs at least one.",
    ),
]
DEFAULT_ACCESS = Path("access.toml")
_ROLES = ("broker", "server", "operator", "player")
_HEAD = "# Who may join: docs/security.md. The broker reads this file again when it changes.\n"


@app.callback()
def _keys(context: typer.Context) -> None:
    """Make key pairs, and edit the access list: the public keys that may join the broker."""
    show_help(context)


@app.command(short_help="Make a key pair.")
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", show_default=False, help="The name of the key in lists and logs.")
    ],
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE",
            help="Who uses the key: broker, server, operator or player.",
            autocompletion=one_of(*_ROLES),
        ),
    ],
    ids: IDsOption = None,
    string_id: StringIDOption = False,
    broker_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="RINGBACK_BROKER_KEY",
            help="Keep the broker's public key in the key file of an endpoint. [default: none]",
        ),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Create the files in this folder.")
    ] = Path(),
) -> None:
    """Make a key pair: NAME.key, a secret that only you can read, and NAME.pub for the access list.

    Example: ringback keys new broker --role broker
    """
    from ringback.credentials import KeyFileError, new_key_pair, write_key_pair

    checked = tuple(parse_player_id(text, string_id, "--id") for text in ids or [])
    try:
        pair = new_key_pair(name, role, checked, broker_key)
        path = write_key_pair(pair, folder)
    except KeyFileError as error:
        raise Failure(Exit.USAGE, str(error)) from None
    print_json({"file": str(path), "public": pair.public})


@app.command(short_help="Put a key on the access list.")
def allow(
    key: Annotated[
        str, typer.Argument(metavar="KEY", show_default=False, help="A NAME.pub file, or a public key.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name of the key. [default: from the file]")
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="Who uses the key: server, operator or player. [default: from the file]",
            autocompletion=one_of(*_ROLES[1:]),
        ),
    ] = None,
    ids: IDsOption = None,
    string_id: StringIDOption = False,
    sources: Annotated[
        bool, typer.Option(help="Allow an operator to call the server in the name of a source.")
    ] = True,
    orders: Annotated[
        bool, typer.Option(help="Allow an operator to kick players, drain the broker and watch calls.")
    ] = True,
    note: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Keep a note for people. [default: none]")
    ] = None,
    access: AccessOption = DEFAULT_ACCESS,
) -> None:
    """Put a key on the access list, so that it may join. It replaces a key with the same name.

    Name, role and IDs come from the NAME.pub file. Options override them.

    Example: ringback keys allow anna.pub --id 7
    """
    fields: dict[str, Any] = _public_part(key)
    given = {"name": name, "role": role, "note": note}
    fields.update({field: value for field, value in given.items() if value is not None})
    if ids:
        fields["ids"] = [parse_player_id(text, string_id, "--id") for text in ids]
    if not sources:
        fields["sources"] = False
    if not orders:
        fields["orders"] = False
    kind = "token_key" if fields.get("role") == "token" else "key"
    if kind == "token_key":
        fields.pop("role")
    document = _read(access)
    _remove(document, fields.get("name"), kind)
    _append(document, kind, fields)
    _write(access, document)
    print_json({"allowed": fields.get("name"), "access": str(access)})


@app.command(short_help="Take a key off the access list.")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The name of the key.")],
    access: AccessOption = DEFAULT_ACCESS,
) -> None:
    """Take a key off the access list. A running broker ends its sessions within two seconds.

    Example: ringback keys revoke anna
    """
    document = _read(access, must_be=True)
    found = [_remove(document, name, kind) for kind in ("key", "token_key")]
    if not any(found):
        raise Failure(Exit.USAGE, f"{access} has no key with the name {name!r}")
    _write(access, document)
    print_json({"revoked": name, "access": str(access)})


@app.command("list", short_help="Print the access list.")
def list_keys(access: AccessOption = DEFAULT_ACCESS) -> None:
    """Print the access list as a JSON array.

    Example: ringback keys list --access /etc/ringback/access.toml
    """
    from ringback_broker.admission.access_list import AccessError, AccessList

    text = _text(access, must_be=True)
    try:
        keys = AccessList.parse(text)
    except AccessError as error:
        raise Failure(Exit.USAGE, f"{access}: {error}") from None
    print_json(keys.rows())


def _public_part(key: str) -> dict[str, Any]:
    """Return the fields of a public key, or of a NAME.pub or NAME.key file without its secret."""
    from ringback.credentials import KeyFileError, read_key_file
    from ringback.protocol.names import check_public_key

    if not key.endswith((".pub", ".key")):
        try:
            return {"public": check_public_key(key)}
        except ValueError as error:
            raise Failure(
                Exit.USAGE, f"KEY: it does not end with .pub, so it must be a public key, but {error}"
            ) from None
    try:
        fields = read_key_file(Path(key))
    except KeyFileError as error:
        raise Failure(Exit.USAGE, f"KEY: {error}") from None
    return {field: fields[field] for field in ("name", "role", "public", "ids") if field in fields}


def _text(path: Path, must_be: bool) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        if not must_be:
            return _HEAD
        raise Failure(Exit.USAGE, f"--access: the file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(Exit.USAGE, f"--access: cannot read {path}: {error}") from None


def _read(path: Path, must_be: bool = False) -> TOMLDocument:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(_text(path, must_be))
    except TOMLKitError as error:
        raise Failure(Exit.USAGE, f"--access: {path} is not TOML: {error}") from None


def _remove(document: TOMLDocument, name: Any, kind: str) -> bool:
    tables: Any = document.get(kind, [])
    found = [number for number, fields in enumerate(tables) if fields.get("name") == name]
    for number in reversed(found):
        del tables[number]
    if kind in document and not tables:
        del document[kind]
    return bool(found)


def _append(document: TOMLDocument, kind: str, fields: dict[str, Any]) -> None:
    import tomlkit

    table = tomlkit.table()
    table.update(fields)
    if kind not in document:
        document.add(kind, tomlkit.aot())
    document[kind].append(table)


def _write(path: Path, document: TOMLDocument) -> None:
    """Write the list whole or not at all, and only if the broker accepts it."""
    import tomlkit

    from ringback_broker.admission.access_list import AccessError, AccessList

    text = tomlkit.dumps(document)
    try:
        AccessList.parse(text)
    except AccessError as error:
        raise Failure(Exit.USAGE, str(error)) from None
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except OSError as error:
        raise Failure(Exit.FAILED, f"cannot write {path}: {error.strerror}") from None
