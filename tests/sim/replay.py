"""Run the simulator from the command line.

python tests/sim/replay.py --seeds 100000      run 100000 seeds, beginning with --seed
python tests/sim/replay.py --seed 7 --trace    run one seed, and print its trace

With --realm, several brokers are one realm. With --operators, they are one whose operators call players at
all nodes.
"""

from __future__ import annotations

import argparse
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHUNK = 100
REPLAY = ".venv/bin/python tests/sim/replay.py --trace --seed {}"


def simulation_of(kind: str) -> Any:
    """Return the class of a simulation: of one broker, a realm, or a realm with operators."""
    from sim.realm import OperatorSimulation, RealmSimulation
    from sim.simulation import Simulation

    return {"": Simulation, "realm": RealmSimulation, "operators": OperatorSimulation}[kind]


def run_seeds(seeds: range, kind: str = "") -> list[tuple[int, str]]:
    """Run seeds, and return those that failed, each with the reason."""
    logging.disable()  # of the handlers that fail on purpose
    for name in ("tests", "broker", "sdk"):
        if str(ROOT / name) not in sys.path:
            sys.path.insert(0, str(ROOT / name))
    from sim.simulation import failure_of

    run = simulation_of(kind)
    return [(seed, why) for seed in seeds if (why := failure_of(seed, run)) is not None]


def trace(seed: int, kind: str) -> int:
    """Run a seed, print its trace, and return the exit code."""
    run_seeds(range(0))  # this makes the imports work
    from sim.simulation import Failure

    simulation = simulation_of(kind)(seed, tracing=True)
    try:
        simulation.run()
        failed = ""
    except Failure as failure:
        failed = str(failure)
    print(*simulation.world.trace or (), sep="\n")
    print(simulation.settings())
    print(failed or "nothing failed")
    return bool(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--realm", action="store_const", dest="kind", const="realm", default="")
    parser.add_argument("--operators", action="store_const", dest="kind", const="operators")
    options = parser.parse_args()
    if options.trace:
        return trace(options.seed, options.kind)
    end = options.seed + options.seeds
    chunks = [range(start, min(start + CHUNK, end)) for start in range(options.seed, end, CHUNK)]
    failed = 0
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for found in pool.map(partial(run_seeds, kind=options.kind), chunks):
            for seed, why in found:
                failed += 1
                print(
                    f"seed {seed} failed: {why}\nreplay: python tests/sim/replay.py --seed {seed} --trace"
                    f"{' --' * bool(options.kind)}{options.kind}\n"
                )
    print(f"{options.seeds} seeds, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
