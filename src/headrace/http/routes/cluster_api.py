"""`/api/v1/...`: what tools that run clusters ask a scheduler for."""

from __future__ import annotations

import asyncio
import math
from typing import Any, ClassVar

from headrace.http.request_handler import HttpError, RequestHandler, Routes

#: Options of a request to retire workers beside their addresses or names: what a value must be, and in words.
OPTIONS: dict[str, tuple[tuple[type, ...], str]] = {
    "n": ((int,), "a whole number, 0 or more"),
    "minimum": ((int,), "a whole number, 0 or more"),
    "target": ((int,), "a whole number, 0 or more"),
    "memory_ratio": ((int, float), "a number, 0 or more"),
    "close_workers": ((bool,), "true or false"),
    "remove": ((bool,), "true or false"),
}


class ApiHandler(RequestHandler):
    """Says that there is an API, and which version."""

    def get(self) -> None:
        """Answer "API V1"."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write("API V1")


class RetireWorkersHandler(RequestHandler):
    """Sends workers away once what only they hold has been copied to others."""

    #: results may have to be copied first
    seconds: ClassVar[float] = 900.0

    async def post(self) -> None:
        """Retire the workers that the body names, or as many as it says: those that can go at least cost.

        The body is `{"workers": [addresses]}`, `{"names": [names]}` or `{"n": number}`. The answer has what
        `identity` says of each worker that went, by its address. A worker whose data nobody can take stays.
        """
        options = _checked(self.json_body())
        await _check_known(self.server, options)
        # goes on if the caller leaves: workers that were half sent away would be given nothing any more
        work = self.server.run_in_background(self.server.retire_workers(**options))
        self.write_json(await asyncio.shield(work))


def _checked(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise HttpError(400, 'send an object such as {"workers": ["tcp://host:port"]} or {"n": 1}')
    for name, value in body.items():
        if name in ("workers", "names"):
            kinds: tuple[type, ...] = (str,) if name == "workers" else (str, int, float)
            if not isinstance(value, list) or not all(_is(each, kinds) for each in value):
                raise HttpError(400, f"{name!r} is a list of workers' {'addresses' if name == 'workers' else name}")
        elif name in OPTIONS:
            kinds, words = OPTIONS[name]
            if not _is(value, kinds) or not 0 <= value < math.inf:
                raise HttpError(400, f"{name!r} is {words}")
        else:
            known = ", ".join(["workers", "names", *OPTIONS])
            raise HttpError(400, f"there is no option {name[:100]!r}; there are {known}")
    ways = [name for name in body if name not in ("close_workers", "remove")]
    named = [name for name in ways if name in ("workers", "names")]
    if named and len(ways) > 1:
        raise HttpError(400, f"name the workers, or say how many, in one way only, not by {' and '.join(ways)}")
    if not ways:
        raise HttpError(400, 'say which workers ({"workers": [addresses]}) or how many ({"n": 1})')
    return body


def _is(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value is of these kinds; true and false are no numbers."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


async def _check_known(scheduler: Any, options: dict[str, Any]) -> None:
    """Refuse the whole request if one of the workers is not there: nobody is to believe that it was retired.

    Names of hosts are looked up in a thread, since that may take long.
    """
    names = {str(name) for name in scheduler.aliases}
    hosts = {worker.host for worker in scheduler.workers.values()} if options.get("workers") else set()
    for given in options.get("workers", ()):
        if given in names or given in hosts:
            continue
        try:
            known = scheduler.coerce_address(given, resolve=False) in scheduler.workers or (
                await asyncio.to_thread(scheduler.coerce_address, given) in scheduler.workers
            )
        except ValueError:  # not even an address
            known = False
        if not known:
            raise HttpError(404, f"there is no worker {given[:200]!r}")
    for given in options.get("names", ()):
        if str(given) not in names:
            raise HttpError(404, f"there is no worker named {str(given)[:200]!r}")


class GetWorkersHandler(RequestHandler):
    """Lists the workers."""

    def get(self) -> None:
        """Answer `{"num_workers": number, "workers": [{"name", "address"}]}`."""
        workers = [{"name": worker.name, "address": address} for address, worker in self.server.workers.items()]
        self.write_json({"num_workers": len(workers), "workers": workers})


class AdaptiveTargetHandler(RequestHandler):
    """Says how many workers the work calls for."""

    def get(self) -> None:
        """Answer `{"workers": number}`."""
        self.write_json({"workers": self.server.adaptive_target()})


class CheckIdleHandler(RequestHandler):
    """Says since when there has been nothing to do."""

    def get(self) -> None:
        """Answer `{"idle_since": seconds since the epoch, or null}`; closes a scheduler that was idle for too long."""
        self.write_json({"idle_since": self.server.check_idle()})


routes: Routes = [
    (r"api/v1", ApiHandler, {}),
    (r"api/v1/retire_workers", RetireWorkersHandler, {}),
    (r"api/v1/get_workers", GetWorkersHandler, {}),
    (r"api/v1/adaptive_target", AdaptiveTargetHandler, {}),
    (r"api/v1/check_idle", CheckIdleHandler, {}),
]
