"""A cluster in a notebook: a card with its size and state, and its scheduler's card to be unfolded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from headrace.common.display.cluster_html import render_scheduler, sizes, status_colour
from headrace.common.display.html import (
    Html,
    card,
    code,
    facts,
    fold,
    join,
    link,
)
from headrace.rpc.dashboard_links import link_with_login
from headrace.security import Security

if TYPE_CHECKING:
    from .cluster import Cluster


def cluster_html(cluster: Cluster, details: bool = True) -> Html:
    """The card of a cluster.

    Args:
        details: whether to add the scheduler and the workers, to be unfolded.
    """
    up, status = cluster._is_up(), cluster.status.name
    info: dict[str, Any] = cluster.scheduler_info if up else {}
    dashboard = cluster.dashboard_link if up else ""
    if dashboard:
        given = cluster.security
        security = given if isinstance(given, Security) else Security(**(given or {}))
        dashboard = link_with_login(dashboard, str(info.get("address", "")), security, also_here=True)
    values = {
        "Scheduler": code(cluster.scheduler_address) if up else "none",
        **(sizes(info) if up else {}),
        "Scaling": scaling_text(cluster) if up and cluster._supports_scaling else None,
        "Encrypted": "yes" if getattr(cluster.security, "require_encryption", False) else None,
        "Dashboard": link(dashboard) if dashboard else None,
    }
    body = [facts(values)]
    if up and details and info.get("address"):
        body.append(fold("Scheduler and workers", render_scheduler(info, time.time(), cluster.dashboard_link)))
    kind = type(cluster).__name__
    return card(kind, join(body), subtitle=cluster.name, status=status, colour=status_colour(status))


def scaling_text(cluster: Cluster) -> str:
    """A text that tells how the number of workers is decided now, and, if not all have come, how many are planned."""
    adaptive = cluster._adaptive
    if adaptive is not None and adaptive.state in ("starting", "running"):
        most = f"{adaptive.maximum:g}" if adaptive.maximum != float("inf") else "any number"
        return f"adaptive, {adaptive.minimum:g} to {most}"
    planned, here = len(cluster.plan), len(cluster.observed)
    return "manual" if planned == here else f"manual, {here} of {planned} are here"
