"""What callbacks take: JSON Schemas that the broker knows, in words and as examples.

Peers choose these schemas, so nothing in one is believed: its size, depth and characters are bounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ringback.protocol.json_values import parse_schema
from ringback_cli.connection import Connection
from ringback_cli.realm_rows import find
from ringback_cli.rows import named_rows

if TYPE_CHECKING:
    from ringback import Operator

MAX_DEPTH = 6
"""How deep a schema is followed. It may refer to itself."""

MAX_PARTS = 50
"""How many parts of a schema are looked at."""

_EMPTY: dict[str, Any] = {
    "string": "",
    "integer": 0,
    "number": 0.0,
    "boolean": False,
    "array": [],
    "object": {},
}
"""An example of each type of JSON Schema."""


def schemas_of(
    operator: Operator,
    connection: Connection,
    key: str,
    callbacks: Iterable[dict[str, Any]],
    node: str | None = None,
) -> dict[str, Any]:
    """Return the schemas of a key, by the side that has said so.

    Args:
        callbacks: the broker's rows of callbacks. They show whether it knows schemas at all: an older broker
            would end the session of an operator that asks for them.
        node: the node to ask; None: all of the realm.
    """
    if not any(row["key"] == key and row.get("schema") for row in callbacks):
        return {}
    found = {}
    for row in named_rows("schemas", find(operator, "schemas", connection, node).plain_rows()):
        if row["key"] == key and (schema := parse_schema(row["schema"])) is not None:
            found[row["side"]] = schema
    return found


def describe(schema: Any) -> str:
    """Return what a schema allows, in short words: `{item: string, count: integer (optional)}`."""
    return _Reader(schema).describe(schema, MAX_DEPTH)


def example(schema: Any) -> Any:
    """Return a value as a schema allows it, for a person to fill in."""
    return _Reader(schema).example(schema, MAX_DEPTH)


class _Reader:
    """Reads one schema.

    Args:
        root: the whole schema, which references are looked up in.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = MAX_PARTS

    def _resolved(self, schema: Any) -> dict[str, Any] | None:
        """Return a schema without a reference; None if it says nothing, or there is no end of it."""
        self._left -= 1
        for _ in range(MAX_DEPTH):
            if not isinstance(schema, dict) or self._left < 0:
                return None
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                return schema
            found = self._root
            for part in reference.removeprefix("#/").split("/"):
                found = found.get(part) if isinstance(found, dict) else None
            schema = found
        return None

    def describe(self, schema: Any, depth: int) -> str:
        found = self._resolved(schema)
        if found is None or depth == 0:
            return "..." if schema else "anything"
        if isinstance(choices := found.get("enum"), list):
            return " or ".join(json.dumps(choice)[:40] for choice in choices[:10])
        if "const" in found:
            return json.dumps(found["const"])[:40]
        for several in ("anyOf", "oneOf"):
            if isinstance(options := found.get(several), list):
                return " or ".join(self.describe(option, depth - 1) for option in options[:10])
        if isinstance(properties := found.get("properties"), dict):
            needed = found.get("required")
            names = needed if isinstance(needed, list) else []
            fields = (
                f"{name}: {self.describe(part, depth - 1)}{'' if name in names else ' (optional)'}"
                for name, part in properties.items()
            )
            return f"{{{', '.join(fields)}}}"
        if isinstance(parts := found.get("prefixItems"), list):
            return f"[{', '.join(self.describe(part, depth - 1) for part in parts)}]"
        if found.get("type") == "array":
            return f"[{self.describe(found.get('items'), depth - 1)}, ...]"
        if isinstance(values := found.get("additionalProperties"), dict):
            return f"{{any key: {self.describe(values, depth - 1)}}}"
        kind, form = found.get("type"), found.get("format")
        if not isinstance(kind, str):
            return "anything"
        return f"{kind[:20]} ({form[:20]})" if isinstance(form, str) else kind[:20]

    def example(self, schema: Any, depth: int) -> Any:
        found = self._resolved(schema)
        if found is None or depth == 0:
            return None
        for given in ("default", "const"):
            if given in found:
                return found[given]
        for several in ("enum", "examples"):
            if isinstance(values := found.get(several), list) and values:
                return values[0]
        for several in ("anyOf", "oneOf"):
            if isinstance(options := found.get(several), list) and options:
                return self.example(options[0], depth - 1)
        if isinstance(properties := found.get("properties"), dict):
            return {name: self.example(part, depth - 1) for name, part in properties.items()}
        if isinstance(parts := found.get("prefixItems"), list):
            return [self.example(part, depth - 1) for part in parts]
        kind, least = found.get("type"), found.get("minimum")
        if kind in ("integer", "number") and isinstance(least, int | float):
            return least
        return _EMPTY.get(kind) if isinstance(kind, str) else None
