"""Whether a request comes from a page of another web site, whose author must not act through a visitor's browser."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

#: Verbs that change nothing.
READING = ("GET", "HEAD", "OPTIONS")


def is_cross_site(headers: Mapping[str, str], host: str) -> bool:
    """Whether a browser says that a page of another site asks.

    Browsers of today say so in `Sec-Fetch-Site`, which stays true behind proxies that replace the host. Others send the
    origin of the page, which is compared with the host that was asked, here or at the proxy. Programs send neither.

    Args:
        headers: of the request.
        host: that the request names.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("Origin")
    if origin is None:
        return False
    asked = {host.lower(), *(part.strip().lower() for part in headers.get("X-Forwarded-Host", "").split(","))}
    try:
        return urlsplit(origin).netloc.lower() not in asked - {""}
    except ValueError:  # no browser sends that
        return True
