"""Families as text, in Prometheus' format and as OpenMetrics.

Why not `prometheus_client.generate_latest`: a scheduler with a thousand kinds of tasks has ten thousand values, for
which that would hold up its loop five times as long. Tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .metric_families import MetricFamily

PLAIN = "text/plain; version=0.0.4"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_TEXT = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
#: In the plain format quotation marks of descriptions stay as they are.
_PLAIN_TEXT = str.maketrans({"\\": "\\\\", "\n": "\\n"})


def wants_open_metrics(accept: str) -> bool:
    """Whether the header `Accept` of a request asks for OpenMetrics."""
    for offer in accept.split(","):
        kind, *parameters = (part.strip().replace(" ", "") for part in offer.split(";"))
        if kind == "application/openmetrics-text":
            return "q=0" not in parameters
    return False


def as_text(families: Iterable[MetricFamily], open_metrics: bool = False) -> str:
    """Write families down; without the mark at the end that OpenMetrics asks for."""
    lines: list[str] = []
    escaped = _Escaped()
    for family in families:
        start = family.name
        name = start.removesuffix("_total") if open_metrics else start
        text = family.text.translate(_TEXT if open_metrics else _PLAIN_TEXT)
        lines.append(f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n")
        labels = family.labels
        if not labels:
            lines += [f"{start} {float(value)}\n" for _, value in family.rows]
        elif len(labels) == 1:  # nearly all rows of large families
            start = f'{start}{{{labels[0]}="'
            lines += [f'{start}{escaped[of]}"}} {float(value)}\n' for (of,), value in family.rows]
        else:
            form = start + "{" + ",".join([f'{label}="%s"' for label in labels]) + "} %s\n"
            lines += [form % (*[escaped[of] for of in values], float(value)) for values, value in family.rows]
    return "".join(lines)


def check_family(name: str, kind: str, text: str, samples: Iterable[Any]) -> None:
    """Check that a family which is not ours can be written down.

    Args:
        samples: each with its name, labels and value first.

    Raises:
        TypeError, ValueError, AttributeError: it cannot; the message says why.
    """
    from prometheus_client import Metric

    Metric(name, text, kind)
    texts = [name, text]
    for sample in samples:
        of, labels, value = sample[:3]
        float(value)
        texts += [of, *labels.keys(), *labels.values()]
    "".join(texts).encode()


class _Escaped(dict[str, str]):
    """Values of labels as they are written, which the families of one kind have in common."""

    def __missing__(self, text: str) -> str:
        self[text] = written = text.translate(_TEXT)
        return written
