"""`/proxy/PORT/HOST/...`: the pages of workers, through the scheduler."""

from __future__ import annotations

from headrace.http.request_handler import Routes

routes: Routes = []
