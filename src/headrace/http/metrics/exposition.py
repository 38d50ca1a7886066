"""A server's answer to Prometheus: its own families, and those of its process, users' own among them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from headrace import config
from headrace.containment import log_raised

from .metric_families import Catalogue, Described, MetricFamily
from .text_formats import OPEN_METRICS, PLAIN, as_text, check_family, wants_open_metrics

logger = logging.getLogger("distributed.http")

_END = "# EOF\n"


class Exposition:
    """Gives the text of one server's metrics.

    Nothing of it is shared with other servers of this process but what belongs to the process: two servers in one
    process have their own values each.

    Args:
        tables: what the families are called and mean.
        families: gives the values of now.
        open_metrics: whether it can be told as OpenMetrics, which does not allow a gauge and a counter whose names
            differ in the `_total` only.

    Attributes:
        catalogue: the tables, with names as configured (`distributed.dashboard.prometheus.namespace`).
    """

    def __init__(
        self, families: Callable[[], Iterable[MetricFamily]], *tables: Iterable[Described], open_metrics: bool = True
    ) -> None:
        namespace = str(config.get("distributed.dashboard.prometheus.namespace", "dask") or "")
        self.catalogue = Catalogue(namespace, *tables)
        self._families = families
        self._open_metrics = open_metrics

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The text of now, and its type.

        Args:
            accept: the header `Accept` of the request; OpenMetrics if it asks for that, and that can be.
        """
        open_metrics = self._open_metrics and wants_open_metrics(accept)
        own = list(self._families())
        text = as_text(own, open_metrics) + _text_of_process(self.catalogue, open_metrics)
        return text.encode(errors="replace"), OPEN_METRICS if open_metrics else PLAIN

    def plain(self, more: Iterable[MetricFamily] = ()) -> list[Any]:
        """All families as lists, texts and numbers, to be sent: name, kind, text, and a list of samples.

        A sample is a list of its name, the dictionary of its labels, and its value.

        Args:
            more: further families of the tables.
        """
        found: list[Any] = []
        for family in (*self._families(), *more):
            start = family.name
            rows = [[start, dict(zip(family.labels, of, strict=True)), float(value)] for of, value in family.rows]
            found.append([start, family.kind, family.text, rows])
        for metric in _OfProcess(self.catalogue).collect():
            rows = [[sample.name, dict(sample.labels), float(sample.value)] for sample in metric.samples]
            found.append([metric.name, metric.type, metric.documentation, rows])
        return found


def _text_of_process(catalogue: Catalogue, open_metrics: bool) -> str:
    if open_metrics:
        from prometheus_client.openmetrics.exposition import generate_latest

        return str(generate_latest(_OfProcess(catalogue)).decode())
    from prometheus_client import generate_latest

    return str(generate_latest(_OfProcess(catalogue)).decode())


class _OfProcess:
    """What is registered with `prometheus_client` in this process, but for names that are the server's own.

    A collector of the user's that raises takes nothing else with it but what would have come after it; a family that
    cannot be written down is left out.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def collect(self) -> Iterator[Any]:
        from prometheus_client import REGISTRY

        taken = self._catalogue.names
        found = []
        try:
            for metric in REGISTRY.collect():
                if metric.name in taken or metric.name + "_total" in taken:
                    continue
                try:
                    check_family(metric.name, metric.type, metric.documentation, metric.samples)
                except (TypeError, ValueError, AttributeError) as error:
                    name = getattr(metric, "name", metric)
                    logger.warning("The registered metric %.200r is left out: %.500s", name, error)
                    continue
                if not any(sample.name in taken for sample in metric.samples):  # as `x_count` of a summary `x`
                    found.append(metric)
        except BaseException as raised:
            log_raised(logger, raised, "Some metrics that are registered with prometheus_client could not be read")
        yield from found
