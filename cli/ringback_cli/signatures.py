"""A decorator's tool: replace a parameter of a command by the options that it is made from.

Typer reads the options of a command from the signature of its function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any


def option(name: str, annotation: Any, default: object = None) -> inspect.Parameter:
    """Return an option as a parameter.

    Args:
        annotation: its type and its `typer.Option`, as `Annotated[...]`.
    """
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def expand_first_parameter(
    command: Callable[..., None], options: Sequence[inspect.Parameter], make: Callable[..., object]
) -> Callable[..., None]:
    """Return a command that has options in place of its first parameter.

    Args:
        command: the function of the command.
        options: what typer sees instead. In `--help`, they follow the options of the command itself.
        make: is called with the values of the options, by name. The command gets what it returns.
    """
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [*own, *options]

    def run(*others: object, **values: object) -> None:  # others: of a second decorator like this one
        first = make(**{parameter.name: values.pop(parameter.name) for parameter in options})
        command(first, *others, **values)

    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    run.__module__ = command.__module__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
