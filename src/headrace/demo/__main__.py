"""The demo's main program: find the files, parse, reduce in a tree, continue with dask.dataframe, print."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

from headrace import Client, LocalCluster
from headrace.diagnostics.progressbar import TextProgressBar

from .printed_report import (
    heading,
    shortened,
    sparkline,
    styled,
    table,
)
from .sources import SIZE_CLASSES, Source, Summary, find_sources, merge, parse_file, summary_of, to_frame

#: Summaries merged by one task.
FAN_IN = 8
#: Files whose functions make one partition of the table.
FILES_PER_PARTITION = 250


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    began = time.perf_counter()
    sources = find_sources()[: options.limit]
    print(f"{len(sources):,} Python files in the standard library and the installed packages")
    starting = time.perf_counter()
    with (
        LocalCluster(
            n_workers=options.workers,
            threads_per_worker=1,
            processes=options.processes,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        kind = "processes" if options.processes else "threads"
        print(f"Started {options.workers} worker {kind} in {time.perf_counter() - starting:.1f} s")
        summary, frame = parse_and_reduce(client, sources)
        show_summary(summary)
        show_functions(frame)
    show_failures(summary)
    print(heading(f"Everything took {time.perf_counter() - began:.1f} s"))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m headrace.demo", description=main.__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of workers (default: CPUs)")
    parser.add_argument("--threads", dest="processes", action="store_false", help="workers as threads of this process")
    parser.add_argument("--limit", type=int, default=None, help="read at most this many files")
    return parser.parse_args(arguments)


def parse_and_reduce(client: Client, sources: list[Source]) -> tuple[Summary, Any]:
    """Parse every file, merge the summaries in a tree, and make the table; shows the progress.

    Returns:
        The merged summary, and a `dask.dataframe` whose partitions are on the workers.
    """
    begin = time.perf_counter()
    parsed = client.map(parse_file, sources, key="parse")
    level = client.map(summary_of, parsed, key="summary")
    tasks = [*parsed, *level]
    while len(level) > 1:
        level = client.map(merge, [level[i : i + FAN_IN] for i in range(0, len(level), FAN_IN)], pure=False)
        tasks += level
    frames = client.map(
        to_frame, [parsed[i : i + FILES_PER_PARTITION] for i in range(0, len(parsed), FILES_PER_PARTITION)], pure=False
    )
    tasks += frames
    print(heading("Parsing them, with a reduction in a tree"))
    TextProgressBar(tasks, label=" ")
    summary: Summary = level[0].result() if level else Summary()
    took = time.perf_counter() - begin
    print(f"  {len(tasks):,} tasks in {took:.2f} s: " + styled(f"{len(tasks) / took:,.0f} tasks/s", "1;32"))

    import dask.dataframe as dd

    return summary, dd.from_delayed(frames, meta=to_frame([]), verify_meta=False)


def show_summary(summary: Summary) -> None:
    row = [summary.files, summary.lines, summary.classes, summary.functions, len(summary.failed)]
    print(heading("In total"))
    print(table(["files", "lines", "classes", "functions", "do not parse"], [row]))


def show_functions(frame: Any) -> None:
    """Print tables about the functions, from one computation with dask.dataframe."""
    import dask

    begin = time.perf_counter()
    names, longest, classes, packages = dask.compute(
        frame.groupby("function").lines.agg(["count", "mean"]).nlargest(12, "count"),
        frame.nlargest(12, "lines"),
        frame.groupby(["package", "size_class"]).lines.count(),
        frame.groupby("package").lines.agg(["count", "mean", "max"]).nlargest(15, "count"),
    )
    took = time.perf_counter() - begin
    print(heading("Most frequent function names"))
    print(table(["function", "count", "mean lines"], [[row.Index, row.count_, row.mean] for row in _rows(names)]))
    print(heading("Longest functions"))
    print(table(["function", "module", "lines"], [[row.function, row.module, row.lines] for row in _rows(longest)]))
    bounds = ", ".join(f"≤{bound}" for bound in SIZE_CLASSES)
    print(heading(f"Function sizes per package (bars: {bounds} lines, and longer)"))
    rows = []
    for row in _rows(packages):
        counts = [int(classes.get((row.Index, position), 0)) for position in range(len(SIZE_CLASSES) + 1)]
        rows.append([row.Index, row.count_, row.mean, int(row.max), sparkline(counts)])
    print(table(["package", "functions", "mean lines", "longest", "sizes"], rows))
    print(f"  dask.dataframe, {frame.npartitions} partitions: {took:.2f} s")


def _rows(frame: Any) -> Any:
    # `count` is a method of the tuples that itertuples makes
    return frame.rename(columns={"count": "count_"}).itertuples()


def show_failures(summary: Summary) -> None:
    if not summary.failed:
        print(heading("Every file parses"))
        return
    print(heading(f"{len(summary.failed):,} files do not parse"))
    rows = [[shortened(path, 60), reason.replace(path, "the file")[:80]] for path, reason in sorted(summary.failed)]
    print(table(["file", "because"], rows))


if __name__ == "__main__":
    main()
