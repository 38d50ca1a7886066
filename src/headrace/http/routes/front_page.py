"""`/` and `/status`: what a person sees first. Other addresses that people know lead to the pages that there are."""

from __future__ import annotations

import time

from headrace.http.pages.cluster_views import overview_sections, sentence
from headrace.http.pages.markup import tag
from headrace.http.pages.page_frame import page, root_of
from headrace.http.pages.task_views import prefix_table
from headrace.http.request_handler import RequestHandler, Routes

from .scheduler_pages import ExceptionsPage, WorkersPage

#: Well-known addresses of pages that there are not: what each would be about, and where such facts are.
POINTERS: dict[str, tuple[str, str, str]] = {
    "system": ("The scheduler's process", "metrics", "Metrics"),
    "profile": ("Where tasks spend their time", "status", "Overview"),
    "profile-server": ("Where the scheduler spends its time", "metrics", "Metrics"),
    "graph": ("The graph of tasks", "tasks", "Tasks by kind"),
    "hardware": ("Speeds of memory, disks and network", "info/main/workers.html", "Workers"),
    "stealing": ("Tasks that moved between workers", "metrics", "Metrics"),
    "events": ("Events by topic", "info/main/logs.html", "Log"),
    "counters": ("Counters of the scheduler", "metrics", "Metrics"),
    "shuffle": ("Shuffles of dataframes", "tasks", "Tasks by kind"),
    "gpu": ("Graphics cards", "info/main/workers.html", "Workers"),
}
#: The same for the many pages of one plot each.
_INDIVIDUAL = ("One plot", "status", "Overview")


class OverviewPage(RequestHandler):
    """The cluster at a glance."""

    def get(self) -> None:
        """Show what the cluster does, its tasks and its workers."""
        sections = overview_sections(self.server, root_of(self), time.time())
        page(self, "Overview", *sections, here="status", lead=sentence(self.server), refreshes=True)


class TasksPage(RequestHandler):
    """Tasks by kind."""

    def get(self) -> None:
        """Show the numbers of tasks in each state, by the beginning of their keys."""
        section = tag("section", *prefix_table(self.server))
        page(self, "Tasks by kind", section, here="tasks", lead=sentence(self.server), refreshes=True)


class PointerPage(RequestHandler):
    """Says that there is no such page, and where to look instead."""

    def get(self, name: str) -> None:
        """Show a link."""
        title, path, label = POINTERS.get(name, _INDIVIDUAL)
        link = tag("a", label, href=root_of(self) + path)
        text = tag("p", "There is no page about this. What is known of it is at: ", link, ".")
        page(self, title, tag("section", text))


routes: Routes = [
    (r"", OverviewPage, {}),
    (r"status", OverviewPage, {}),
    (r"workers", WorkersPage, {}),
    (r"exceptions", ExceptionsPage, {}),
    (r"tasks", TasksPage, {}),
    (r"groups", TasksPage, {}),
    (f"({'|'.join(POINTERS)}|individual-[a-z-]+)", PointerPage, {}),
]
