"""`/metrics` of a worker."""

from __future__ import annotations

from headrace.http.request_handler import Routes

routes: Routes = []
