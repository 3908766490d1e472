"""Which keys are registered, and by how many endpoints: only for operators' queries."""

from __future__ import annotations

from ringback.protocol.frames import Role

MAX_KEYS = 10_000
"""How many different keys are listed, over all endpoints. More keys work too, but are not listed."""


class RegisteredKeys:
    """Counts endpoints by role and key. Its size is bounded, whatever peers claim to have registered."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, Role], int] = {}

    def replace(self, role: Role, old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
        """Replace the keys of an endpoint. Return those that are listed; they are the `old` of the next
        call."""
        for key in old:
            count = self._counts[key, role] - 1
            if count:
                self._counts[key, role] = count
            else:
                del self._counts[key, role]
        listed = []
        for key in dict.fromkeys(new):
            count = self._counts.get((key, role), 0)
            if count or len(self._counts) < MAX_KEYS:
                self._counts[key, role] = count + 1
                listed.append(key)
        return tuple(listed)

    def rows(self) -> list[tuple[str, Role, int]]:
        """Return rows of key, role, and the number of endpoints."""
        return [(key, role, count) for (key, role), count in self._counts.items()]
