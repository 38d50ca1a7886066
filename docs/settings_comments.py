"""What stands behind the keys of `headrace.yaml`: its meaning, which YAML's own reader drops.

Reads lines by their indentation, as far as that file needs it. Must not need Sphinx: tests read it, too.
"""

from __future__ import annotations

import re

_KEY = re.compile(r"(?P<indent> *)(?P<name>[A-Za-z_][\w-]*):(?P<rest>.*)")
#: A value, which may be quoted, and the comment behind it.
_REST = re.compile(r"\s*(?P<value>'[^']*'|\"[^\"]*\"|[^#]*?)\s*(?:#\s*(?P<comment>.*?)\s*)?")


def comments_of(text: str) -> dict[str, str]:
    """The comment of every key that has one, by dotted key."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        key = _KEY.fullmatch(line)
        if key is None:
            continue
        indent = len(key["indent"])
        while above and above[-1][0] >= indent:
            above.pop()
        above.append((indent, key["name"]))
        rest = _REST.fullmatch(key["rest"])
        if rest is not None and rest["comment"]:
            found[".".join([name for _, name in above])] = rest["comment"]
    return found
