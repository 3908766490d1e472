"""Which keys are registered, by how many endpoints, and what they take: only for operators' queries."""

from __future__ import annotations

from ringback.protocol.frames import Role

MAX_KEYS = 10_000
"""How many different keys are listed, over all endpoints. More keys work too, but are not listed."""

MAX_CROWD_SCHEMAS_BYTES = 1024 * 1024
"""How many bytes of schemas are kept of all endpoints but servers. Players may send any, so a server's do not
depend on the room that is left."""


class RegisteredKeys:
    """Counts endpoints by role and key. Its size is bounded, whatever peers claim to have registered.

    A key has one schema: the one that was said last. It goes when nobody has registered the key any more.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, Role], int] = {}
        self._schemas: dict[tuple[str, Role], str] = {}
        self._crowd_bytes = 0

    def replace(
        self, role: Role, old: tuple[str, ...], new: tuple[str, ...], schemas: dict[str, str] | None = None
    ) -> tuple[str, ...]:
        """Replace the keys of an endpoint. Return those that are listed; they are the `old` of the next
        call.

        Args:
            schemas: what some of the new keys take, as JSON Schemas.
        """
        kept = set(new)
        for key in old:
            count = self._counts[key, role] - 1
            if count or key in kept:  # a key that stays keeps its place
                self._counts[key, role] = count
            else:
                del self._counts[key, role]
                self._forget_schema(key, role)
        listed = []
        for key in dict.fromkeys(new):
            count = self._counts.get((key, role), 0)
            if (key, role) in self._counts or len(self._counts) < MAX_KEYS:
                self._counts[key, role] = count + 1
                listed.append(key)
                schema = (schemas or {}).get(key)
                if schema is not None:
                    self._keep_schema(key, role, schema)
                elif not count:  # the only endpoint that has the key says nothing of it
                    self._forget_schema(key, role)
        return tuple(listed)

    def _keep_schema(self, key: str, role: Role, schema: str) -> None:
        self._forget_schema(key, role)
        if role is not Role.SERVER:
            size = len(schema.encode())
            if self._crowd_bytes + size > MAX_CROWD_SCHEMAS_BYTES:
                return
            self._crowd_bytes += size
        self._schemas[key, role] = schema

    def _forget_schema(self, key: str, role: Role) -> None:
        schema = self._schemas.pop((key, role), None)
        if schema is not None and role is not Role.SERVER:
            self._crowd_bytes -= len(schema.encode())

    def has_schema(self, key: str, role: Role) -> bool:
        """Return whether somebody has said what a callback takes."""
        return (key, role) in self._schemas

    def schemas(self) -> list[tuple[str, Role, str]]:
        """Return rows of key, role, and schema, in order."""
        return [(key, role, schema) for (key, role), schema in sorted(self._schemas.items())]

    def rows(self) -> list[tuple[str, Role, int]]:
        """Return rows of key, role, and the number of endpoints."""
        return [(key, role, count) for (key, role), count in self._counts.items()]
