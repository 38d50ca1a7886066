"""`/info/...`: plain pages about workers, tasks and logs."""

from __future__ import annotations

from headrace.http.request_handler import Routes

routes: Routes = []
