"""What the record of a node says of it, beside its boot, for people who look at the realm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True)
class Description:
    """A node as it was when it renewed its record.

    Attributes:
        software: what runs, with its version.
        since: when it started, in seconds since 1970.
        draining: whether it drains.
        players: how many players are connected to it.
        acting: how many of its servers act: 0 or 1.
        standbys: how many of its servers stand by.
        frames_s: how many frames it passed on per second lately.
    """

    software: str = ""
    since: float = 0.0
    draining: bool = False
    players: int = 0
    acting: int = 0
    standbys: int = 0
    frames_s: float = 0.0

    def fields(self) -> dict[str, object]:
        """Return what a record says."""
        return asdict(self)

    @classmethod
    def read(cls, said: Mapping[str, object]) -> Description:
        """Return what a record says. A node of another version may say less, or something else."""
        known = {field.name: said.get(field.name) for field in fields(cls)}
        return cls(**{name: value for name, value in known.items() if type(value) is _TYPES[name]})  # type: ignore[arg-type]


_TYPES = {field.name: type(field.default) for field in fields(Description)}
