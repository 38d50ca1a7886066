"""The directive `settings`: every key of `headrace.yaml` under a prefix, with its default, as a table.

So the page about configuration cannot say anything else than the file that is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

DEFAULTS = Path(__file__).parents[1] / "src" / "headrace" / "headrace.yaml"


def flatten(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Dotted key and default of each setting below a value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flatten(inner, f"{prefix}.{name}")
        return
    if isinstance(value, list) and len(value) > 4:
        text = f"{', '.join(map(str, value[:4]))}, … ({len(value)} in all)"
    else:
        text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    yield prefix, text


class Settings(SphinxDirective):
    """`.. settings:: distributed.worker`: raises if there is no such prefix."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        prefix = self.arguments[0]
        self.env.note_dependency(str(DEFAULTS))
        value = yaml.safe_load(DEFAULTS.read_text())
        try:
            for name in prefix.split("."):
                value = value[name]
        except (KeyError, TypeError):
            raise self.error(f"headrace.yaml has no settings under {prefix!r}") from None
        table, group, body = nodes.table(classes=["settings"]), nodes.tgroup(cols=2), nodes.tbody()
        group += nodes.colspec(colwidth=60)
        group += nodes.colspec(colwidth=40)
        head = nodes.thead()
        head += _row("setting", "default", code=False)
        group += head
        for key, text in flatten(value, prefix):
            body += _row(key, text, code=True)
        group += body
        table += group
        return [table]


def _row(*texts: str, code: bool) -> nodes.row:
    row = nodes.row()
    for text in texts:
        entry, paragraph = nodes.entry(), nodes.paragraph()
        paragraph += nodes.literal(text=text) if code else nodes.Text(text)
        entry += paragraph
        row += entry
    return row


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}
