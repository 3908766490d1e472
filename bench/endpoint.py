"""Run one process of a contender: its server or its players, as the caller or as the other side.

python bench/endpoint.py CONTENDER SPECIFICATION

With RINGBACK_BENCH_UVLOOP=1, the event loop is that of uvloop.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

from ringback_cli.load import work_in

if __name__ == "__main__":
    if os.environ.get("RINGBACK_BENCH_UVLOOP"):
        import uvloop

        uvloop.install()
    contender = import_module(f"contenders.{sys.argv[1]}")
    work_in({"server": contender.Server, "players": contender.Players}, json.loads(sys.argv[2]))
