"""Which keys are registered, by how many endpoints: for operators' questions only."""

from __future__ import annotations

from ringback.protocol.frames import Role

MAX_KEYS = 10_000
"""Distinct keys that are listed, over all endpoints; further ones work, but are not listed."""


class RegisteredKeys:
    """Counts endpoints by role and key. Bounded, whatever peers claim to have registered."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, Role], int] = {}

    def replace(self, role: Role, old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
        """Takes the keys that an endpoint has now; gives those listed, to be given as `old` later."""
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
        """Gives (key, role, how many endpoints)."""
        return [(key, role, count) for (key, role), count in self._counts.items()]
