"""What schedulers, workers and nannies tell alike: their loop, garbage, and the requests that they answer."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.rpc.handler_times import HandlerTimes
from headrace.rpc.server_life import Node

from .collector_pauses import collector_seconds
from .lock_contention import can_be_watched, contention_seconds
from .metric_families import Catalogue, Described, MetricFamily, Row


def server_table(kind: str) -> tuple[Described, ...]:
    """The families that a server of a kind ("scheduler", "worker", "nanny") has of its loop and its requests."""
    return (
        Described(f"{kind}_tick_count_total", "counter", "Ticks of the event loop since the server started"),
        Described(
            f"{kind}_tick_duration_maximum_seconds",
            "gauge",
            "Longest time that the event loop was late for a tick since the last scrape",
        ),
        Described(
            f"{kind}_gc_collection_seconds_total",
            "counter",
            "Time that the process spent on collecting garbage, since the first scrape",
        ),
        Described(f"{kind}_rpc_requests_total", "counter", "Requests that were answered, by operation", ("operation",)),
        Described(
            f"{kind}_rpc_seconds_total",
            "counter",
            "Time from requests to their answers, waiting included, by operation",
            ("operation",),
        ),
    )


def lock_table(kind: str) -> tuple[Described, ...]:
    """The family of the interpreter's lock: of no server where it cannot be watched, of schedulers and workers else."""
    if not can_be_watched():
        return ()
    text = "Time that the interpreter's lock (GIL) could not be had in the process, since the first scrape"
    return (Described(f"{kind}_gil_contention_seconds_total", "counter", text),)


def server_families(catalogue: Catalogue, kind: str, node: Node) -> Iterator[MetricFamily]:
    """The values of one server."""
    ticks = node.ticks
    yield catalogue.family(f"{kind}_tick_count_total", [((), ticks.count)])
    yield catalogue.family(f"{kind}_tick_duration_maximum_seconds", [((), ticks.measure())])
    yield catalogue.family(f"{kind}_gc_collection_seconds_total", [((), collector_seconds())])
    if (lock := f"{kind}_gil_contention_seconds_total") in catalogue.described:
        yield catalogue.family(lock, [((), contention_seconds())])
    counts, seconds = rows_of(node.server.times)
    yield catalogue.family(f"{kind}_rpc_requests_total", counts)
    yield catalogue.family(f"{kind}_rpc_seconds_total", seconds)


def rows_of(times: HandlerTimes) -> tuple[list[Row], list[Row]]:
    """Numbers and seconds of what was handled, by its name."""
    return [((name,), count) for name, count in times.counts.items()], [
        ((name,), seconds) for name, seconds in times.seconds.items()
    ]
