"""What pages show of tasks. Views read records and change nothing, and never walk all tasks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

from headrace.common.display.html import short
from headrace.common.display.units import bytes_in_words, counted
from headrace.scheduler.state.records.tasks import TaskState

from .item_links import item_path, key_link, key_text, size_of, worker_link
from .markup import Html, code, facts, fold, moment, state, table, tag

#: Neighbours of a task that are listed.
MOST_NEIGHBOURS = 50
#: Rows of a table of tasks.
MOST_TASKS = 200
#: Lines of a task's story, the latest ones.
MOST_LINES = 200
#: Prefixes that are listed.
MOST_PREFIXES = 100


def task_sections(scheduler: Any, task: TaskState, root: str) -> list[Html]:
    """The sections of a task's page."""
    priority = ", ".join(f"{part:g}" for part in task.priority)
    runs_on = task.processing_on
    about = facts(
        [
            ("State", state(task.state)),
            ("Runs on", worker_link(runs_on, root) if runs_on is not None else None),
            ("Type of the result", code(task.type) if task.type else None),
            ("Size of the result", size_of(task)),
            ("Group", code(short(task.group.name))),
            ("Priority", priority),
            ("Waits for", counted(len(task._waiting_on), "task") if task._waiting_on else None),
            ("Wanted by", counted(len(task.who_wants), "client") if task.who_wants else None),
            ("Retries left", task.retries or None),
            ("Workers that died under it", task.suspicious or None),
            ("May run on", code(", ".join(map(str, task.options.workers))) if task.options.workers else None),
            ("or on others", "yes" if task.options.workers and task.loose_restrictions else None),
            ("Takes resources", code(_amounts(task.resource_restrictions)) if task.resource_restrictions else None),
        ]
    )
    stack = [tag("a", "Call stack", href=item_path("call-stack", key_text(task.key), root))] if runs_on else []
    found = [tag("section", about, tag("p", *stack, class_="more") if stack else None)]
    found += _failure(task, root)
    if task.who_has:
        holders = [tag("li", worker_link(worker, root)) for worker in islice(task.who_has, MOST_NEIGHBOURS)]
        title = f"Held by {counted(len(task.who_has), 'worker')}"
        found.append(_listed(title, holders, len(task.who_has)))
    if task.who_wants:
        names = [tag("li", code(client.client_key)) for client in islice(task.who_wants, MOST_NEIGHBOURS)]
        found.append(_listed(f"Wanted by {counted(len(task.who_wants), 'client')}", names, len(task.who_wants)))
    found.append(_story(scheduler, task))
    neighbours = (("Needs", task._dependencies), ("Needed by", task._dependents or ()))
    found += [section for title, tasks in neighbours if (section := _neighbours(title, tasks, root)) is not None]
    return found


def _amounts(resources: dict[str, float]) -> str:
    return ", ".join(f"{name}={amount:g}" for name, amount in resources.items())


def _failure(task: TaskState, root: str) -> list[Html]:
    if not task.exception_text and not task.traceback_text:
        return []
    blame = task.exception_blame
    said = []
    if blame is not None and blame is not task:
        said.append(tag("p", "It needs ", key_link(blame, root), ", which failed."))
    if task.erred_on:
        said.append(tag("p", "It failed on ", code(", ".join(sorted(map(str, task.erred_on)))), "."))
    return [
        tag(
            "section",
            tag("h2", "Failure"),
            *said,
            tag("p", code(short(task.exception_text, 4000))),
            fold("Traceback", tag("pre", task.traceback_text), opened=True) if task.traceback_text else None,
        )
    ]


def _listed(title: str, items: list[Html], total: int) -> Html:
    more = tag("p", f"{len(items):,} of {total:,} are shown.", class_="more") if total > len(items) else None
    return tag("section", tag("h2", title), tag("ul", *items), more)


def _neighbours(title: str, tasks: Collection[TaskState], root: str) -> Html | None:
    if not tasks:
        return None
    title = f"{title} {counted(len(tasks), 'task')}"
    return tag("section", tag("h2", title), *tasks_of(tasks, len(tasks), root, title, MOST_NEIGHBOURS))


