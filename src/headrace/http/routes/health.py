"""`/health`: whether the server is there, for probes. Answers at once, whatever else the server does on its loop."""

from __future__ import annotations

from typing import ClassVar

from headrace.http.request_handler import ALL, RequestHandler, Routes


class HealthHandler(RequestHandler):
    """Answers "ok"."""

    open_to: ClassVar[str] = ALL

    def get(self) -> None:
        """Say that the server lives."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write("ok")


routes: Routes = [(r"health", HealthHandler, {})]
