"""`distributed.http.routing`: routes that are added to a server while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from headrace.http.routes.site_map import SiteMapHandler as DirectoryHandler

__all__ = ["DirectoryHandler", "RoutingApplication"]

_Entry = tuple[Any, ...]


class RoutingApplication:
    """What a server answers by HTTP, as an object to which more can be added.

    Args:
        handlers: `(pattern, class, keywords)` each.
        add: called with routes that are added, to have them answered.

    Attributes:
        handlers: the routes that were given, and those that were added.
        applications: those that were added, in their order.
    """

    def __init__(
        self, handlers: Iterable[_Entry] = (), add: Callable[[list[_Entry]], None] | None = None, **_: object
    ) -> None:
        self.handlers: list[_Entry] = list(handlers)
        self.applications: list[Any] = []
        self._add = add

    def add_handlers(self, host_pattern: str, host_handlers: Iterable[_Entry]) -> None:
        """Answer further routes.

        Args:
            host_pattern: accepted for compatibility: they are answered whatever host is asked for.
        """
        added = list(host_handlers)
        self.handlers += added
        if self._add is not None:
            self._add(added)

    def add_application(self, application: Any) -> None:
        """Answer the routes of another application as well.

        Raises:
            TypeError: it is none of this class, such as one of tornado.
        """
        if not isinstance(application, RoutingApplication):
            kind = type(application)
            raise TypeError(
                f"{kind.__module__}.{kind.__qualname__} is no application that headrace can run: it does not use "
                "tornado. Derive handlers from distributed.http.utils.RequestHandler, and give them as "
                "RoutingApplication([(pattern, class, keywords), ...])"
            )
        self.applications.append(application)
        self.add_handlers(".*", application.handlers)
