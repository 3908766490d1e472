"""Reading PAYLOAD: JSON in the argument, in a file or on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ringback.protocol.json_values import parse_json
from ringback_cli.exits import Exit, Failure

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""A call takes 1 MiB at most. Its JSON may be longer, with escapes and spaces, but not without end."""


def read_payload(argument: str | None) -> Any:
    """Gives the value that PAYLOAD stands for.

    Args:
        argument: JSON; `@` and the path of a file of JSON; `-` for JSON on standard input; None for null.

    Raises:
        Failure: USAGE for what can't be read or is not JSON, TOO_LARGE, INVALID_PAYLOAD.
    """
    if argument is None:
        return None
    if argument == "-":
        if sys.stdin is None:  # started with it closed
            raise Failure(Exit.USAGE, "PAYLOAD: there is no standard input")
        return parse(_read(sys.stdin.buffer, "standard input"), "standard input")
    if not argument.startswith("@"):
        return parse(argument.encode(errors="surrogateescape"), "")
    name = argument[1:]
    if not name:
        raise Failure(Exit.USAGE, "PAYLOAD: behind the @ stands the path of a file")
    try:
        with Path(name).open("rb") as file:
            return parse(_read(file, name), name)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        _can_not_read(name, error)


def _read(file: BinaryIO, name: str) -> bytes:
    try:
        data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        _can_not_read(name, error)
    if len(data) > MAX_TEXT_BYTES:
        raise Failure(Exit.TOO_LARGE, f"PAYLOAD in {name}: more than {MAX_TEXT_BYTES} bytes of JSON")
    return data


def _can_not_read(name: str, error: Exception) -> NoReturn:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    raise Failure(Exit.USAGE, f"PAYLOAD: can't read {name}: {reason}") from None


def parse(data: bytes, name: str) -> Any:
    """Gives the value of a JSON text; `name` says in errors where it stands."""
    where = f"PAYLOAD in {name}" if name else "PAYLOAD"
    try:
        text = data.decode("utf-8-sig")
        return parse_json(text)
    except UnicodeDecodeError as error:
        raise Failure(Exit.USAGE, f"{where} is not UTF-8: byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise Failure(Exit.USAGE, f"{where} is empty where JSON should be") from None
        quotes = "" if name or text[0] in '[{"' else "; a str needs double quotes inside the shell's"
        message = f"{where} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}{quotes}"
        raise Failure(Exit.USAGE, message) from None
    except RecursionError:
        raise Failure(Exit.INVALID_PAYLOAD, f"{where} is nested too deep") from None
    except ValueError as error:  # a number that can't be carried, or an int of thousands of digits
        raise Failure(Exit.USAGE, f"{where} is not JSON that can be carried: {error}") from None
