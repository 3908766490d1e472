"""Read PAYLOAD: JSON in the argument, in a file or on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ringback.protocol.json_values import parse_json
from ringback_cli.exits import Exit, Failure

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""The longest JSON that is read. A call has at most 1 MiB, but escapes and spaces make its JSON longer."""


def read_payload(argument: str | None) -> Any:
    """Return the value that PAYLOAD stands for.

    Args:
        argument: JSON; `@` and the path of a file with JSON; `-` for JSON on standard input; None for null.

    Raises:
        Failure: USAGE if the JSON cannot be read or is wrong; TOO_LARGE; INVALID_PAYLOAD.
    """
    if argument is None:
        return None
    if argument == "-":
        if sys.stdin is None:  # the process was started with standard input closed
            raise Failure(Exit.USAGE, "PAYLOAD: there is no standard input")
        return parse(_read(sys.stdin.buffer, "standard input"), "standard input")
    if not argument.startswith("@"):
        return parse(argument.encode(errors="surrogateescape"), "")
    name = argument[1:]
    if not name:
        raise Failure(Exit.USAGE, "PAYLOAD: the path of a file must follow the @")
    try:
        with Path(name).open("rb") as file:
            return parse(_read(file, name), name)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        _fail_to_read(name, error)


def _read(file: BinaryIO, name: str) -> bytes:
    try:
        data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        _fail_to_read(name, error)
    if len(data) > MAX_TEXT_BYTES:
        raise Failure(Exit.TOO_LARGE, f"PAYLOAD in {name} has more than {MAX_TEXT_BYTES} bytes of JSON")
    return data


def _fail_to_read(name: str, error: Exception) -> NoReturn:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    raise Failure(Exit.USAGE, f"PAYLOAD: cannot read {name}: {reason}") from None


def parse(data: bytes, name: str) -> Any:
    """Return the value of a JSON text.

    Args:
        name: where the text was read from, for the message of an error; empty for the argument itself.

    Raises:
        Failure: as `read_payload` does.
    """
    where = f"PAYLOAD in {name}" if name else "PAYLOAD"
    try:
        text = data.decode("utf-8-sig")
        return parse_json(text)
    except UnicodeDecodeError as error:
        raise Failure(Exit.USAGE, f"{where} is not UTF-8: byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise Failure(Exit.USAGE, f"{where} is empty, but must be JSON") from None
        quotes = "" if name or text[0] in '[{"' else "; a str needs double quotes inside the shell's quotes"
        message = f"{where} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}{quotes}"
        raise Failure(Exit.USAGE, message) from None
    except RecursionError:
        raise Failure(Exit.INVALID_PAYLOAD, f"{where} is nested too deep") from None
    except ValueError as error:  # a number out of range, or an int of thousands of digits
        reason = "an int is out of range" if "integer string conversion" in str(error) else error
        raise Failure(Exit.USAGE, f"{where} is JSON that a call cannot carry: {reason}") from None
