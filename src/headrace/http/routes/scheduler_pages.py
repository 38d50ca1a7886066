"""`/info/...`: plain pages about workers, tasks and logs; and `/eventstream`, what happens as it happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from headrace.common.display.html import short
from headrace.http.event_stream import EventStreamHandler
from headrace.http.pages.cluster_views import worker_pages
from headrace.http.pages.item_links import find_task, find_worker, key_text
from headrace.http.pages.markup import tag
from headrace.http.pages.page_frame import page, root_of
from headrace.http.pages.task_views import failure_section, task_sections
from headrace.http.pages.worker_views import log_section, stack_sections, worker_sections
from headrace.http.request_handler import HttpError, RequestHandler, Routes

#: Seconds that a worker has to answer.
WORKER_SECONDS = 10.0
#: Lines of a log that a page shows.
MOST_LOG_LINES = 1000


class InfoHandler(RequestHandler):
    """A page that may ask for a task or a worker by name."""

    def name_of(self, group: str) -> str:
        """The name that is asked for: in the path, or in the query where the path could not hold it."""
        return str(self.get_query_argument("name", group, strip=False))

    def worker_of(self, group: str) -> Any:
        """The worker that is asked for; 404 if there is none."""
        name = self.name_of(group)
        worker = find_worker(self.server, name)
        if worker is None:
            raise HttpError(404, f"there is no worker {short(name)!r}; it may have left")
        return worker

    def task_of(self, group: str) -> Any:
        """The task that is asked for; 404 if there is none."""
        name = self.name_of(group)
        task = find_task(self.server, name)
        if task is None:
            raise HttpError(404, f"the scheduler does not know a task {short(name)!r}; it may have been forgotten")
        return task

    async def asked(self, address: str, request: dict[str, Any]) -> Any:
        """A worker's answer to a request; 504 if there is none in time."""
        work: Awaitable[dict[str, Any]] = self.server.broadcast(msg=request, workers=[address], on_error="return")
        try:
            async with asyncio.timeout(WORKER_SECONDS):
                answer = (await work).get(address)
        except TimeoutError:
            raise HttpError(504, f"the worker {address} did not answer within {WORKER_SECONDS:g} s") from None
        if answer is None or isinstance(answer, BaseException):
            raise HttpError(504, f"the worker {address} cannot be asked: {short(answer, 500)}")
        return answer


class InfoRedirect(RequestHandler):
    """Leads to the list of workers."""

    def get(self) -> None:
        """Redirect, by a path that is relative for the sake of proxies."""
        self.redirect(f"{root_of(self)}info/main/workers.html")


class WorkersPage(RequestHandler):
    """All workers, in pages."""

    def get(self) -> None:
        """Show one page of workers."""
        asked = self.get_query_argument("page", "1")
        sections = worker_pages(self.server, asked, root_of(self), time.time())
        page(self, "Workers", *sections, here="workers", refreshes=True)


class ExceptionsPage(RequestHandler):
    """The latest failures of tasks."""

    def get(self) -> None:
        """Show the failures, newest first."""
        section = failure_section(self.server, root_of(self))
        page(self, "Failures", section, here="exceptions", lead="The latest tasks that failed, newest first.")


class LogsPage(RequestHandler):
    """The scheduler's log."""

    def get(self) -> None:
        """Show its latest lines."""
        lines = self.server.get_logs(n=MOST_LOG_LINES)
        page(self, "Log of the scheduler", log_section(lines, MOST_LOG_LINES), here="logs", refreshes=True)


class WorkerPage(InfoHandler):
    """One worker."""

    def get(self, address: str) -> None:
        """Show the worker."""
        worker = self.worker_of(address)
        page(self, f"Worker {short(worker.name, 80)}", *worker_sections(worker, root_of(self), time.time()))


class TaskPage(InfoHandler):
    """One task."""

    def get(self, key: str) -> None:
        """Show the task."""
        task = self.task_of(key)
        page(self, f"Task {short(key_text(task.key))}", *task_sections(self.server, task, root_of(self)))


class WorkerLogsPage(InfoHandler):
    """The log of one worker."""

    async def get(self, address: str) -> None:
        """Ask the worker for its latest lines, and show them."""
        worker = self.worker_of(address)
        lines = await self.asked(worker.address, {"op": "get_logs", "n": MOST_LOG_LINES})
        page(self, f"Log of worker {short(worker.name, 80)}", log_section(list(lines), MOST_LOG_LINES))


class WorkerStacksPage(InfoHandler):
    """What a worker runs."""

    async def get(self, address: str) -> None:
        """Ask the worker for its call stacks, and show them."""
        worker = self.worker_of(address)
        stacks = await self.asked(worker.address, {"op": "call_stack", "keys": None})
        title = f"Call stacks of worker {short(worker.name, 80)}"
        page(self, title, *stack_sections(stacks, root_of(self)))


class TaskStackPage(InfoHandler):
    """Where a running task is in its code."""

    async def get(self, key: str) -> None:
        """Ask the worker that runs the task for its call stack, and show it."""
        task = self.task_of(key)
        title, root = f"Call stack of {short(key_text(task.key))}", root_of(self)
        worker = task.processing_on
        if worker is None:
            said = f"It does not run: its state is {task.state}."
            page(self, title, tag("section", tag("p", said)))
            return
        stacks = await self.asked(worker.address, {"op": "call_stack", "keys": [task.key]})
        page(self, title, *stack_sections(stacks, root))


class PlotsHandler(RequestHandler):
    """The pages that show one thing each, for programs that embed them."""

    def get(self) -> None:
        """Answer `{title: path}`; there are none."""
        self.write_json({})


routes: Routes = [
    (r"info", InfoRedirect, {}),
    (r"info/main/workers\.html", WorkersPage, {}),
    (r"info/main/exceptions\.html", ExceptionsPage, {}),
    (r"info/main/logs\.html", LogsPage, {}),
    (r"info/worker/(.*)\.html", WorkerPage, {}),
    (r"info/task/(.*)\.html", TaskPage, {}),
    (r"info/logs/(.*)\.html", WorkerLogsPage, {}),
    (r"info/call-stacks/(.*)\.html", WorkerStacksPage, {}),
    (r"info/call-stack/(.*)\.html", TaskStackPage, {}),
    (r"individual-plots\.json", PlotsHandler, {}),
    (r"eventstream", EventStreamHandler, {}),
]
