"""`/json/...`: counts and the scheduler's identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from headrace.http.pages.markup import tag
from headrace.http.pages.page_frame import page
from headrace.http.request_handler import RequestHandler, Routes

#: Metrics of a worker that readers count on, in place of those that it does not send.
METRICS: dict[str, Any] = {
    "task_counts": {},
    "bandwidth": {"total": None, "workers": {}, "types": {}},
    "digests_total_since_heartbeat": {},
    "managed_bytes": 0,
    "spilled_bytes": {"memory": 0, "disk": 0},
    "transfer": {
        "incoming_bytes": 0,
        "incoming_count": 0,
        "incoming_count_total": 0,
        "outgoing_bytes": 0,
        "outgoing_count": 0,
        "outgoing_count_total": 0,
    },
    "event_loop_interval": None,
    "cpu": 0.0,
    "memory": 0,
    "time": None,
    "host_net_io": {"read_bps": 0.0, "write_bps": 0.0},
    "host_disk_io": {"read_bps": 0.0, "write_bps": 0.0},
    "num_fds": None,
}


def counts(scheduler: Any) -> dict[str, int]:
    """Numbers about a scheduler, from totals that it keeps: no walk over its tasks.

    `memory` and `bytes` count each copy of a result. `waiting` and `waiting_data` are both the tasks that wait for
    others.
    """
    workers = scheduler.workers.values()
    states: Counter[str] = Counter()
    for group in scheduler.task_groups.values():
        states.update(group.states)
    return {
        "bytes": sum(worker.nbytes for worker in workers),
        "clients": len(scheduler.clients),
        "cores": scheduler.total_nthreads,
        "erred": states["erred"],
        "hosts": len(scheduler.host_info),
        "idle": len(scheduler.idle),
        "memory": sum(len(worker.has_what) for worker in workers),
        "processing": sum(len(worker.processing) for worker in workers),
        "released": states["released"],
        "saturated": len(scheduler.saturated),
        "tasks": len(scheduler.tasks),
        "unrunnable": len(scheduler.unrunnable),
        "waiting": states["waiting"],
        "waiting_data": states["waiting"],
        "workers": len(workers),
        "desired_workers": scheduler.adaptive_target(),
    }


def identity(scheduler: Any) -> dict[str, Any]:
    """The scheduler's identity, each worker with all metrics that readers count on."""
    found: dict[str, Any] = dict(scheduler.identity())
    found["workers"] = {
        address: {**worker, "metrics": _filled(worker.get("metrics") or {}, METRICS)}
        for address, worker in found["workers"].items()
    }
    return found


def _filled(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    filled = {**defaults, **given}
    for name, default in defaults.items():
        if isinstance(default, dict):
            inner = given.get(name)
            filled[name] = {**default, **inner} if isinstance(inner, Mapping) else default
    return filled


class CountsHandler(RequestHandler):
    """Answers with numbers of tasks, workers and clients."""

    def get(self) -> None:
        """Answer with `counts`."""
        self.write_json(counts(self.server))


class IdentityHandler(RequestHandler):
    """Answers with what the scheduler is, and its workers."""

    def get(self) -> None:
        """Answer with `identity`."""
        self.write_json(identity(self.server))


class JsonIndexHandler(RequestHandler):
    """Shows what there is as JSON."""

    def get(self) -> None:
        """Answer with a page of links."""
        about = (("counts.json", "numbers of tasks, workers and clients"), ("identity.json", "scheduler and workers"))
        items = [tag("li", tag("a", name, href=name), f" – {text}") for name, text in about]
        page(self, "Facts as JSON", tag("section", tag("ul", *items)), here="json")


routes: Routes = [
    (r"json/counts\.json", CountsHandler, {}),
    (r"json/identity\.json", IdentityHandler, {}),
    (r"json/index\.html", JsonIndexHandler, {}),
]
