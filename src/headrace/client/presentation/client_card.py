"""Text and HTML by which a client shows itself, with the size of its cluster.

Showing must not block for long, and never fails: what the scheduler does not say in time is what it said last.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from typing import TYPE_CHECKING, Any

from headrace.common.display.cluster_html import (
    render_scheduler,
    sizes,
    status_colour,
    totals,
)
from headrace.common.display.html import (
    Html,
    card,
    code,
    facts,
    fold,
    join,
    link,
)

from .answer_tables import SchedulerInfo

if TYPE_CHECKING:
    from headrace.client.api.client_base import ClientBase
    from headrace.client.client import Client
    from headrace.client.future import Future
    from headrace.client.link.client_session import ClientSession

#: Seconds that the scheduler is given to say who it has.
PATIENCE = 0.5
#: Workers that it is asked to list for a notebook.
LISTED = 20


def look(client: Client, n_workers: int) -> dict[str, Any]:
    """The scheduler's description of itself: a fresh one if it can be asked from here, else the last."""
    session = client.session
    with contextlib.suppress(Exception):  # of a cluster that another package made
        info = client.cluster.scheduler_info
        if isinstance(info, dict) and "address" in info:
            return info
    loop = session.loop
    if client.status == "running" and loop is not None and loop.is_running():
        question = asyncio.run_coroutine_threadsafe(client._call("identity", n_workers=n_workers), loop)
        question.add_done_callback(lambda done: _remember(session, done))
        if asyncio._get_running_loop() is not loop:
            try:
                return dict(question.result(PATIENCE))
            except Exception:
                question.cancel()
    return session.identity


def _remember(session: ClientSession, question: concurrent.futures.Future[Any]) -> None:
    if not question.cancelled() and question.exception() is None:
        session.identity = question.result()


def client_text(client: Client) -> str:
    """`repr(client)`."""
    from dask.utils import format_bytes

    kind = type(client).__name__
    if client.status != "running":
        return f"<{kind}: No scheduler connected>"
    found = look(client, 0)
    text = f"<{kind}: {client.session.told_address!r}"
    if found:
        size = totals(found)
        text += f" processes={size['workers']} threads={size['threads']}"
        text += f", memory={format_bytes(size['memory'])}" if size["memory"] else ""
    return f"{text}>"


def client_html(client: Client) -> Html:
    """A client as notebooks show it."""
    status, cluster = client.status, client.cluster
    if cluster is not None:
        method, kind = "cluster object", f"{type(cluster).__module__.split('.')[0]}.{type(cluster).__name__}"
    else:
        method, kind = ("scheduler file" if client.scheduler_file else "address"), None
    up = status == "running"
    found = look(client, LISTED) if up else {}
    dashboard = client._dashboard_link(also_here=True) if up else None
    values = {
        "Connected by": method,
        "Cluster": kind,
        "Scheduler file": code(client.scheduler_file) if client.scheduler_file else None,
        "Scheduler": code(client.session.told_address) if up else "none connected",
        **(sizes(found) if found else {}),
        "Dashboard": link(dashboard) if dashboard else None,
    }
    body = [facts(values)]
    if found:
        body.append(fold("Scheduler and workers", render_scheduler(found, time.time())))
    return card(type(client).__name__, join(body), subtitle=client.id, status=status, colour=status_colour(status))


def future_html(future: Future[Any]) -> Html:
    """A future as notebooks show it."""
    from headrace.common.display.html import line, short
    from headrace.common.keys import key_group, key_prefix

    if future._state is None:
        return line("Future", {"key": code(short(future.key, 200)), "client": "none"})
    kind, status = future.type, future.status
    name = str(getattr(kind, "__qualname__", kind)) if kind is not None else None
    values: dict[str, Any] = {"type": code(name) if name else None, "key": code(short(future.key, 200))}
    if status == "error" and future._state.error is not None and future._state.error.exception_text:
        values["exception"] = short(future._state.error.exception_text, 300)
    return line(f"Future: {key_prefix(key_group(future._state.key))}", values, status)


async def ask_scheduler_info(client: ClientBase, n_workers: int) -> SchedulerInfo:
    """For `Client.scheduler_info`."""
    return SchedulerInfo(await client._call("identity", n_workers=n_workers))
