"""Event loops for tests: asyncio's own, uvloop's, and one without readers, as on Windows."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any, NoReturn


class NoReaders(asyncio.SelectorEventLoop):
    """A loop like the default one of Windows, asyncio's ProactorEventLoop: it has no `add_reader`."""

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())

    def _refuse(self, *_: Any) -> NoReturn:
        raise NotImplementedError

    add_reader = remove_reader = add_writer = remove_writer = _refuse


def uvloops() -> asyncio.AbstractEventLoop:
    """Return a new loop of uvloop."""
    import uvloop

    return uvloop.new_event_loop()


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloops, "no readers": NoReaders}
