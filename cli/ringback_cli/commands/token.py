"""`ringback token`: keys that sign tokens, and tokens for players that have no key of their own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ringback_cli.exits import Exit, Failure
from ringback_cli.options import StringIDOption, parse_player_id
from ringback_cli.output import print_json, print_line, show_help

DEFAULT_AUDIENCE = "ringback"  # the SDK has the same; it is not imported for `--help`

_MAX_INPUT_BYTES = 64 * 1024
_TTL = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

app = typer.Typer(
    invoke_without_command=True,
    help="Tokens for players that have no key of their own: make a key, mint with it, look at one.",
    short_help="Make a key for tokens, mint a token, look at one.",
    rich_markup_mode=None,
)


@app.callback()
def _token(context: typer.Context) -> None:
    show_help(context)


@app.command(short_help="Make a key that signs tokens.")
def new(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The key's name, 1 to 64 of A-Z a-z 0-9 . _ -", show_default=False
        ),
    ],
    folder: Annotated[str, typer.Option("--dir", metavar="DIR", help="Where the file is made.")] = ".",
) -> None:
    """Make a key in a new file NAME.key, and print {"file", "public"}. The file is a secret.

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
    key: Annotated[str, typer.Option("--key", metavar="FILE", help="A file that `token new` has made.")],
    player: Annotated[str, typer.Option("--id", metavar="ID", help="Which player its bearer is.")],
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="For how long it is good: 30s, 15m, 1h, 7d.")
    ],
    audience: Annotated[
        str, typer.Option("--audience", metavar="AUDIENCE", help="The broker's audience.")
    ] = DEFAULT_AUDIENCE,
    allow_key: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-key",
            metavar="PUBLIC",
            help="A client's CURVE public key; those given may present it. Default: any.",
            show_default=False,
        ),
    ] = None,
    string_id: StringIDOption = False,
) -> None:
    """Print a token, and nothing else. Whoever has it is that player until its time is over.

    Example: ringback token mint --key backend.key --id 7 --ttl 1h
    """
    player_id = parse_player_id(player, string_id, "--id")
    ttl_s = parse_ttl(ttl)
    from ringback import tokens
    from ringback.protocol.names import check_public_key
    from ringback.protocol.tokens import check_audience

    with _as_usage("--audience"):
        check_audience(audience)
    with _as_usage("--allow-key"):
        allowed_keys = [check_public_key(allowed) for allowed in allow_key or ()]
    with _as_usage("--key"):
        signing = tokens.load_token_key(Path(key))
    with _as_usage(""):
        token = tokens.mint_token(signing, player_id, ttl=ttl_s, audience=audience, allowed_keys=allowed_keys)
    print_line(token)


@app.command(short_help="Print what a token says; its signature is not checked.")
def show() -> None:
    """Read a token from standard input, and print what it says. Its signature is not checked.

    Example: ringback token show < token.txt
    """
    from ringback import tokens

    if sys.stdin is None:  # started with it closed
        raise Failure(Exit.USAGE, "there is no standard input to read a token from")
    with _as_usage("standard input"):
        text = sys.stdin.buffer.read(_MAX_INPUT_BYTES).decode(errors="replace").strip()
        header, claims = tokens.read_unverified(text)
    print_json({"signature": "not checked", "header": header, "claims": claims})


def parse_ttl(text: str) -> int:
    """Gives the seconds of a time like 30s, 15m, 1h or 7d.

    Raises:
        Failure: it is not of this form.
    """
    match = _TTL.fullmatch(text)
    if match is None:
        raise Failure(
            Exit.USAGE, f"--ttl: a number above 0 and its unit, as in 30s, 15m, 1h or 7d, not {text}"
        )
    return int(match[1]) * _UNITS_S[match[2]]


@contextmanager
def _as_usage(name: str) -> Iterator[None]:
    """Has what the SDK says against an argument end the command; `name` is what the user calls it."""
    from ringback.errors import UsageError

    try:
        yield
    except UsageError as error:  # a library is missing
        raise Failure(Exit.USAGE, str(error)) from None
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise Failure(Exit.USAGE, f"{name}: {reason}") from None
    except ValueError as error:
        raise Failure(Exit.USAGE, f"{name}: {error}" if name else str(error)) from None
