"""Converters: values of a Python type, such as a dataclass, to and from the plain values of the wire.

msgspec does the work. A type with a pydantic model in it is pydantic's. Neither is imported before a type is
used.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from types import ModuleType
from typing import Any, get_args, get_origin, is_typeddict
from uuid import UUID

from ringback.core.conversion import Converter, Misfit, Types
from ringback.errors import reason_of
from ringback.extras import install_command
from ringback.protocol.json_values import jsonable

_AT = re.compile(r" - at `(\$.*)`$")
"""How a message of msgspec ends if the mistake is inside the value."""

_PLAIN = (bytes, bytearray)
"""What msgpack encodes beyond the types of JSON."""

_CLASSES = (Enum, date, time, timedelta, UUID, Decimal)
"""What msgspec converts among the classes of the standard library; `datetime` is a `date`."""


def make_types(payload: Any, result: Any) -> Types:
    """Return what converts the payload and the result of a callback.

    Raises:
        TypeError: a type cannot be converted. The message says why.
        ImportError: msgspec is missing. The message has the command that installs it.
    """
    reads, schema = make_converter(payload)
    return Types(reads, make_converter(result)[0], schema)


def make_converter(kind: Any) -> tuple[Converter, str | None]:
    """Return the converter for a type, and its JSON Schema as JSON; None if the type has no schema.

    Raises:
        TypeError, ImportError: as for `make_types`.
    """
    if kind is object:
        kind = Any
    if _mentions(_is_model, kind):
        return _with_pydantic(kind)
    models = False

    def custom(found: type) -> dict[str, Any]:
        """Take note of a type that msgspec does not know; a dataclass may have a field of a model."""
        nonlocal models
        models = models or _mentions(_is_model, found)
        if not models:
            raise TypeError(f"there is no conversion for {name_of(found)}")
        return {"type": "object"}

    msgspec = import_msgspec()
    try:
        schema = msgspec.json.schema(kind, schema_hook=custom)
    except Exception as error:  # also NameError, for a type that is named in a str
        if not models:
            raise _unusable(kind, error) from None
    if models:
        return _with_pydantic(kind)
    return _MsgspecConverter(kind, msgspec), _as_json(schema)


def import_msgspec() -> ModuleType:
    """Return msgspec.

    Raises:
        ImportError: it is missing. The message has the command that installs it.
    """
    try:
        import msgspec
    except ImportError:
        text = f"types of callbacks need the package msgspec: {install_command('typed')}"
        raise ImportError(text, name="msgspec") from None
    return msgspec


def asks_for_conversion(kind: Any) -> bool:
    """Return whether a type is one that JSON has no word for, or is made of some, such as `list[Order]`.

    The handler of such a payload cannot mean the plain value.
    """
    return _mentions(_is_special, kind)


def _is_special(kind: type) -> bool:
    msgspec = sys.modules.get("msgspec")  # without it, nobody has defined a Struct
    return (
        is_dataclass(kind)
        or is_typeddict(kind)
        or issubclass(kind, _CLASSES)
        or _is_model(kind)
        or (msgspec is not None and issubclass(kind, msgspec.Struct))
    )


def _is_model(kind: type) -> bool:
    """Return whether a class is a model of pydantic, or one of its dataclasses."""
    return hasattr(kind, "__pydantic_validator__")


def _mentions(check: Callable[[type], bool], kind: Any) -> bool:
    """Return whether a check holds for a type, or for one that it is made of."""
    if isinstance(kind, type) and not get_args(kind):
        return check(kind)
    return any(_mentions(check, part) for part in (get_origin(kind), *get_args(kind)) if part is not None)


def _unusable(kind: Any, error: Exception) -> TypeError:
    allowed = 'docs/guide.md lists the allowed types under "Contracts"'
    return TypeError(f"{name_of(kind)} cannot be a type of a callback: {reason_of(error)}; {allowed}")


def name_of(kind: object) -> str:
    """Return the name of a type, for people."""
    return kind.__qualname__ if isinstance(kind, type) else repr(kind)


def _as_json(schema: dict[str, Any]) -> str:
    # Not each default of a field is a value of JSON.
    return json.dumps(jsonable(schema), separators=(",", ":"), default=str)


class _MsgspecConverter:
    """Converts with msgspec."""

    __slots__ = ("_convert", "_kind", "_to_plain", "_wrong", "name")

    def __init__(self, kind: Any, msgspec: Any) -> None:
        self.name = name_of(kind)
        self._kind = kind
        self._convert = msgspec.convert
        self._to_plain = msgspec.to_builtins
        self._wrong: type[Exception] = msgspec.ValidationError

    def read(self, value: Any) -> Any:
        try:
            return self._convert(value, self._kind, builtin_types=_PLAIN)
        except self._wrong as error:
            text = str(error)
            found = _AT.search(text)
            raise (Misfit(text[: found.start()], found[1]) if found else Misfit(text)) from None
        except RecursionError as error:
            raise Misfit(reason_of(error)) from None

    def write(self, value: Any) -> Any:
        try:
            plain = self._to_plain(value, builtin_types=_PLAIN)
        except Exception as error:  # code of the user's class may raise anything
            raise Misfit(reason_of(error)) from None
        self.read(plain)  # a dataclass may have a value of another type in a field
        return plain


def _with_pydantic(kind: Any) -> tuple[Converter, str | None]:
    pydantic: Any = sys.modules["pydantic"]  # whoever defined a model imported it
    try:
        adapter: Any = pydantic.TypeAdapter(kind)
    except Exception as error:
        raise _unusable(kind, error) from None
    try:
        schema = _as_json(adapter.json_schema())
    except Exception:  # a field may have a type that JSON Schema has no word for
        schema = None
    return _PydanticConverter(kind, adapter, pydantic.ValidationError), schema


class _PydanticConverter:
    """Converts with pydantic: models, and types with models in them."""

    __slots__ = ("_adapter", "_wrong", "name")

    def __init__(self, kind: Any, adapter: Any, wrong: Any) -> None:
        self.name = name_of(kind)
        self._adapter = adapter
        self._wrong = wrong

    def read(self, value: Any) -> Any:
        try:
            return self._adapter.validate_python(value)
        except self._wrong as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
            raise Misfit(first["msg"], f"${path}") from None
        except RecursionError as error:
            raise Misfit(reason_of(error)) from None

    def write(self, value: Any) -> Any:
        try:
            plain = self._adapter.dump_python(value, mode="json", by_alias=True, warnings=False)
        except Exception as error:
            raise Misfit(reason_of(error)) from None
        self.read(plain)
        return plain
