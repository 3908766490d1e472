"""`ringback keys`: make key pairs, and edit the access list of the broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ringback_cli import access_files
from ringback_cli.exits import Exit, Failure
from ringback_cli.key_sets import commands, in_words, new_key_set, write_key_set
from ringback_cli.options import (
    DEFAULT_BACKEND,
    DEFAULT_PLAYERS,
    JSONOption,
    StringIDOption,
    one_address,
    one_of,
    parse_player_id,
    public_key,
)
from ringback_cli.output import Commands, print_json, print_line, show_help
from ringback_cli.rows import format_cell
from ringback_cli.tables import Column, Kind, always, print_table

app = Commands(short_help="Make key pairs, and edit the access list.")

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


@app.callback()
def _keys(context: typer.Context) -> None:
    """Make key pairs, and edit the access list: the public keys that may join the broker."""
    show_help(context)


@app.command(short_help="Make all keys of a small deployment, and its access list.")
def init(
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Create the files in this folder.")
    ] = Path("keys"),
    ids: Annotated[
        list[str] | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="Make a key for a player with this ID too; repeat the option for several. [default: none]",
        ),
    ] = None,
    string_id: StringIDOption = False,
    players: Annotated[
        str,
        typer.Option(
            "--players", metavar="ADDR", envvar="RINGBACK_PLAYERS", help="Where players reach the broker."
        ),
    ] = DEFAULT_PLAYERS,
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            metavar="ADDR",
            envvar="RINGBACK_BACKEND",
            help="Where the server and operators reach the broker.",
        ),
    ] = DEFAULT_BACKEND,
    as_json: JSONOption = False,
) -> None:
    """Make the keys of a broker, a server, an operator and perhaps some players, and the access list.

    The command prints which file goes where, and what starts each part. It overwrites nothing.

    Example: ringback keys init --id 7 --players tcp://game.example:5770
    """
    checked = [parse_player_id(text, string_id, "--id") for text in ids or ()]
    addresses = [
        one_address(text, option) for text, option in ((players, "--players"), (backend, "--backend"))
    ]
    made = new_key_set(folder, {f"player-{player_id}": player_id for player_id in checked})
    write_key_set(made)
    starts = commands(made, *addresses)
    if as_json:
        print_json({"files": made.paths(), "start": starts})
        return
    for line in in_words(made, starts):
        print_line(line)


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
            metavar="KEY|FILE",
            envvar="RINGBACK_BROKER_KEY",
            parser=public_key("--broker-key", "broker"),
            help="Keep the broker's public key, or the one in its .pub file, in the key file of an endpoint. "
            "[default: none]",
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
    document = access_files.read_document(access)
    access_files.remove(document, fields.get("name"), kind)
    access_files.append(document, kind, fields)
    access_files.write(access, document)
    print_json({"allowed": fields.get("name"), "access": str(access)})


@app.command(short_help="Take a key off the access list.")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The name of the key.")],
    access: AccessOption = DEFAULT_ACCESS,
) -> None:
    """Take a key off the access list. A running broker ends its sessions within two seconds.

    Example: ringback keys revoke anna
    """
    document = access_files.read_document(access, must_be=True)
    found = [access_files.remove(document, name, kind) for kind in ("key", "token_key")]
    if not any(found):
        listed = "`ringback keys list` prints all names"
        raise Failure(Exit.USAGE, f"{access} has no key with the name {name!r}", hint=listed)
    access_files.write(access, document)
    print_json({"revoked": name, "access": str(access)})


_COLUMNS = (
    Column("name", "name", Kind.NAME, colour=always("cyan")),
    Column("role", "role", Kind.WORD),
    Column("ids", "IDs", Kind.PROSE),
    Column("sources", "sources", Kind.WORD, gives_way=3),
    Column("orders", "orders", Kind.WORD, gives_way=2),
    Column("note", "note", Kind.PROSE, gives_way=1),
    Column("public", "public key", Kind.WORD, gives_way=4),
)


@app.command("list", short_help="Print the access list.")
def list_keys(access: AccessOption = DEFAULT_ACCESS, as_json: JSONOption = False) -> None:
    """Print the access list: who may join, as what, and as whom.

    "sources" and "orders" are the rights of an operator: to call the server in the name of a source, and to
    kick players, drain the broker, have servers take turns and watch calls.

    Example: ringback keys list --access /etc/ringback/access.toml
    """
    from ringback_broker.admission.access_list import AccessError, AccessList

    text = access_files.read_text(access)
    try:
        rows = AccessList.parse(text).rows()
    except AccessError as error:
        raise Failure(Exit.USAGE, f"{access}: {error}") from None
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["ids"] = ", ".join(str(format_cell(player_id)) for player_id in row.get("ids", ())) or None
    print_table(_COLUMNS, [[row.get(column.name) or _no(row, column) for column in _COLUMNS] for row in rows])


def _no(row: dict[str, Any], column: Column) -> bool | None:
    """Return what a cell without a value shows: "no" for a right that an operator does not have."""
    return False if row.get(column.name) is False else None


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
