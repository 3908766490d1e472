"""A Jupyter kernel, whose event loop runs already when a cell begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client import KernelManager
from support.harness import ENVIRONMENT, PATIENCE_S

Run = Callable[[str], str]


@contextmanager
def kernel(folder: Path) -> Iterator[Run]:
    """Start a kernel. Yield a function that runs a cell in it, and returns what the cell printed."""
    manager = KernelManager()
    folders = {f"JUPYTER_{what}_DIR": str(folder / what) for what in ("CONFIG", "DATA", "RUNTIME")}
    manager.start_kernel(env={**ENVIRONMENT, **folders, "IPYTHONDIR": str(folder)}, cwd=str(folder))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(PATIENCE_S)

        def run_cell(code: str) -> str:
            printed: list[str] = []

            def take(message: dict[str, Any]) -> None:
                content = message["content"]
                printed.append(content.get("text") or content.get("evalue") or "")

            reply = client.execute_interactive(code, timeout=PATIENCE_S, output_hook=take)
            assert reply["content"]["status"] == "ok", printed
            return "".join(printed)

        yield run_cell
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
