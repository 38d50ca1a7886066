"""Functions that tests send, and a reader of the pages that they look at."""

from __future__ import annotations

import json
import time
from html.parser import HTMLParser
from typing import Any


def double(x: int) -> int:
    time.sleep(0.002)
    return 2 * x


def fail(x: Any) -> None:
    raise ValueError(f"<b>no & {x}</b>")


def add(x: int, y: int) -> int:
    return x + y


class Page(HTMLParser):
    """A page, checked for being well-formed and complete in itself."""

    VOID = frozenset({"meta", "br", "img", "input", "link", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: dict[str, str] = {}
        self.blocks: dict[str, Any] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._section = ""
        self._block = ""
        self.feed(html)
        self.close()
        assert not self.open
        for tag, attributes in self.tags:
            assert tag not in ("link", "img")
            assert "src" not in attributes
            for name, value in attributes.items():
                assert not name.startswith("on")
                assert not str(value).startswith(("http:", "https:", "//", "javascript:"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = str(attributes["id"])
            self.sections[self._section] = ""
        self._block = str(attributes.get("id")) if attributes.get("type") == "application/json" else ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "section":
            self._section = ""
        self._block = ""

    def handle_data(self, data: str) -> None:
        if self._block:
            self.blocks[self._block] = json.loads(data)
        elif self._section and self.open[-1] not in ("script", "style"):
            self.sections[self._section] += data + "\n"
