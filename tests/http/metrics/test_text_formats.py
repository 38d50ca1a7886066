"""Our own writer of the two formats says what `prometheus_client` would."""

from __future__ import annotations

import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics

from headrace.http.metrics.metric_families import MetricFamily
from headrace.http.metrics.text_formats import as_text, wants_open_metrics

FAMILIES = [
    MetricFamily(
        "a_total", "counter", 'What "a" is, with \\ and\na second line', ("x",), [(("1",), 1), (("2",), 12345.25)]
    ),
    MetricFamily("b", "gauge", "Nothing yet", ("x", "y"), []),
    MetricFamily("c", "gauge", "Plain", (), [((), 0.1)]),
    MetricFamily("d", "gauge", "Two", ("x", "y"), [(('quoted "text"', "back\\slash\nline"), -3), (("", "ü"), True)]),
]


class Registry:
    def collect(self) -> list[Metric]:
        metrics = []
        for family in FAMILIES:
            metric = Metric(family.name.removesuffix("_total"), family.text, family.kind)
            for labels, value in family.rows:
                metric.add_sample(family.name, dict(zip(family.labels, labels, strict=True)), float(value))
            metrics.append(metric)
        return metrics


def test_plain_text() -> None:
    assert as_text(FAMILIES) == generate_latest(Registry()).decode()


def test_open_metrics() -> None:
    assert as_text(FAMILIES, open_metrics=True) + "# EOF\n" == generate_open_metrics(Registry()).decode()


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        # what Prometheus sends
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", True),
        ("text/plain;version=0.0.4, application/openmetrics-text; q=0", False),
        (";;,", False),
    ],
)
def test_what_an_accept_header_asks_for(accept: str, wanted: bool) -> None:
    assert wants_open_metrics(accept) is wanted
