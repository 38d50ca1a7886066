"""What pages show of workers. Views read records and change nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from headrace.common.display.html import short
from headrace.common.display.units import bytes_in_words, counted
from headrace.scheduler.state.records.workers import WorkerState

from .item_links import dashboard_path, item_path, key_text, worker_link, worker_path
from .markup import Html, code, facts, heard, meter, moment, state, table, tag
from .task_views import tasks_of

#: Rows of a table of workers.
MOST_WORKERS = 200
_HEADS = (
    "Worker",
    "Status",
    "Threads",
    "Processor",
    "Memory",
    "On disk",
    "Running",
    "Results",
    "Last heard of",
    "More",
)


def _actions(worker: WorkerState, root: str) -> Html:
    links = [("log", worker_path(worker, "logs", root)), ("stacks", worker_path(worker, "call-stacks", root))]
    pages = dashboard_path(worker, root)
    if pages:
        links.append(("metrics", pages + "metrics"))
    parts: list[object] = []
    for text, path in links:
        parts += [" · "] if parts else []
        parts.append(tag("a", text, href=path))
    return tag("span", *parts)


def memory_of(worker: WorkerState) -> Html:
    """The memory of a worker's process as a share of its limit."""
    used, limit = worker.memory.process, worker.memory_limit
    text = f"{bytes_in_words(used)} of {bytes_in_words(limit)}" if limit else bytes_in_words(used)
    return meter(used, limit or 0, text)


def worker_table(workers: Iterable[Any], root: str, now: float) -> Html:
    """A table with a row for each of some workers.

    Args:
        now: seconds since the epoch.
    """
    rows: Iterator[tuple[object, ...]] = (
        (
            worker_link(worker, root),
            state(worker.status.name),
            worker.nthreads,
            percent(worker.metrics.get("cpu")),
            memory_of(worker),
            bytes_in_words(worker.memory.spilled),
            f"{len(worker.processing):,}",
            f"{len(worker.has_what):,}",
            heard(worker.last_seen, now),
            _actions(worker, root),
        )
        for worker in workers
    )
    return table(_HEADS, rows, "Workers", "..nn.nnn")


def percent(value: object) -> str:
    """A number of percent, as a worker said it."""
    return f"{value:.0f} %" if isinstance(value, int | float) and math.isfinite(value) else "–"


def worker_sections(worker: WorkerState, root: str, now: float) -> list[Html]:
    """The sections of a worker's page."""
    memory = worker.memory
    resources = _resources(worker)
    about = facts(
        [
            ("Status", state(worker.status.name)),
            ("Address", code(worker.address)),
            ("Name", code(short(worker.name))),
            ("Threads", worker.nthreads),
            ("Processor", percent(worker.metrics.get("cpu"))),
            ("Memory of its process", memory_of(worker)),
            ("Results in memory", bytes_in_words(memory.managed)),
            ("Results on disk", bytes_in_words(memory.spilled)),
            ("Last heard of", heard(worker.last_seen, now)),
            ("Process", worker.pid or None),
            ("Nanny", code(worker.nanny) if worker.nanny else None),
            ("Directory", code(worker.local_directory) if worker.local_directory else None),
        ]
    )
    found = [tag("section", about, tag("p", _actions(worker, root), class_="more"))]
    if resources:
        rows = [(code(short(name)), f"{used:g}", f"{total:g}") for name, used, total in resources]
        found.append(
            tag("section", tag("h2", "Resources"), table(("Resource", "Taken", "Total"), rows, "Resources", ".nn"))
        )
    running, results = worker.processing, worker.has_what
    found += [
        _task_section(f"{counted(len(running), 'task')} to run", running, running, root),
        _task_section(f"{counted(len(results), 'result')} held, newest first", reversed(results), results, root),
    ]
    return found


def _task_section(title: str, tasks: Iterable[Any], all_tasks: Collection[Any], root: str) -> Html:
    return tag("section", tag("h2", title), *tasks_of(tasks, len(all_tasks), root, title))


def _resources(worker: WorkerState) -> list[tuple[str, float, float]]:
    used = worker.used_resources
    return [(str(name), float(used.get(name, 0)), float(total)) for name, total in worker.resources.items()]


def stack_sections(stacks: dict[Any, Any], root: str) -> list[Html]:
    """Call stacks of running tasks: formatted frames by key, outermost first."""
    found = []
    for key, frames in stacks.items():
        text = "".join(str(frame) for frame in frames)
        link = tag("a", short(key_text(key)), href=item_path("task", key_text(key), root))
        found.append(tag("section", tag("h2", link), tag("pre", text.rstrip())))
    return found or [tag("section", tag("p", "No task runs there now.", class_="soft"))]


def log_section(lines: list[tuple[str, str]], most: int) -> Html:
    """The latest lines of a log.

    Args:
        lines: (level, text), newest first.
        most: how many lines were asked for.
    """
    if not lines:
        return tag("section", tag("p", "Nothing has been logged.", class_="soft"))
    looks = {"WARNING": "warn", "ERROR": "bad", "CRITICAL": "bad"}
    parts = [tag("span", f"{text}\n", class_=looks.get(str(level))) for level, text in reversed(lines)]
    told = f"The latest {counted(len(lines), 'line')}, newest last" + (
        "; there are more in the log itself." if len(lines) >= most else "."
    )
    return tag("section", tag("p", told, class_="soft"), tag("pre", *parts, class_="log"))


def when(seconds: float) -> Html:
    """A time of day, with its zone."""
    return tag("span", moment(seconds), " UTC")
