"""A scheduler and its workers as HTML, from the scheduler's `identity`. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .html import (
    BLUE,
    GREY,
    ORANGE,
    Html,
    badge,
    card,
    code,
    facts,
    fold,
    join,
    link,
    meter,
    short,
    table,
)
from .units import ago, bytes_in_words, counted

#: Workers that are listed; the rest are counted.
SHOWN = 20

Info = Mapping[str, Any]


def totals(info: Info) -> dict[str, int]:
    """The scheduler's numbers of workers, threads and bytes of memory, also where not all workers are listed.

    >>> totals({"workers": {"tcp://a:1": {"nthreads": 2, "memory_limit": None}}})
    {'workers': 1, 'threads': 2, 'memory': 0}
    """
    workers = info.get("workers", {}).values()
    return {
        "workers": info.get("n_workers", len(workers)),
        "threads": info.get("total_threads", sum(worker.get("nthreads", 0) for worker in workers)),
        "memory": info.get("total_memory", sum(worker.get("memory_limit") or 0 for worker in workers)),
    }


def summary(info: Info) -> str:
    """The totals in words.

    >>> summary({"n_workers": 1, "total_threads": 2, "total_memory": 2**30})
    '1 worker · 2 threads · 1 GiB'
    """
    found = totals(info)
    parts = [counted(found["workers"], "worker"), counted(found["threads"], "thread")]
    if found["memory"]:
        parts.append(bytes_in_words(found["memory"]))
    return " · ".join(parts)


def sizes(info: Info) -> dict[str, Any]:
    """Facts about the size of a cluster, for a card."""
    found = totals(info)
    return {
        "Workers": f"{found['workers']:,}",
        "Threads": f"{found['threads']:,}",
        "Memory": bytes_in_words(found["memory"]) if found["memory"] else None,
    }


def render_scheduler(info: Info, now: float, dashboard: str = "", more: Mapping[str, Any] | None = None) -> Html:
    """A card about a scheduler and its workers.

    Args:
        info: the scheduler's `identity`.
        now: seconds since the epoch.
        dashboard: the dashboard's address, if there is one.
        more: facts beside the usual ones.
    """
    started = info.get("started")
    body = facts(
        {
            "Address": code(info.get("address", "")),
            **sizes(info),
            "Started": ago(max(0.0, now - started)) if started else None,
            "Dashboard": link(dashboard) if dashboard else None,
            **(more or {}),
        }
    )
    return card("Scheduler", join([body, render_workers(info, now)]), subtitle=info.get("id", ""), colour=BLUE)


def render_workers(info: Info, now: float) -> Html:
    """A table of a scheduler's workers, to be unfolded; a line instead if there are none."""
    workers = info.get("workers", {})
    count = totals(info)["workers"]
    if not count:
        return Html('<div style="opacity:.62;margin-top:8px">No workers yet.</div>')
    if not workers:
        return Html("")
    rows = [worker_row(address, worker, now) for address, worker in list(workers.items())[:SHOWN]]
    heads = ["Worker", "Address", "Threads", "Memory", "CPU", "Tasks", "Seen"]
    return fold(f"Workers ({count:,})", table(heads, rows, count - len(rows)), opened=count <= 4)


def worker_row(address: str, worker: Info, now: float) -> list[Any]:
    """A worker's row in the table."""
    metrics = worker.get("metrics") or {}
    counts = [
        f"{metrics[name]:,} {said}"
        for name, said in (("executing", "running"), ("ready", "ready"), ("in_memory", "in memory"))
        if metrics.get(name)
    ]
    status = worker.get("status", "running")
    name = code(short(worker.get("name", ""), 40))
    limit, used = worker.get("memory_limit") or 0, metrics.get("memory", 0)
    of = f" / {bytes_in_words(limit)}" if limit else ""
    place = f'title="{join([worker.get("local_directory", "")])}"'
    return [
        join([badge(status) if status != "running" else "", " " if status != "running" else "", name]),
        Html(f"<span {place}>{code(address, wrap=False)}</span>"),
        worker.get("nthreads", ""),
        meter(used, limit, f"{bytes_in_words(used)}{of}"),
        f"{metrics['cpu']:.0f} %" if "cpu" in metrics else "",
        Html(f'<span style="white-space:nowrap">{join(counts, ", ") or "idle"}</span>'),
        Html(f'<span style="white-space:nowrap">{ago(max(0.0, now - worker.get("last_seen", now)))}</span>'),
    ]


def status_colour(status: str) -> str:
    """The colour of a card's edge."""
    if status in ("running", "starting", "created", "init", "connecting"):
        return BLUE
    return GREY if status == "closed" else ORANGE
