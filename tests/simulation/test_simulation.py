"""Three hundred clusters, each from its seed: what goes wrong in them must not show in what users get."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.messages.worker import TaskFinished
from headrace.scheduler.state.flow import completion
from headrace.scheduler.state.flow.completion import record_result
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState

from .runs import compare_short_ways
from .steady import steady_hashes
from .world import World

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_seeds() -> None:
    # In processes of their own: the order of sets of keys, and with it the run of a seed, depends on PYTHONHASHSEED.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "300", "--stop-after", "3"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_records_that_depend_on_short_ways_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with steady_hashes():
        world = World(0)
        world.run()
        compare_short_ways(world)

        def count_twice(task: TaskState, worker: WorkerState, message: TaskFinished) -> None:
            record_result(task, worker, message)
            task.group.nbytes_total += 1

        monkeypatch.setattr(completion, "record_result", count_twice)
        world = World(0, validate=False)
        world.run()
        with pytest.raises(AssertionError, match=r"groups, .* with short ways, and"):
            compare_short_ways(world)
