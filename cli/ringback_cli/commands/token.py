"""`ringback token`: make signing keys, and tokens for players that have no key pair of their own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ringback_cli.exits import Exit, Failure
from ringback_cli.options import StringIDOption, parse_player_id, public_key
from ringback_cli.output import Commands, print_json, print_line, show_help

DEFAULT_AUDIENCE = "ringback"  # the SDK has the same; it is not imported for `--help`

_MAX_INPUT_BYTES = 64 * 1024
_TTL = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

app = Commands(
    help="Make signing keys, and tokens for players that have no key pair of their own.",
    short_help="Make a signing key, make a token, read a token.",
)


@app.callback()
def _token(context: typer.Context) -> None:
    show_help(context)


@app.command(short_help="Make a signing key.")
def new(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The name of the key, 1 to 64 of A-Z a-z 0-9 . _ -", show_default=False
        ),
    ],
    folder: Annotated[
        str, typer.Option("--dir", metavar="DIR", help="Create the file in this folder.")
    ] = ".",
) -> None:
    """Make a signing key in a new file NAME.key, and print {"file", "public"}. The file is a secret.

    Example: ringback token new backend
    """
    from ringback import tokens

    with _as_usage("NAME"):
        key = tokens.new_token_key(name)
    with _as_usage("--dir"):
        path = tokens.save_token_key(key, folder)
    print_json({"file": str(path), "public": key.public})


@app.command(short_help="Print a token for a player.")
def mint(
    key: Annotated[
        str,
        typer.Option(
            "--key", metavar="FILE", help="The file of the signing key, made by `ringback token new`."
        ),
    ],
    player: Annotated[
        str, typer.Option("--id", metavar="ID", help="The ID of the player that gets the token.")
    ],
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="How long the token is valid: 30s, 15m, 1h, 7d.")
    ],
    audience: Annotated[
        str, typer.Option("--audience", metavar="AUDIENCE", help="The audience that the broker expects.")
    ] = DEFAULT_AUDIENCE,
    allow_key: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-key",
            metavar="KEY|FILE",
            parser=public_key("--allow-key", "player"),
            help="Let only the owner of this public key, or .pub file, use the token; repeat the option for "
            "several. [default: anybody]",
            show_default=False,
        ),
    ] = None,
    string_id: StringIDOption = False,
) -> None:
    """Print a token, and nothing else. Everybody who has it can join as that player until it expires.

    Example: ringback token mint --key backend.key --id 7 --ttl 1h
    """
    player_id = parse_player_id(player, string_id, "--id")
    ttl_s = parse_ttl(ttl)
    from ringback import tokens
    from ringback.protocol.tokens import check_audience

    with _as_usage("--audience"):
        check_audience(audience)
    with _as_usage("--key"):
        signing = tokens.load_token_key(Path(key))
    with _as_usage(""):
        token = tokens.mint_token(
            signing, player_id, ttl=ttl_s, audience=audience, allowed_keys=allow_key or ()
        )
    print_line(token)


@app.command(short_help="Print the content of a token, without checking its signature.")
def show() -> None:
    """Read a token from standard input, and print its content. Its signature is not checked.

    Example: ringback token show < token.txt
    """
    from ringback import tokens

    if sys.stdin is None:  # the process was started with standard input closed
        raise Failure(Exit.USAGE, "there is no standard input to read a token from")
    with _as_usage("standard input"):
        text = sys.stdin.buffer.read(_MAX_INPUT_BYTES).decode(errors="replace").strip()
        header, claims = tokens.read_unverified(text)
    print_json({"signature": "not checked", "header": header, "claims": claims})


def parse_ttl(text: str) -> int:
    """Return the seconds of a time such as 30s, 15m, 1h or 7d.

    Raises:
        Failure: the text does not have this form.
    """
    match = _TTL.fullmatch(text)
    if match is None:
        raise Failure(
            Exit.USAGE, f"--ttl: it must be a number above 0 and a unit, as in 30s, 15m, 1h or 7d, not {text}"
        )
    return int(match[1]) * _UNITS_S[match[2]]


@contextmanager
def _as_usage(name: str) -> Iterator[None]:
    """Turn an error of the SDK into a failure of the command, with the name of the option or argument."""
    from ringback.errors import UsageError

    try:
        yield
    except UsageError as error:  # the extra is not installed
        raise Failure(Exit.USAGE, str(error)) from None
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise Failure(Exit.USAGE, f"{name}: {reason}") from None
    except ValueError as error:
        raise Failure(Exit.USAGE, f"{name}: {error}" if name else str(error)) from None
