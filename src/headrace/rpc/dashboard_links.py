"""The address of a dashboard, as the configuration wants it shown, and with a code to log in where one is needed."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from headrace.auth.signed_claims import FULL, link_with_code, login_code
from headrace.comm.sockets import is_loopback
from headrace.config import get
from headrace.security import Security


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
    return format_dashboard_link(_host_of(str(identity.get("address", ""))), port)


def _host_of(address: str) -> str:
    scheme, _, location = address.partition("://")
    return ("" if scheme == "inproc" else location.rpartition(":")[0].strip("[]")) or "localhost"


def link_with_login(link: str, address: str, security: object, *, also_here: bool = False) -> str:
    """A dashboard's address with a new code to log in, if whoever opens it may need one; else as it is.

    Nobody needs one who opens it on the scheduler's machine as the same user. Programs there, such as Jupyter's
    extension, take the address to pieces, and would stumble over a code.

    Args:
        link: as of `link_of`. One that a template leads by way of another host has no code.
        address: the scheduler's, as it says itself.
        security: of whoever shows the link; no code if it is no `Security`, or has no token.
        also_here: whether it has a code also where the scheduler is on this machine, but not only for it.
    """
    host = urlsplit(link).hostname or ""
    if not isinstance(security, Security) or host != _host_of(address).lower() or is_loopback(host):
        return link
    if not also_here and is_of_this_machine(host):
        return link
    try:
        if not security.access_rules("client").asks:
            return link
        return link_with_code(link, login_code(security.tokens(), FULL, time.time()))
    except (OSError, ValueError):  # no token
        return link


def is_of_this_machine(host: str) -> bool:
    """Whether a host is an IP address of this machine, or its name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == socket.gethostname().lower()
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True
