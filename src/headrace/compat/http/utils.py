"""`distributed.http.utils`: what modules of routes are made with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import headrace.http
from headrace.http.request_handler import RequestHandler
from headrace.http.route_tables import routes_of_module

__all__ = ["RequestHandler", "dirname", "get_handlers", "redirect"]

#: The folder of the HTTP server's own files.
dirname = str(Path(headrace.http.__file__).parent)


def redirect(path: str) -> type[RequestHandler]:
    """A class of handlers that send everybody elsewhere.

    Args:
        path: where to; one that is relative to the page holds behind proxies.
    """

    class Redirect(RequestHandler):
        """Leads elsewhere."""

        def get(self, *_: object, **__: object) -> None:
            """Redirect."""
            self.redirect(path)

    return Redirect


def get_handlers(
    server: Any, modules: Iterable[str], prefix: str | None = "/"
) -> list[tuple[str, type[RequestHandler], dict[str, Any]]]:
    """The routes of some modules as `start_http_server` takes them.

    Args:
        server: accepted for compatibility: handlers know their server.
        modules: names of modules with a list `routes`.
        prefix: path before those of the routes.

    Raises:
        ImportError, TypeError, ValueError: a module cannot be imported, or is malformed.
    """
    before = str(prefix or "").strip("/")
    before = f"/{before}/" if before else "/"
    return [
        (before + route.pattern.pattern, route.handler, route.keywords)
        for module in modules
        for route in routes_of_module(module)
    ]
