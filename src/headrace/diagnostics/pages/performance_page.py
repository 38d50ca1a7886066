"""The page of a performance report: tasks and workers, durations, and profiles."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any

from .flame import flame_chart
from .page import (
    bytes_in_words,
    meter,
    number_in_words,
    page,
    pairs,
    seconds_in_words,
    section,
    swatch,
    table,
    tiles,
)
from .report_content import ReportContent, Total, busy_part, totals
from .stream_drawings import (
    busy_over_time,
    line_plot,
    stream_chart,
    worker_label,
)
from .task_colors import color_of_task

#: Lines of a table; of more, only the number is shown.
LINES = 100
#: Characters of the user's code that are shown.
LONGEST_CODE = 40_000


def report_page(content: ReportContent) -> str:
    """The whole page."""
    whole, by_prefix, by_worker = totals(content.runs)
    sections = [
        ("stream", "Task stream", _stream(content), "Each line is a thread of a worker, each box a task."),
        ("load", "Load", _load(content), ""),
        ("tasks", "Tasks by name", _prefixes(by_prefix, whole), "What begins with the same name, added up."),
        ("workers", "Workers", _workers(content, by_worker), "As they were at the end."),
        (
            "profile",
            "Profile of the tasks",
            flame_chart("profile-data", content.profile, content.profile_interval),
            "What the workers' threads were seen doing, outermost calls at the top; all workers together.",
        ),
        ("scheduler", "Profile of the scheduler", *_scheduler_profile(content)),
        ("code", "Code", _code(content), _where(content)),
        ("system", "System", _system(content), ""),
    ]
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _, _ in sections)
    began = datetime.fromtimestamp(content.start).astimezone()
    head = (
        "<header><h1>Performance report</h1>"
        f"<p>{escape(began.strftime('%d %B %Y, %H:%M:%S %Z'))} · {escape(seconds_in_words(content.duration))} · "
        f"scheduler at {escape(str(content.scheduler.get('address', '')))}</p>"
        f'<nav aria-label="Contents">{links}</nav></header>'
    )
    body = "\n".join(section(name, title, shown, note) for name, title, shown, note in sections)
    foot = "<footer>Made by headrace. Times of tasks are by the workers' clocks.</footer>"
    return page("Performance report", f"{head}\n{tiles(_figures(content, whole))}\n{body}\n{foot}")


def _figures(content: ReportContent, whole: Total) -> list[tuple[str, str, str, bool]]:
    possible = content.nthreads * content.duration
    used = whole.compute / possible if possible else 0.0
    limit = sum(worker.memory_limit for worker in content.workers)
    in_use = sum(worker.process for worker in content.workers)
    peak = max([process for _, process, _ in content.memory] + [in_use])
    rate = whole.tasks / content.duration
    return [
        ("Duration", seconds_in_words(content.duration), "", False),
        ("Tasks", number_in_words(whole.tasks), f"{rate:.3g} a second", False),
        ("Failed", number_in_words(whole.failed), "runs of tasks", whole.failed > 0),
        ("Computing", seconds_in_words(whole.compute), f"{seconds_in_words(whole.mean)} a task", False),
        ("Transfers", seconds_in_words(whole.transfer), "between workers, may overlap", False),
        ("Read from disk", seconds_in_words(whole.load), "spilled results", False),
        ("Threads in use", f"{100 * used:.0f} %", f"of {content.nthreads} on {len(content.workers)} workers", False),
        ("Memory", bytes_in_words(peak), f"at most, of {bytes_in_words(limit)}" if limit else "at most", False),
        ("Results", bytes_in_words(whole.nbytes), "computed", False),
    ]


def _stream(content: ReportContent) -> str:
    start, stop = content.axis()
    return stream_chart(content.runs, content.names, start, stop)


def _load(content: ReportContent) -> str:
    start, stop = content.axis()
    steps = 240
    busy = busy_over_time(content.runs, start, stop, steps)
    span = stop - start
    points = [((number + 0.5) * span / steps, value) for number, value in enumerate(busy)]
    running = line_plot(points, content.nthreads, lambda value: f"{value:.3g}", span, "Tasks running at a time")
    memory = [(when - start, float(process)) for when, process, _ in content.memory if start <= when <= stop]
    limit = float(sum(worker.memory_limit for worker in content.workers))
    if memory and limit > 4 * max(value for _, value in memory):
        limit = 0.0  # far away, it would flatten the curve
    held = line_plot(memory, limit, bytes_in_words, span, "Memory of all workers")
    return (
        f'<div class="two"><div><h3>Tasks running at a time (the dashed line: threads)</h3>{running}</div>'
        f"<div><h3>Memory of all workers</h3>{held}</div></div>"
    )


def _prefixes(by_prefix: Mapping[str, Total], whole: Total) -> str:
    if not by_prefix:
        return '<p class="empty">No task has ended in this time.</p>'
    ordered = sorted(by_prefix.items(), key=lambda item: -item[1].compute)
    rows = [
        (
            swatch(color_of_task(name), name),
            number_in_words(total.tasks),
            number_in_words(total.failed),
            seconds_in_words(total.compute),
            meter(total.compute / whole.compute if whole.compute else 0.0),
            seconds_in_words(total.mean),
            seconds_in_words(total.longest),
            seconds_in_words(total.transfer),
            seconds_in_words(total.load),
            bytes_in_words(total.nbytes),
        )
        for name, total in ordered[:LINES]
    ]
    head = ("name", "tasks", "failed", "computing", "share", "mean", "longest", "transfers", "from disk", "results")
    return table(head, rows) + _left_out(len(ordered))


def _workers(content: ReportContent, by_worker: Mapping[str, Total]) -> str:
    known = {worker.address: worker for worker in content.workers}
    rows = []
    addresses = sorted({*known, *by_worker}, key=lambda address: -by_worker.get(address, Total()).compute)
    for address in addresses[:LINES]:
        worker, total = known.get(address), by_worker.get(address, Total())
        label = worker_label(address, content.names)
        threads = worker.nthreads if worker is not None else 0
        used = total.compute / (threads * content.duration) if threads else 0.0
        memory = bytes_in_words(worker.process) if worker is not None else "gone"
        limit = bytes_in_words(worker.memory_limit) if worker is not None and worker.memory_limit else "–"
        rows.append(
            (
                label,
                address,
                threads or "–",
                number_in_words(total.tasks),
                number_in_words(total.failed),
                seconds_in_words(total.compute),
                meter(used),
                seconds_in_words(total.transfer),
                memory,
                limit,
                bytes_in_words(worker.spilled) if worker is not None else "–",
            )
        )
    head = (
        "worker",
        "address",
        "threads",
        "tasks",
        "failed",
        "computing",
        "busy",
        "transfers",
        "memory",
        "limit",
        "spilled",
    )
    return table(head, rows, left=2) + _left_out(len(addresses))


def _left_out(count: int) -> str:
    return f'<p class="hint">… and {count - LINES} more</p>' if count > LINES else ""


def _scheduler_profile(content: ReportContent) -> tuple[str, str]:
    busy = busy_part(content.loop_profile)
    total = content.loop_profile["count"]
    share = busy["count"] / total if total else 0.0
    note = f"What its event loop was seen doing; it was busy {100 * share:.0f} % of the time." if total else ""
    return flame_chart("scheduler-data", busy, content.loop_interval), note


def _where(content: ReportContent) -> str:
    filename, line = content.asked_by.get("filename"), content.asked_by.get("line")
    return f"{filename}, line {line}" if filename else ""


def _code(content: ReportContent) -> str:
    code = content.code.rstrip()[:LONGEST_CODE]
    if not code:
        return '<p class="empty">The source of what was run is not known here.</p>'
    marked = (content.asked_by.get("line") or 0) - (content.asked_by.get("first_line") or 1)
    lines = [escape(line) for line in code.split("\n")]
    if 0 <= marked < len(lines) and content.asked_by.get("line"):
        lines[marked] = f"<mark>{lines[marked]}</mark>"
    return f"<pre><code>{chr(10).join(lines)}</code></pre>"


def _system(content: ReportContent) -> str:
    told = {"client": content.asked_by.get("versions") or {}, "scheduler": content.scheduler.get("versions") or {}}
    workers = [worker.versions for worker in content.workers if worker.versions]
    host = _host(told["scheduler"])
    known = sorted({name for each in (*told.values(), *workers) for name in each.get("packages", {})})
    rows = []
    for name in known:
        versions = [str(each.get("packages", {}).get(name) or "–") for each in told.values()]
        theirs = sorted({str(each.get("packages", {}).get(name) or "–") for each in workers})
        if {*versions, *theirs} != {"–"}:
            rows.append((name, *versions, ", ".join(theirs) or "–"))
    machine = [(name, host[name]) for name in sorted(host)]
    machine += [("workers", len(content.workers)), ("threads", content.nthreads)]
    packages = table(("package", "client", "scheduler", "workers"), rows)
    return f"<h3>Where the scheduler runs</h3>{pairs(machine)}<h3>Versions</h3>{packages}"


def _host(versions: Mapping[str, Any]) -> dict[str, Any]:
    return dict(versions.get("host") or {})
