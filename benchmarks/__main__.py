"""Runs every row alternately for both sides, prints the table of ratios and writes the samples as JSON.

Nothing is measured here: each sample is a process of its own (`benchmarks.runner`), so that no side inherits the
other's caches or memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from .environments import ROOT, peer_python, run_sample
from .report import print_table, summarise, versions
from .runner import FUNCTIONS
from .table import ROWS, Row

RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    options = parse_arguments()
    peer = options.peer_python or peer_python()
    pythons = {"ours": options.python, "peer": peer}
    began = time.time()
    rows = [row for row in ROWS if not options.only or row.name in options.only]
    samples: dict[str, dict[str, list[dict[str, float]]]] = {}
    for row in rows:
        for arrangement in row.arrangements:
            if options.arrangement in (None, arrangement):
                samples[f"{row.name}/{arrangement}"] = measure(row, arrangement, pythons, options)
    summary = summarise(rows, samples)
    print()
    print_table(summary)
    took = time.time() - began
    print(f"\n{len(rows)} rows in {took / 60:.1f} minutes; 2 workers x 1 thread; medians")
    report = {
        "versions": {side: versions(python) for side, python in pythons.items()},
        "quick": options.quick,
        "seconds": round(took, 1),
        "summary": summary,
        "samples": samples,
    }
    path = options.output or RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {path}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one repetition: does everything work")
    parser.add_argument(
        "--only", action="append", choices=[row.name for row in ROWS], help="only this row (repeatable)"
    )
    parser.add_argument("--arrangement", choices=["local", "separate", "alone"], help="only this arrangement")
    parser.add_argument(
        "--functions", choices=FUNCTIONS, default="module", help="what the tasks of the overhead rows run"
    )
    parser.add_argument("--repeat", type=int, default=None, help="samples per row (default: the row's own)")
    parser.add_argument("--python", default=sys.executable, help="interpreter with headrace (default: this one)")
    parser.add_argument("--peer-python", default=None, help="interpreter with the peer (default: make one)")
    parser.add_argument("--output", type=Path, default=None, help="where to write the JSON")
    return parser.parse_args()


def measure(row: Row, arrangement: str, pythons: dict[str, str], options: Any) -> dict[str, list[dict[str, float]]]:
    """Samples of one row, A B A B, by side; an error is shown and leaves the side without that sample."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "peer": [], "reference": []}
    for repetition in range(1 if options.quick else options.repeat or row.repeat):
        for side in row.sides:
            if side == "peer" and repetition >= row.peer_repeat:
                continue
            if side == "reference" and arrangement != row.arrangements[0]:
                continue
            python = pythons["ours" if side == "reference" else side]
            begin = time.time()
            print(f"{row.name:16} {arrangement:9} {side:9}", end=" ", flush=True)
            try:
                sample = run_sample(python, row.name, arrangement, side, options.quick, options.functions)
            except RuntimeError as error:
                print(f"failed: {error}")
                continue
            found[side].append(sample)
            figures = "  ".join(f"{name} {value:,.4g}" for name, value in sample.items())
            print(f"{figures}   ({time.time() - begin:.0f} s)", flush=True)
    return found


if __name__ == "__main__":
    main()
