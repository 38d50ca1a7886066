"""`distributed.http.prometheus`: a base for collectors of one's own, for `prometheus_client`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from headrace import config
from headrace.http.request_handler import RequestHandler
from headrace.http.routes.metrics_page import metrics_of

__all__ = ["PrometheusCollector", "PrometheusNotAvailableHandler", "import_metrics_handler"]


class PrometheusCollector:
    """Names metrics as the configuration wants them.

    Attributes:
        namespace: the first word of all names.
        subsystem: the second, for subclasses to set.
    """

    def __init__(self, server: Any) -> None:
        self.server = server
        self.namespace = str(config.get("distributed.dashboard.prometheus.namespace"))
        self.subsystem: str | None = None

    def build_name(self, name: str) -> str:
        """The full name of a metric.

        >>> PrometheusCollector(None).build_name("workers")
        'dask_workers'
        """
        return "_".join(part for part in (self.namespace, self.subsystem, name) if part is not None)


class ServerCollector(PrometheusCollector):
    """A server's metrics for a registry of `prometheus_client`; subclasses name the second word of their names."""

    def collect(self) -> Iterator[Any]:
        """The families of now. On the server's loop."""
        from prometheus_client.parser import text_string_to_metric_families

        text, _ = metrics_of(self.server).text()
        for family in text_string_to_metric_families(text.decode()):
            if family.name.startswith(self.build_name("")):
                yield family


class PrometheusNotAvailableHandler(RequestHandler):
    """Says that there are no metrics."""

    def get(self) -> None:
        """Answer with a comment, as Prometheus reads it."""
        self.set_header("Content-Type", "text/plain; version=0.0.4")
        self.write("# There are no metrics here\n")


def import_metrics_handler(module_name: str, handler_name: str) -> type[RequestHandler]:
    """The class of handlers of a module; `prometheus_client` is not needed for ours."""
    found: type[RequestHandler] = getattr(import_module(module_name), handler_name)
    return found
