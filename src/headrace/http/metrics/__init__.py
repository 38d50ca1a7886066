"""Metrics for Prometheus: of schedulers, workers and nannies, each with those of its process and of the user's own.

A server has one object, made with it, that gives the text. Nothing is counted here that the server does not know
anyway, and `prometheus_client` is imported by the first question.
"""

from __future__ import annotations

from .nanny_metrics import NannyMetrics
from .scheduler_metrics import SchedulerMetrics
from .worker_metrics import WorkerMetrics

__all__ = ["NannyMetrics", "SchedulerMetrics", "WorkerMetrics"]
