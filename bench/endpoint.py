"""Run one process of a contender: its server or its players, as the caller or as the other side.

python bench/endpoint.py CONTENDER SPECIFICATION

The `workload` in the specification says what a caller does.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

from gather import gather
from open_loop import open_loop
from processes import use_chosen_loop

from ringback_cli.load import Workload, closed_loop, work_in

WORKLOADS: dict[str, Workload] = {"closed_loop": closed_loop, "open_loop": open_loop, "gather": gather}

if __name__ == "__main__":
    use_chosen_loop()
    contender = import_module(f"contenders.{sys.argv[1]}")
    spec = json.loads(sys.argv[2])
    work_in({"server": contender.Server, "players": contender.Players}, spec, WORKLOADS[spec["workload"]])
