"""What a text of metrics says, by the parsers of `prometheus_client`."""

from __future__ import annotations

from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


class Scraped:
    """One answer.

    Attributes:
        kinds: of the families, by the names of their samples.
        samples: values by name and labels, these as sorted pairs.
    """

    def __init__(self, answer: tuple[bytes, str]) -> None:
        body, self.content_type = answer
        parse = parse_open_metrics if self.content_type.startswith("application/openmetrics") else parse_plain
        self.kinds: dict[str, str] = {}
        self.samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self.texts: dict[str, str] = {}
        for family in parse(body.decode()):
            name = family.name + ("_total" if family.type == "counter" else "")
            self.kinds[name] = family.type
            self.texts[name] = family.documentation
            for sample in family.samples:
                self.samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, tuple(sorted(labels.items()))]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The labels of each sample."""
        return [dict(labels) for sample, labels in self.samples if sample == name]
