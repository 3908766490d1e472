"""Names that only a test knows: a stand-in for `socket.getaddrinfo`, and a program that runs another with it.

    python tests/support/names.py TABLE -m ringback_cli ping ...

TABLE is a JSON object of names and their IPs. `null` in place of the IPs: the lookup never ends.
"""

from __future__ import annotations

import json
import runpy
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answer = list[str] | Callable[[], list[str]] | None


class Names:
    """A table of names. All other names are unknown.

    Attributes:
        table: the IPs of each name, or a function that returns them, or None: a lookup waits for `released`.
        lookups: the names that were looked up.
        threads: the names of the threads on which that happened.
        asked: is released once for each lookup that begins.
        released: lets the lookups end that wait.
    """

    def __init__(self, **table: Answer) -> None:
        self.table: dict[str, Answer] = {name.replace("_", "."): ips for name, ips in table.items()}
        self.lookups: list[str] = []
        self.threads: set[str] = set()
        self.asked = threading.Semaphore(0)
        self.released = threading.Event()

    def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        """Answer as `socket.getaddrinfo` does."""
        self.lookups.append(host)
        self.threads.add(threading.current_thread().name)
        self.asked.release()
        ips = self.table.get(host, [])
        if ips is None:
            self.released.wait()
            ips = []
        if callable(ips):
            ips = ips()
        if not ips:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))
            for ip in ips
        ]


names_of_this_process = Names()
"""The names that a program sees which this module runs."""

if __name__ == "__main__":
    from support.names import names_of_this_process as names  # this module, as the program imports it

    names.table = json.loads(sys.argv[1])
    socket.getaddrinfo = names.getaddrinfo
    if sys.argv[2] == "-m":
        sys.argv = sys.argv[3:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(sys.argv[2]).parent))
        sys.argv = sys.argv[2:]
        runpy.run_path(sys.argv[0], run_name="__main__")
