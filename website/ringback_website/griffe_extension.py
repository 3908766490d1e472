"""An extension of griffe, which reads the source for mkdocstrings: it adds what the source does not show.

- Some classes compute their docstring (`__doc__ = f"..."`). Python knows the text.
- `**arguments: Unpack[SomeTypedDict]` stands for the keyword arguments that the TypedDict lists.
- A public name in backticks becomes a link.
- What has no underscore and is used within the SDK alone is left out: its docstring says "Not for users."
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import griffe

import ringback
import ringback.testing
from ringback._roles.player import PlayerRole
from ringback._roles.server import ServerRole
from ringback._runtime.options import BlockingOptions

_TAKERS = (
    BlockingOptions,
    PlayerRole.trigger_server_callback,
    ServerRole.trigger_all_client_callbacks,
    ServerRole.register_server_callback,
)
"""What takes the arguments that a TypedDict lists, and knows their defaults."""

_DEFAULTS = {
    name: repr(parameter.default)
    for taker in _TAKERS
    for name, parameter in inspect.signature(taker).parameters.items()
}
_HOMES = {name: module.__name__ for module in (ringback.testing, ringback) for name in module.__all__}
_NAMES = re.compile(rf"(?<!\[)`({'|'.join(_HOMES)})`(?!\])")


class WhatPythonKnows(griffe.Extension):
    """Completes a package once griffe has read all of it."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Give the classes and functions of the package what its source does not show."""
        for found in _objects(pkg):
            if isinstance(found, griffe.Class) and "__doc__" in found.members:
                known = getattr(importlib.import_module(found.module.path), found.name)
                found.docstring = griffe.Docstring(
                    inspect.cleandoc(known.__doc__), parent=found, parser=griffe.Parser.google
                )
                found.del_member("__doc__")
            if isinstance(found, griffe.Function):
                for form in (found, *(found.overloads or ())):
                    _unpack(form)
            if found.docstring and _is_for_the_sdk(found) and found.parent:
                found.parent.del_member(found.name)
            elif found.docstring:
                found.docstring.value = _NAMES.sub(
                    lambda name: f"[{name[0]}][{_HOMES[name[1]]}.{name[1]}]", found.docstring.value
                )


def _objects(found: griffe.Object) -> Iterator[griffe.Object]:
    yield found
    for member in list(found.members.values()):
        if isinstance(member, griffe.Object):
            yield from _objects(member)


def _is_for_the_sdk(found: griffe.Object) -> bool:
    return found.is_function and "Not for users." in getattr(found.docstring, "value", "")


def _unpack(function: griffe.Function) -> None:
    """Replace `**arguments: Unpack[SomeTypedDict]` by the arguments."""
    for parameter in list(function.parameters):
        annotation = parameter.annotation
        if (
            parameter.kind is not griffe.ParameterKind.var_keyword
            or not isinstance(annotation, griffe.ExprSubscript)
            or annotation.canonical_name != "Unpack"
            or not isinstance(annotation.slice, griffe.Expr)
        ):
            continue
        del function.parameters[parameter.name]
        listed = function.modules_collection[annotation.slice.canonical_path]
        for typed_dict in reversed([listed, *listed.mro()]):
            for name, attribute in typed_dict.attributes.items():
                if name not in function.parameters:
                    function.parameters.add(
                        griffe.Parameter(
                            name,
                            annotation=attribute.annotation,
                            kind=griffe.ParameterKind.keyword_only,
                            default=_DEFAULTS[name],
                        )
                    )
