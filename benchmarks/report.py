"""Medians, ratios and the table."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from typing import Any

from .environments import ROOT, environment
from .table import Metric, Row

Samples = dict[str, dict[str, list[dict[str, float]]]]


def versions(python: str) -> dict[str, Any]:
    """What the interpreter of a side has, as far as it can be told."""
    names = ["headrace", "distributed", "dask", "numpy", "pandas", "pyarrow", "msgspec", "uvloop"]
    code = f"""
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {{"python": sys.version.split()[0]}}
for name in {names}:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
    done = subprocess.run(
        [python, "-c", code], cwd=ROOT, env=environment("peer"), capture_output=True, text=True, check=True
    )
    return {"cpus": os.cpu_count(), "machine": platform.machine(), **json.loads(done.stdout)}


def summarise(rows: list[Row], samples: Samples) -> list[dict[str, Any]]:
    """One entry per metric and arrangement, in the table's order."""
    summary = []
    for row in rows:
        for arrangement in row.arrangements:
            found = samples.get(f"{row.name}/{arrangement}")
            if found is not None:
                reference = samples.get(f"{row.name}/{row.arrangements[0]}", found)["reference"]
                summary += [_entry(row, arrangement, metric, found, reference) for metric in row.metrics]
    return summary


def _entry(
    row: Row, arrangement: str, metric: Metric, found: dict[str, list[dict[str, float]]], reference: list[Any]
) -> dict[str, Any]:
    values = {side: _median(metric, found[side]) for side in ("ours", "peer")}
    values["reference"] = _median(metric, reference)
    ratio = _times_better(metric, values["ours"], values["peer"])
    to_reference = _times_better(metric, values["ours"], values["reference"])
    met = [
        achieved >= goal
        for achieved, goal in ((ratio, metric.goal), (to_reference, metric.reference_goal))
        if achieved is not None and goal is not None
    ]
    if metric.limit is not None and values["ours"] is not None:
        met.append(values["ours"] <= metric.limit)
    return {
        "row": row.name,
        "metric": metric.name,
        "label": metric.label,
        "unit": metric.unit,
        "arrangement": arrangement,
        **values,
        "ratio": ratio,
        "goal": metric.goal,
        "limit": metric.limit,
        "ratio_to_reference": to_reference,
        "reference_goal": metric.reference_goal,
        "met": all(met) if met else None,
    }


def _median(metric: Metric, samples: list[dict[str, float]]) -> float | None:
    values = [sample[metric.name] for sample in samples if metric.name in sample]
    return statistics.median(values) if values else None


def _times_better(metric: Metric, ours: float | None, theirs: float | None) -> float | None:
    if not ours or not theirs:
        return None
    return ours / theirs if metric.higher_is_better else theirs / ours


def print_table(summary: list[dict[str, Any]]) -> None:
    header = [
        "work",
        "arrangement",
        "unit",
        "headrace",
        "peer",
        "times better",
        "goal",
        "reference",
        "times better",
        "",
    ]
    lines = [header]
    for entry in summary:
        lines.append(
            [
                entry["label"],
                entry["arrangement"],
                entry["unit"],
                _number(entry["ours"]),
                _number(entry["peer"]),
                _number(entry["ratio"]),
                f"≤ {entry['limit']:,.4g}" if entry["limit"] is not None else _number(entry["goal"]),
                _number(entry["reference"]),
                _number(entry["ratio_to_reference"]),
                {True: "met", False: "MISSED", None: ""}[entry["met"]],
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        left = [cell.ljust(width) for cell, width in zip(line[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[3:], widths[3:], strict=True)]
        print("  ".join(left + right).rstrip())


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
