"""The modules of routes that the configuration names, and the table of routes that they make.

The names `distributed.http.…` of the documents mean headrace's own routes; other names are modules of users, each with
a list `routes` of `(pattern, class of the handler, keywords)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from headrace import config

from .request_handler import RequestHandler

#: headrace's own modules of routes, by their documented names.
OWN_ROUTES = {
    "distributed.http.health": "headrace.http.routes.health",
    "distributed.http.proxy": "headrace.http.routes.worker_proxy",
    "distributed.http.statics": "headrace.http.routes.static_files",
    "distributed.http.scheduler.api": "headrace.http.routes.cluster_api",
    "distributed.http.scheduler.info": "headrace.http.routes.scheduler_pages",
    "distributed.http.scheduler.json": "headrace.http.routes.scheduler_json",
    "distributed.http.scheduler.missing_bokeh": "headrace.http.routes.front_page",
    "distributed.http.scheduler.prometheus": "headrace.http.routes.scheduler_metrics_page",
    "distributed.http.worker.prometheus": "headrace.http.routes.metrics_page",
    "distributed.http.nanny.prometheus": "headrace.http.routes.metrics_page",
}
#: The settings that list the modules, by kind of server.
ROUTES_KEYS = {
    "scheduler": "distributed.scheduler.http.routes",
    "worker": "distributed.worker.http.routes",
    "nanny": "distributed.nanny.http.routes",
}
#: Name of the module with the page that people see first.
FRONT_PAGE = "distributed.http.scheduler.missing_bokeh"
#: Module of the routes that a server has without being told.
ALWAYS = "headrace.http.routes.site_map"
#: What names of headrace's own modules may begin with.
_ALIASES = ("dask.distributed.", "distributed.", "headrace.")


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of a table of routes.

    Attributes:
        pattern: regular expression for a whole path without its leading slash.
        handler: class that answers.
        keywords: for its `initialize`.
        shown: the path as the site map has it: the pattern without anchors.
    """

    pattern: re.Pattern[str]
    handler: type[RequestHandler]
    keywords: dict[str, Any]
    shown: str


def configured_modules(kind: str, pages: bool) -> list[str]:
    """The modules of routes of a server by the configuration `distributed.<kind>.http.routes`.

    Args:
        kind: "scheduler", "worker" or "nanny".
        pages: whether pages for people are among them; without, only what machines ask for.
    """
    modules = config.texts(ROUTES_KEYS[kind])
    if kind == "scheduler" and pages:
        modules.append(FRONT_PAGE)
    return modules


def check_modules(modules: Iterable[str]) -> None:
    """Import those modules that are users', so that a fault in one is told at the start, not at the first request.

    Raises:
        ImportError, ValueError, TypeError: as of `routes_of_module`.
    """
    for name in modules:
        if _own(name) is None:
            routes_of_module(name)


def table_of(modules: Iterable[str]) -> list[Route]:
    """The table of routes of some modules, in their order, and of those that every server has."""
    table: list[Route] = []
    for name in modules:
        table += routes_of_module(name)
    return table + routes_of_module(ALWAYS)


def _own(name: str) -> str | None:
    for prefix in _ALIASES:
        if name.startswith(prefix):
            return OWN_ROUTES.get("distributed." + name.removeprefix(prefix))
    return None


def routes_of_module(name: str) -> list[Route]:
    """The routes of one module.

    Args:
        name: as in the configuration.

    Raises:
        ImportError: it cannot be imported; the message says that the configuration named it.
        ValueError: it has no list `routes`, or an entry is malformed.
        TypeError: a handler is no `distributed.http.utils.RequestHandler`.
    """
    try:
        module = import_module(_own(name) or name)
    except ImportError as error:
        raise ImportError(
            f"the module of HTTP routes {name!r}, which the configuration distributed.*.http.routes names, cannot be "
            f"imported: {error}"
        ) from error
    routes = getattr(module, "routes", None)
    if not isinstance(routes, Sequence):
        raise ValueError(
            f"the module of HTTP routes {name!r} needs a list `routes` of (pattern, handler class, keywords)"
        )
    return [route_of(entry, name) for entry in routes]


def route_of(entry: Iterable[Any], where: str) -> Route:
    """A route from its entry `(pattern, class)` or `(pattern, class, keywords)`.

    Args:
        where: name of the module, for errors.
    """
    try:
        pattern, handler, *more = tuple(entry)
        (keywords,) = more or [{}]
        compiled = re.compile(str(pattern).removeprefix("^").lstrip("/"))
        given = dict(keywords or {})
    except (TypeError, ValueError, re.error) as error:
        raise ValueError(f"{where}: a route is (pattern, handler class, keywords), not {entry!r}: {error}") from None
    if not (isinstance(handler, type) and issubclass(handler, RequestHandler)):
        raise TypeError(_wrong_handler(handler, where))
    return Route(compiled, handler, given, str(pattern).strip("^$/").removesuffix("/?").replace("\\.", "."))


def _wrong_handler(handler: object, where: str) -> str:
    name = getattr(handler, "__qualname__", repr(handler))
    bases = getattr(handler, "__mro__", ())
    kind = (
        "is a handler of tornado, which headrace does not run"
        if any(base.__module__.startswith("tornado.") for base in bases)
        else "is no handler"
    )
    return (
        f"{where}: {name} {kind}; derive it from distributed.http.utils.RequestHandler, which has the methods get, "
        "post, write, set_header, get_argument, redirect and send_error"
    )
