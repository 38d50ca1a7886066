"""Run seeds of the simulation: `python -m tests.simulation --seed 17 --trace`, or `--seeds 10000 --processes 2`."""

from __future__ import annotations

import argparse
import os
import sys
import time

from .runs import run_many, run_seed


def main() -> int:
    """The command line; returns 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    parser.add_argument("--seeds", type=int, default=300, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--stop-after", type=int, default=10, help="stop after so many failures")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of keys must have the same order in every run
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    if options.seed is not None:
        failure = run_seed(options.seed, trace=options.trace)
        print(failure or f"seed {options.seed} passed")
        return int(failure is not None)
    start = time.monotonic()
    failed: list[int] = []
    for done, failures in run_many(options.first, options.seeds, options.processes):
        for seed, text in failures:
            failed.append(seed)
            print(text, flush=True)
        seconds = time.monotonic() - start
        print(f"{done} of {options.seeds} seeds, {len(failed)} failed, {seconds:.0f} s", file=sys.stderr, flush=True)
        if len(failed) >= options.stop_after:
            break
    print(f"seeds {options.first} to {options.first + options.seeds - 1}: {len(failed)} failed {failed[:20]}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
