"""What pages show of a cluster as a whole. Views read records and change nothing."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

from headrace.common.display.units import bytes_in_words, counted

from .markup import Html, tag, tiles
from .task_views import prefix_table
from .worker_views import MOST_WORKERS, worker_table

#: Workers on the overview; all are on a page of their own.
OVERVIEW_WORKERS = 50


def task_states(scheduler: Any) -> Counter[str]:
    """The number of tasks in each state, from the totals of groups."""
    states: Counter[str] = Counter()
    for group in scheduler.task_groups.values():
        states.update(group.states)
    return states


def sentence(scheduler: Any) -> str:
    """What the cluster does now, in a sentence or two."""
    workers, states = scheduler.workers, task_states(scheduler)
    if not workers:
        waiting = states["waiting"] + states["queued"] + states["no-worker"]
        return "No worker is connected" + (f"; {counted(waiting, 'task')} wait for one." if waiting else ".")
    size = f"{counted(len(workers), 'worker')} with {counted(scheduler.total_nthreads, 'thread')}"
    running = states["processing"]
    waiting = states["waiting"] + states["queued"]
    if running or waiting:
        text = f"{size}: {counted(running, 'task')} on workers, {waiting:,} waiting."
    else:
        text = f"{size}, with nothing to do."
    if states["no-worker"]:
        text += f" {counted(states['no-worker'], 'task')} may run on none of these workers."
    paused = sum(worker.status.name == "paused" for worker in workers.values())
    if paused:
        text += f" {counted(paused, 'worker')} paused for lack of memory."
    return text


def cluster_tiles(scheduler: Any) -> Html:
    """Large numbers about the cluster."""
    states = task_states(scheduler)
    workers = list(scheduler.workers.values())
    used, limit = sum(worker.memory.process for worker in workers), sum(worker.memory_limit or 0 for worker in workers)
    return tiles(
        [
            ("Workers", f"{len(workers):,}", ""),
            ("Threads", f"{scheduler.total_nthreads:,}", ""),
            ("Tasks on workers", f"{states['processing']:,}", ""),
            ("Waiting", f"{states['waiting'] + states['queued']:,}", ""),
            ("In memory", f"{states['memory']:,}", ""),
            ("Failed", f"{states['erred']:,}", "bad" if states["erred"] else ""),
            ("No worker for", f"{states['no-worker']:,}", "warn" if states["no-worker"] else ""),
            ("Memory used", bytes_in_words(used), "warn" if limit and used > 0.7 * limit else ""),
        ]
    )


def overview_sections(scheduler: Any, root: str, now: float) -> list[Html]:
    """The sections of the page that people see first."""
    workers = scheduler.workers
    shown = list(islice(workers.values(), OVERVIEW_WORKERS))
    listed = worker_table(shown, root, now) if shown else tag("p", "None is connected.", class_="soft")
    more = None
    if len(workers) > len(shown):
        link = tag("a", f"All {len(workers):,} workers", href=f"{root}info/main/workers.html")
        more = tag("p", f"{len(shown):,} of them are shown. ", link, class_="more")
    return [
        cluster_tiles(scheduler),
        tag("section", tag("h2", "Tasks by kind"), *prefix_table(scheduler)),
        tag("section", tag("h2", "Workers"), listed, more),
    ]


def worker_pages(scheduler: Any, asked: str, root: str, now: float) -> list[Html]:
    """The sections of one page of the list of workers.

    Args:
        asked: number of the page, as the query has it; the first by default.
    """
    workers = scheduler.workers
    if not workers:
        return [tag("section", tag("p", "No worker is connected.", class_="soft"))]
    last = (len(workers) - 1) // MOST_WORKERS + 1
    number = min(max(int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 8 else 1, 1), last)
    first = (number - 1) * MOST_WORKERS
    shown = list(islice(workers.values(), first, first + MOST_WORKERS))
    found = [worker_table(shown, root, now)]
    if last > 1:
        told = f"Workers {first + 1:,} to {first + len(shown):,} of {len(workers):,}, in the order in which they came."
        links = [
            tag("a", text, href=f"?page={target}")
            for text, target in (("Earlier", number - 1), ("Later", number + 1))
            if 1 <= target <= last
        ]
        found += [tag("p", told, class_="more"), tag("div", *links, class_="pages")]
    return [tag("section", *found)]
