"""Options of a benchmark: an error is one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, and ends with exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def some_of(names: Collection[str]) -> Callable[[str], list[str]]:
    """Return a function that reads a list of names with commas between."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in names:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(names)}")
        return chosen

    return read


def whole_number(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def whole_numbers(text: str) -> list[int]:
    """Read whole numbers above 0 with commas between."""
    return [whole_number(part) for part in text.split(",")]


def seconds(text: str) -> float:
    """Read a number of seconds above 0, up to an hour."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0, up to 3600")
    return number
