"""The rows: what is measured, how often, and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass

BOTH = ("local", "separate")


@dataclass(frozen=True)
class Metric:
    """One figure of a row.

    Attributes:
        name: key in the sample.
        label, unit: for the table.
        higher_is_better: the direction; the ratio shown is always "how many times better than the peer".
        goal: least ratio aimed at, if any.
        limit: largest value aimed at, whatever the peer has, if any.
        reference_goal: least ratio to the reference aimed at (again: times better), if any.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool = False
    goal: float | None = None
    limit: float | None = None
    reference_goal: float | None = None


@dataclass(frozen=True)
class Row:
    """A runner script (`benchmarks.rows.<name>`) and how often it is run.

    Attributes:
        arrangements: "local" is a LocalCluster (scheduler in the user's process), "separate" has scheduler and workers
            each in a process of their own, "alone" has no cluster.
        sides: "ours", "peer" and "reference" (what neither of them is: executors, dask's threads).
        repeat, peer_repeat: samples per side.
    """

    name: str
    metrics: tuple[Metric, ...]
    arrangements: tuple[str, ...] = BOTH
    sides: tuple[str, ...] = ("ours", "peer")
    repeat: int = 3
    peer_repeat: int = 2


ROWS = (
    Row(
        "map_gather",
        (Metric("tasks_per_second", "map 10 k no-op + gather", "tasks/s", True, goal=40, reference_goal=5),),
        sides=("ours", "peer", "reference"),
    ),
    Row(
        "round_trip",
        (
            Metric("p50_ms", "round trip, p50", "ms", goal=15),
            Metric("p99_ms", "round trip, p99", "ms"),
            Metric("p99_to_p50", "round trip, p99 / p50", "", limit=3),
        ),
    ),
    Row("tree", (Metric("seconds", "tree of 16 k", "s", goal=25),)),
    Row("merge", (Metric("seconds", "merge of 20 k by Client.get", "s", goal=12),)),
    Row("chain", (Metric("seconds", "chain of 2 k", "s", goal=15),)),
    Row(
        "transfer",
        (
            Metric("scatter_seconds", "scatter 200 MB", "s", goal=8),
            Metric("move_seconds", "worker to worker 200 MB", "s", goal=1.5),
            Metric("gather_seconds", "gather 200 MB", "s", goal=8),
            Metric("scatter_hashed_seconds", "scatter 200 MB, key from the content", "s"),
        ),
    ),
    Row(
        "array",
        (Metric("seconds", "(x + x.T).sum(), 8000² in 500²", "s", goal=2.5, reference_goal=1 / 1.3),),
        sides=("ours", "peer", "reference"),
    ),
    Row(
        "dataframe",
        (
            Metric("groupby_seconds", "groupby on timeseries", "s", goal=1.5),
            Metric("shuffle_seconds", "shuffle of timeseries", "s", goal=1.2),
        ),
    ),
    Row(
        "spill",
        (
            Metric("seconds", "sort of twice the memory limit", "s"),
            Metric("stall_ms", "longest stall of the loop while spilling", "ms", limit=200),
            Metric("memory_to_limit", "process / memory limit at the most", "", limit=1.0),
        ),
        arrangements=("alone",),
        repeat=2,
        peer_repeat=1,
    ),
    Row(
        "stealing",
        (
            Metric("seconds", "1,000 tasks of 10 ms, all on one of 4 workers at first", "s"),
            Metric("times_ideal", "the same, times ideal", "", limit=1.3),
        ),
        arrangements=("alone",),
    ),
    Row("start", (Metric("seconds", "start of a 2-worker LocalCluster", "s", goal=1.3),), arrangements=("alone",)),
    Row(
        "scheduler_cost",
        (
            Metric("cpu_microseconds", "scheduler CPU per task", "µs", goal=10),
            Metric("bytes_per_task", "scheduler memory per task at 100 k", "B"),
        ),
        arrangements=("separate",),
        repeat=2,
        peer_repeat=1,
    ),
    Row(
        "zero_worker",
        (
            Metric("microseconds", "zero worker: scheduler time per task", "µs"),
            Metric("spread", "zero worker: dearest / cheapest, 10 k to 1 M tasks, 2 to 1 k workers", "", limit=1.2),
            Metric("bytes_per_task", "zero worker: memory per task at 1 M", "B", limit=1_200),
        ),
        arrangements=("alone",),
        sides=("ours",),
        repeat=1,
    ),
    Row(
        "lost_worker",
        (
            Metric("seconds", "20 k tasks of 1 ms on 4 workers", "s"),
            Metric("with_loss", "the same, one killed in the middle", "s"),
            Metric("beyond_share", "what that cost beyond its share", "s", limit=2),
        ),
        arrangements=("alone",),
        sides=("ours",),
    ),
)
