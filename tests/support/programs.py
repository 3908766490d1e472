"""Programs that a fuzzer writes: small choices, read from bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MAX_STEPS = 80
"""The longest program. The rest of the bytes is ignored."""


class Program:
    """Reads small choices from bytes. After the end of the bytes, each choice is 0."""

    def __init__(self, code: bytes) -> None:
        self._code = code
        self._at = 0
        self._steps = 0

    def goes_on(self) -> bool:
        """Return whether there is another step."""
        self._steps += 1
        return self._at < len(self._code) and self._steps <= MAX_STEPS

    def byte(self) -> int:
        self._at += 1
        return self._code[self._at - 1] if self._at <= len(self._code) else 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.bytes(size).ljust(size, b"\0"), "big")

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.byte() % len(choices)]

    def bytes(self, size: int) -> bytes:
        self._at += size
        return self._code[self._at - size : self._at]

    def piece(self) -> bytes:
        """Read a length, and return that number of bytes."""
        return self.bytes(self.byte())
