"""The file of an access list: read it, change it, write it. Comments and settings in it stay as they are."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringback_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

_HEAD = "# Who may join: docs/security.md. The broker reads this file again when it changes.\n"


def new_document() -> TOMLDocument:
    """Return an access list without entries."""
    import tomlkit

    return tomlkit.parse(_HEAD)


def read_text(path: Path, *, must_be: bool = True) -> str:
    """Return the text of an access list; that of an empty one if the file does not exist and need not.

    Raises:
        Failure: the file cannot be read.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        if not must_be:
            return _HEAD
        made_by = "`ringback keys init` and `ringback keys allow` make one"
        raise Failure(Exit.USAGE, f"--access: the file {path} does not exist; {made_by}") from None
    except OSError as error:
        raise Failure(Exit.USAGE, f"--access: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Failure(Exit.USAGE, f"--access: {path} is not UTF-8: byte {error.start + 1}") from None


def read_document(path: Path, *, must_be: bool = False) -> TOMLDocument:
    """Return an access list to change.

    Raises:
        Failure: the file cannot be read, or is not TOML.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(read_text(path, must_be=must_be))
    except TOMLKitError as error:
        raise Failure(Exit.USAGE, f"--access: {path} is not TOML: {error}") from None


def remove(document: TOMLDocument, name: Any, kind: str) -> bool:
    """Remove the entries with a name. Return whether there were any."""
    tables: Any = document.get(kind, [])
    found = [number for number, fields in enumerate(tables) if fields.get("name") == name]
    for number in reversed(found):
        del tables[number]
    if kind in document and not tables:
        del document[kind]
    return bool(found)


def append(document: TOMLDocument, kind: str, fields: dict[str, Any]) -> None:
    """Add an entry."""
    import tomlkit

    table = tomlkit.table()
    table.update(fields)
    if kind not in document:
        document.add(kind, tomlkit.aot())
    document[kind].append(table)


def text_of(document: TOMLDocument) -> str:
    """Return the text of an access list that the broker accepts.

    Raises:
        Failure: the broker would not accept it.
    """
    import tomlkit

    from ringback_broker.admission.access_list import AccessError, AccessList

    text = tomlkit.dumps(document)
    try:
        AccessList.parse(text)
    except AccessError as error:
        raise Failure(Exit.USAGE, str(error)) from None
    return text


def write(path: Path, document: TOMLDocument) -> None:
    """Write the list whole or not at all, and only if the broker accepts it.

    Raises:
        Failure: the broker would not accept it, or it cannot be written.
    """
    text = text_of(document)
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with ExitStack() as unfinished:
            unfinished.callback(Path(temporary).unlink, missing_ok=True)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).chmod(mode)
            Path(temporary).replace(path)
    except OSError as error:
        raise Failure(Exit.FAILED, f"cannot write {path}: {error.strerror}") from None
