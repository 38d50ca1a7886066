"""`/metrics` of a scheduler."""

from __future__ import annotations

from headrace.http.request_handler import Routes

routes: Routes = []
