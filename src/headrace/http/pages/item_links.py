"""Links to the pages about tasks and workers, and how those pages find what they are asked about."""

from __future__ import annotations

import ast
from typing import Any
from urllib.parse import quote

from headrace.common.display.html import short
from headrace.common.display.units import bytes_in_words
from headrace.common.keys import from_wire, to_wire
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState

from .markup import Html, tag

#: Characters of a text that may be a key written as a Python literal.
LONGEST_LITERAL = 2000


def item_path(kind: str, name: str, root: str) -> str:
    """The path of the page about a task or a worker.

    Args:
        kind: "task", "worker", "logs", "call-stack" or "call-stacks".
        name: the key as text, or the address.
        root: see `root_of`.
    """
    if "/" in name or name in ("", ".", ".."):  # proxies take quoted slashes for plain ones
        return f"{root}info/{kind}/by-name.html?name={quote(name, safe='')}"
    return f"{root}info/{kind}/{quote(name, safe='')}.html"


def key_text(key: object) -> str:
    """A key, in its form for users or messages, as text: `('x', 0)`, `b'x'`, `7`, or the text that it is."""
    return str(from_wire(key))


def key_link(task: TaskState, root: str) -> Html:
    """A task's key with a link to its page."""
    text = key_text(task.key)
    return tag("a", short(text, 150), href=item_path("task", text, root), class_="key")


def find_task(scheduler: Any, text: str) -> Any:
    """The task whose key is this text, or has it as its `str` or `repr`; None if there is none."""
    tasks = scheduler.tasks
    if text in tasks:
        return tasks[text]
    if len(text) > LONGEST_LITERAL:
        return None
    try:
        return tasks.get(to_wire(ast.literal_eval(text.strip())))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def find_worker(scheduler: Any, name: str) -> Any:
    """The worker of an address, or None; the address may lack its scheme, or a slash that a proxy took for doubled."""
    workers = scheduler.workers
    if name in workers:
        return workers[name]
    scheme, _, location = name.rpartition(":/")
    location = location.lstrip("/")
    for address, worker in list(workers.items()):
        own_scheme, _, own = address.partition("://")
        if own == location and scheme in ("", own_scheme):
            return worker
    return None


def worker_path(worker: WorkerState, kind: str, root: str) -> str:
    """The path of a page about a worker."""
    location = worker.address.partition("://")[2]
    return item_path(kind, location if "/" not in location else worker.address, root)


def worker_link(worker: WorkerState, root: str) -> Html:
    """A worker's name, and the address if that is another text, with a link to its page."""
    name = str(worker.name)
    link = tag("a", short(name, 80), href=worker_path(worker, "worker", root))
    return link if name == worker.address else tag("span", link, tag("small", worker.address))


def dashboard_path(worker: WorkerState, root: str) -> str | None:
    """The path of the worker's own pages through the scheduler; None if it has none."""
    port = worker.services.get("dashboard")
    return f"{root}proxy/{port}/{worker.host}/" if isinstance(port, int) and port else None


def size_of(task: TaskState) -> str:
    """The size of a task's result in words."""
    return bytes_in_words(task.nbytes) if task.nbytes >= 0 else "–"
