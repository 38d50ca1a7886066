"""The frame of all pages: head, navigation, title, and the headers that go with them."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from headrace.http.request_handler import RequestHandler

from .markup import Html, moment, tag

STYLE = Path(__file__).parent.parent / "statics" / "pages.css"
#: What a page may load and do, for browsers to see to: styles of its own, and the icon of this server.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors *"
)
#: (name, path, label) of the links on each page of a scheduler.
PLACES = (
    ("status", "status", "Overview"),
    ("workers", "info/main/workers.html", "Workers"),
    ("tasks", "tasks", "Tasks"),
    ("exceptions", "info/main/exceptions.html", "Failures"),
    ("logs", "info/main/logs.html", "Log"),
    ("json", "json/index.html", "JSON"),
    ("metrics", "metrics", "Metrics"),
)
#: Shortest and longest time between two refreshes of a page, in seconds.
REFRESH = (1, 3600)


def root_of(handler: RequestHandler) -> str:
    """The way from the page that was asked for to the server's root: "" or "../" and so on.

    It is relative, since a proxy may have the server under a path that nobody here knows.
    """
    path = handler.local_path
    if not path:  # the prefix, without a slash at its end
        return handler.prefix.rpartition("/")[2] + "/"
    return "../" * (path.count("/") - 1)


@cache
def _style() -> Html:
    return Html(STYLE.read_text(encoding="utf-8"))


def page(
    handler: RequestHandler, title: str, *content: object, here: str = "", lead: object = None, refreshes: bool = False
) -> None:
    """Answer with a page.

    Args:
        title: shown in large, and in the browser's tab.
        content: sections.
        here: name of the page in `PLACES`.
        lead: a sentence under the title.
        refreshes: whether the page offers to be shown anew from time to time.
    """
    root, now = root_of(handler), time.time()
    server = f"{handler.server.kind} {handler.server.address_safe}"
    served = set(handler.server.http_server.paths)
    links = [
        tag("a", label, href=root + path, aria_current="page" if name == here else None)
        for name, path, label in PLACES
        if f"{handler.prefix}/{path}" in served
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} – {server}"),
        tag("link", rel="icon", href=f"{root}statics/headrace.svg", type="image/svg+xml"),
        tag("style", _style()),
    )
    body = tag(
        "body",
        tag("header", tag("p", server, class_="server"), tag("nav", *links, aria_label="Pages")),
        tag("main", tag("h1", title), tag("p", lead, class_="lead") if lead is not None else None, *content),
        tag("footer", tag("p", "As of ", moment(now), " UTC. ", *(_refreshing(handler) if refreshes else ()))),
    )
    handler.set_header("Content-Type", "text/html; charset=utf-8")
    handler.set_header("Content-Security-Policy", POLICY)
    handler.write(f"<!doctype html>\n{tag('html', head, body, lang='en')}\n")


def _refreshing(handler: RequestHandler) -> list[Html]:
    """Have the page shown anew if the query asks for that, and offer the other choice."""
    others = {name: values for name, values in handler.request.query_arguments.items() if name != "refresh"}
    asked = handler.get_query_argument("refresh", "")
    if asked.isascii() and asked.isdigit() and len(asked) < 6 and int(asked):
        seconds = min(max(int(asked), REFRESH[0]), REFRESH[1])
        handler.set_header("Refresh", seconds)
        return [tag("a", f"Stop refreshing it every {seconds} s", href="?" + urlencode(others, doseq=True)), Html(".")]
    query = urlencode({**others, "refresh": 5}, doseq=True)
    return [tag("a", "Refresh it every 5 s", href=f"?{query}"), Html(".")]
