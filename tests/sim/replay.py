"""Run the simulator from the command line.

python tests/sim/replay.py --seeds 100000      run 100000 seeds, beginning with --seed
python tests/sim/replay.py --seed 7 --trace    run one seed, and print its trace

With --realm, several brokers are one realm.
"""

from __future__ import annotations

import argparse
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHUNK = 100
REPLAY = ".venv/bin/python tests/sim/replay.py --trace --seed {}"


def run_seeds(seeds: range, realm: bool = False) -> list[tuple[int, str]]:
    """Run seeds, and return those that failed, each with the reason."""
    logging.disable()  # of the handlers that fail on purpose
    for name in ("tests", "broker", "sdk"):
        if str(ROOT / name) not in sys.path:
            sys.path.insert(0, str(ROOT / name))
    from sim.realm import failure_of_realm
    from sim.simulation import failure_of

    run = failure_of_realm if realm else failure_of
    return [(seed, why) for seed in seeds if (why := run(seed)) is not None]


def trace(seed: int, realm: bool) -> int:
    """Run a seed, print its trace, and return the exit code."""
    run_seeds(range(0))  # this makes the imports work
    from sim.realm import RealmSimulation
    from sim.simulation import Failure, Simulation

    simulation = (RealmSimulation if realm else Simulation)(seed, tracing=True)
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
    parser.add_argument("--realm", action="store_true")
    options = parser.parse_args()
    if options.trace:
        return trace(options.seed, options.realm)
    end = options.seed + options.seeds
    chunks = [range(start, min(start + CHUNK, end)) for start in range(options.seed, end, CHUNK)]
    failed = 0
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for found in pool.map(partial(run_seeds, realm=options.realm), chunks):
            for seed, why in found:
                failed += 1
                print(
                    f"seed {seed} failed: {why}\nreplay: python tests/sim/replay.py --seed {seed} --trace"
                    f"{' --realm' * options.realm}\n"
                )
    print(f"{options.seeds} seeds, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
