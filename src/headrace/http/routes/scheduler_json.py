"""`/json/...`: counts and the scheduler's identity."""

from __future__ import annotations

from headrace.http.request_handler import Routes

routes: Routes = []
