"""Seeds, one or many, in one process or several."""

from __future__ import annotations

import logging
import multiprocessing
import traceback
from collections.abc import Iterator

from .short_ways import differences
from .steady import steady_hashes
from .world import World

#: Seeds that a process takes at a time.
CHUNK = 50
#: Every seed that this divides runs a second time, without short ways.
COMPARED = 10


def run_seed(seed: int, *, trace: bool = False) -> str | None:
    """Run one seed; the failure with how to see it again, or `None`."""
    logging.disable()  # what goes wrong here is meant to
    try:
        with steady_hashes():
            world = World(seed, trace=trace)
            world.run()
            if seed % COMPARED == 0 and not trace:
                compare_short_ways(world)
    except Exception:
        return f"{traceback.format_exc()}\nseed {seed} failed; replay it: {command(seed)}"
    return None


def compare_short_ways(world: World) -> None:
    """Run a seed again without short ways, and compare what both leave on record."""
    other = World(world.seed, short_ways=False)
    other.run()
    found = differences(world.snapshots, other.snapshots)
    assert not found, "\n  ".join(["the records depend on short ways:", *found])


def command(seed: int) -> str:
    """What shows a seed's run step by step."""
    return f"PYTHONPATH=src PYTHONHASHSEED=0 python -m tests.simulation --seed {seed} --trace"


def run_chunk(seeds: range) -> list[tuple[int, str]]:
    """The failures among these seeds."""
    return [(seed, failure) for seed in seeds if (failure := run_seed(seed)) is not None]


def run_many(first: int, count: int, processes: int) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """How many are done so far, and what failed in the latest chunk."""
    chunks = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    done = 0
    if processes == 1:
        for chunk in chunks:
            done += len(chunk)
            yield done, run_chunk(chunk)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for failures in pool.imap(run_chunk, chunks):
            done += CHUNK
            yield min(done, count), failures
