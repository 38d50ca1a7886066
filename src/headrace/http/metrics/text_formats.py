"""Families as text, in Prometheus' format and as OpenMetrics.

Why not `prometheus_client.generate_latest`: a scheduler with a thousand kinds of tasks has ten thousand values, for
which that would hold up its loop five times as long. Tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable

from .families import Family

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
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


def as_text(families: Iterable[Family], open_metrics: bool = False) -> str:
    """Write families down; without the mark at the end that OpenMetrics asks for."""
    lines: list[str] = []
    for family in families:
        start = family.name
        name = start.removesuffix("_total") if open_metrics else start
        text = family.text.translate(_TEXT if open_metrics else _PLAIN_TEXT)
        lines.append(f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n")
        labels = family.labels
        for values, value in family.rows:
            number = repr(float(value))
            if number.isalpha() or number == "-inf":
                number = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[number]
            if labels:
                pairs = [f'{label}="{_escaped(of)}"' for label, of in zip(labels, values, strict=True)]
                lines.append(f"{start}{{{','.join(pairs)}}} {number}\n")
            else:
                lines.append(f"{start} {number}\n")
    return "".join(lines)


def _escaped(text: str) -> str:
    return text.translate(_TEXT) if "\\" in text or '"' in text or "\n" in text else text
