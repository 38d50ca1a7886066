"""The address of a dashboard, as the configuration wants it shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from headrace.config import get


def format_dashboard_link(host: str, port: int | str) -> str:
    """The address of a dashboard by the template `distributed.dashboard.link`.

    The template may name `scheme`, `host`, `port` and environment variables. An IPv6 address gets its brackets.

    Raises:
        KeyError: the template names something else; the message says what.
    """
    template = str(get("distributed.dashboard.link"))
    scheme = "https" if get("distributed.scheduler.dashboard.tls.cert") else "http"
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    names = {**os.environ, "scheme": scheme, "host": shown, "port": port}
    names.setdefault("JUPYTERHUB_SERVICE_PREFIX", "/")
    try:
        return template.format(**names)
    except KeyError as error:
        raise KeyError(
            f"the template {template!r} of distributed.dashboard.link names {error}, which is no environment variable"
        ) from None


def link_of(identity: Mapping[str, Any]) -> str | None:
    """The address of a scheduler's dashboard, or None if it has none.

    Args:
        identity: the scheduler's description of itself.
    """
    port = (identity.get("services") or {}).get("dashboard")
    if not port:
        return None
    scheme, _, location = str(identity.get("address", "")).partition("://")
    host = "localhost" if scheme == "inproc" else location.rpartition(":")[0].strip("[]")
    return format_dashboard_link(host or "localhost", port)
