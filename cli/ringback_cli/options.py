"""Options and arguments that several commands have, and the checks of their values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ringback_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from ringback import PlayerID

# The broker has the same defaults. Importing its module would take longer than the rest of `--help`.
DEFAULT_PLAYERS = "tcp://127.0.0.1:5770"
DEFAULT_BACKEND = "tcp://127.0.0.1:5771"

BackendOption = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="ADDR,...",
        envvar="RINGBACK_BACKEND",
        help="The broker's address for the server and operators, or those of several brokers that are one "
        "realm.",
    ),
]
PlayersOption = Annotated[
    str,
    typer.Option(
        "--players",
        metavar="ADDR,...",
        envvar="RINGBACK_PLAYERS",
        help="The broker's address for players, or those of several brokers that are one realm.",
    ),
]
KeyFileOption = Annotated[
    str | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        envvar="RINGBACK_KEY_FILE",
        help="Your own key file, made by `ringback keys new`. [default: none, without encryption]",
    ),
]


def public_key(option: str, role: str) -> Callable[[str], str]:
    """Return the parser of an option that takes a public key, or the file that has it.

    Args:
        option: its name, for the message of an error.
        role: whose key it must be.
    """

    def key_of(text: str) -> str:
        from ringback.credentials import KeyFileError, public_key_of

        try:
            return public_key_of(text, role)
        except KeyFileError as error:
            raise Failure(Exit.USAGE, f"{option}: {error}") from None

    return key_of


BrokerKeyOption = Annotated[
    str | None,
    typer.Option(
        "--broker-key",
        metavar="KEY|FILE",
        envvar="RINGBACK_BROKER_KEY",
        parser=public_key("--broker-key", "broker"),
        help="The broker's public key, or its .pub file. [default: the key in the key file]",
    ),
]
JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JSONErrorsOption = Annotated[
    bool, typer.Option("--json", help="Print an error as JSON too, with its data. Results always are JSON.")
]
"""`ringback_cli.app.run` obeys it: it prints the errors of all commands."""
StringIDOption = Annotated[
    bool, typer.Option("--string-id", help="Take every player ID as a str, even if it looks like an int.")
]
ProgressOption = Annotated[
    bool,
    typer.Option(
        "--progress",
        help="Print the progress that the handler reports: a line of JSON for each value, on standard error.",
    ),
]
RetryOption = Annotated[
    bool,
    typer.Option(
        "--retry",
        help="Try again within the time if the call fails, unless this could run its handler twice.",
    ),
]

_SHOWN_CHARS = 40
_NUMBER = re.compile(r"[-+]?([0-9]{1,40}(\.[0-9]{0,40})?(e[-+]?[0-9]{1,5})?|nan|inf)", re.IGNORECASE)
_INT = re.compile(r"-?(0|[1-9][0-9]*)")


def one_of(*values: str) -> Callable[[], list[str]]:
    """Return a function that completes one of a few words."""
    return lambda: list(values)


def seconds(option: str, allowed: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return the parser of an option that takes seconds.

    Args:
        option: its name, for the message of an error.
        allowed: the seconds that are allowed, in words: "above 0".
        fits: whether some seconds are allowed. It must refuse NaN.
    """

    def seconds_of(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            raise Failure(Exit.USAGE, f"{option}: the seconds must be {allowed}, not {_shown(text)}")
        return value

    return seconds_of


MOST_GRACE_S = 86400
"""The SDK has the same; it is not imported for `--help`."""

GraceOption = Annotated[
    float | None,
    typer.Option(
        "--grace",
        metavar="SECONDS",
        parser=seconds(
            "--grace", f"above 0 and at most {MOST_GRACE_S}", lambda given: 0 < given <= MOST_GRACE_S
        ),
        help="How long calls in flight may take to end. [default: the broker's setting `grace`]",
    ),
]


def whole_number(option: str, least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the parser of an option that takes an int.

    Args:
        option: its name, for the message of an error.
        least: the smallest number that is allowed.
        most: the largest one; None: there is no limit.
    """
    allowed = f"{least} or more" if most is None else f"from {least} to {most}"

    def number_of(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise Failure(
                Exit.USAGE, f"{option}: the number must be a whole one, {allowed}, not {_shown(text)}"
            )
        return value

    return number_of


def _shown(text: str) -> str:
    """Return a number as it is, and any other text in quotes."""
    return text if _NUMBER.fullmatch(text) else repr(text[:_SHOWN_CHARS])


def parse_addresses(text: str, option: str) -> list[str]:
    """Return the addresses of brokers that an option has, checked.

    Args:
        option: its name, for the message of an error.

    Raises:
        Failure: the option is not an address, or several different ones with commas between them.
    """
    from ringback.protocol.addresses import check_addresses, split_addresses

    addresses = split_addresses(text)
    try:
        return list(check_addresses(addresses if len(addresses) > 1 else addresses[0]))
    except ValueError as error:
        raise Failure(Exit.USAGE, f"{option}: {error}") from None


def one_address(text: str, option: str) -> str:
    """Return the address of a broker that an option has, checked.

    Args:
        option: its name, for the message of an error.

    Raises:
        Failure: the option is not one address.
    """
    addresses = parse_addresses(text, option)
    if len(addresses) > 1:
        raise Failure(Exit.USAGE, f"{option}: give one address, not {len(addresses)}")
    return addresses[0]


def parse_player_id(text: str, string_id: bool, name: str) -> PlayerID:
    """Return the player ID that a text stands for: an int if it looks like one, else a str.

    007 and +7 are str: as an int they would be printed in another way than they were written.

    Args:
        string_id: take the text as a str in any case.
        name: the name of the argument or option, for the message of an error.

    Raises:
        Failure: the text is not a player ID.
    """
    from ringback.protocol.player_ids import check_player_id

    try:
        if string_id or not _INT.fullmatch(text):
            return check_player_id(text)
        if len(text) > 30:  # int() has a limit of its own, with a message about sys.set_int_max_str_digits
            raise ValueError(f"a player ID must not be an int of {len(text)} characters")
        return check_player_id(int(text))
    except ValueError as error:
        hint = "" if string_id or not _INT.fullmatch(text) else " (--string-id makes it a str)"
        raise Failure(Exit.USAGE, f"{name}: {error}{hint}") from None


def check_pattern(pattern: str, name: str) -> str:
    """Return a pattern for keys, checked.

    Args:
        name: the name of the option, for the message of an error.

    Raises:
        Failure: the pattern is empty, too long, or has a [ without a ].
    """
    from ringback.protocol import names

    try:
        return names.check_pattern(pattern)
    except ValueError as error:
        raise Failure(Exit.USAGE, f"{name}: {error}") from None


def check_node(name: str | None, option: str = "--node") -> str | None:
    """Return the name of a node, checked; None if none is given.

    Args:
        option: the option or argument, for the message of an error.

    Raises:
        Failure: it is no possible name.
    """
    from ringback.protocol import names

    try:
        return None if name is None else names.check_node_name(name)
    except ValueError as error:
        raise Failure(Exit.USAGE, f"{option}: {error}") from None


def check_key(key: str) -> str:
    """Return the key of a callback, checked.

    Raises:
        Failure: the key is empty, too long or not valid Unicode.
    """
    from ringback.protocol import names

    try:
        return names.check_key(key)
    except ValueError as error:
        raise Failure(Exit.USAGE, f"KEY: {error}") from None
