"""`/api/v1/...`: what tools that run clusters ask a scheduler for."""

from __future__ import annotations

from headrace.http.request_handler import Routes

routes: Routes = []