def _story(scheduler: Any, task: TaskState) -> Html:
    lines = scheduler.story(task.key)
    shown = lines[-MOST_LINES:]
    rows = [
        (moment(line.timestamp), state(line.start), state(line.finish), short(line.stimulus_id, 120)) for line in shown
    ]
    title = tag("h2", "Story")
    if not rows:
        return tag("section", title, tag("p", "The log of transitions no longer reaches back to it.", class_="soft"))
    more = (
        tag("p", f"The latest {len(shown):,} of {len(lines):,} lines.", class_="more")
        if len(lines) > len(shown)
        else None
    )
    return tag("section", title, table(("Time (UTC)", "From", "To", "Because of"), rows, "Story"), more)


def failure_section(scheduler: Any, root: str) -> Html:
    """The latest failures, newest first."""
    failures = list(reversed(scheduler.erred_tasks))
    if not failures:
        return tag("section", tag("p", "No task has failed.", class_="soft"))
    parts = []
    for failure in failures:
        text = key_text(failure.key)
        on = code(", ".join(sorted(map(str, failure.erred_on)))) if failure.erred_on else "no worker"
        parts.append(
            tag(
                "div",
                tag("p", tag("a", short(text, 300), href=item_path("task", text, root))),
                tag("p", code(short(failure.exception_text, 2000))),
                tag("p", moment(failure.timestamp), " UTC, on ", on, class_="soft"),
                fold("Traceback", tag("pre", failure.traceback_text)) if failure.traceback_text else None,
                class_="failure",
            )
        )
    return tag("section", *parts)


def tasks_of(tasks: Iterable[Any], total: int, root: str, label: str, most: int = MOST_TASKS) -> list[Html]:
    """A table of at most so many tasks, with a line that says so if there are more."""
    shown = list(islice(tasks, most))
    if not shown:
        return [tag("p", "None.", class_="soft")]
    rows = ((key_link(task, root), state(task.state), size_of(task), task.type or "–") for task in shown)
    found = [table(("Task", "State", "Size", "Type"), rows, label, "..n")]
    if total > len(shown):
        found.append(tag("p", f"{len(shown):,} of {total:,} are shown.", class_="more"))
    return found


def prefix_table(scheduler: Any) -> list[Html]:
    """A table of the tasks by prefix, those with work left first."""
    found = []
    for name, prefix in list(scheduler.task_prefixes.items()):
        states = prefix.states
        known = sum(states.values()) - states["forgotten"]
        if known:
            waiting = states["waiting"] + states["queued"] + states["no-worker"]
            found.append((not (waiting or states["processing"]), -known, str(name), states, waiting, prefix))
    if not found:
        return [tag("p", "The scheduler knows no tasks.", class_="soft")]
    found.sort(key=lambda entry: entry[:3])
    rows = (
        (
            tag("span", short(key_text(name), 80), class_="key"),
            f"{-known:,}",
            f"{waiting:,}",
            f"{states['processing']:,}",
            f"{states['memory']:,}",
            tag("strong", f"{states['erred']:,}") if states["erred"] else "0",
            f"{states['released']:,}",
            seconds_in_words(prefix.duration_average),
            bytes_in_words(prefix.nbytes_total),
        )
        for _, known, name, states, waiting, prefix in found[:MOST_PREFIXES]
    )
    heads = ("Kind", "Tasks", "Waiting", "On workers", "In memory", "Failed", "Released", "Time each", "Size of all")
    shown = [table(heads, rows, "Tasks by kind", ".nnnnnnnn")]
    if len(found) > MOST_PREFIXES:
        shown.append(tag("p", f"{MOST_PREFIXES:,} of {len(found):,} kinds are shown.", class_="more"))
    return shown


def seconds_in_words(seconds: float) -> str:
    """A duration with a fitting unit; a dash if it is unknown.

    >>> seconds_in_words(0.0000042), seconds_in_words(0.042), seconds_in_words(1234.5), seconds_in_words(-1)
    ('4.2 µs', '42 ms', '1,234 s', '–')
    """
    if seconds < 0:
        return "–"
    if seconds < 1e-3:
        return f"{1e6 * seconds:.3g} µs"
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"
