"""The directive `settings`: every key of `headrace.yaml` under a prefix, with its default and its meaning, as a table.

So the page about configuration cannot say anything else than the file that is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from settings_comments import comments_of
from sphinx.util.docutils import SphinxDirective

DEFAULTS = Path(__file__).parents[1] / "src" / "headrace" / "headrace.yaml"


def flatten(value: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Dotted key and default of each setting below a value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flatten(inner, f"{prefix}.{name}")
        return
    if isinstance(value, list) and len(value) > 2:
        text = f"{', '.join(map(str, value[:2]))}, … ({len(value)} in all)"
    else:
        text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    yield prefix, text


class Settings(SphinxDirective):
    """`.. settings:: distributed.worker`: raises if there is no such prefix."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        prefix = self.arguments[0]
        self.env.note_dependency(str(DEFAULTS))
        text = DEFAULTS.read_text()
        value, meanings = yaml.safe_load(text), comments_of(text)
        try:
            for name in prefix.split("."):
                value = value[name]
        except (KeyError, TypeError):
            raise self.error(f"headrace.yaml has no settings under {prefix!r}") from None
        table, group, body = nodes.table(classes=["settings"]), nodes.tgroup(cols=3), nodes.tbody()
        for width in (35, 20, 45):
            group += nodes.colspec(colwidth=width)
        head = nodes.thead()
        head += _row([[nodes.Text(title)] for title in ("setting", "default", "meaning")])
        group += head
        for key, default in flatten(value, prefix):
            # The prefix stands above the table, and would leave the other columns no room.
            shown = key.removeprefix(f"{prefix}.")
            meaning = meanings.get(key)
            if meaning is None:
                raise self.error(f"headrace.yaml does not say what {key} means: a comment belongs behind it")
            body += _row([[nodes.literal(text=shown)], [nodes.literal(text=default)], _text_of(meaning)])
        group += body
        table += group
        above = nodes.paragraph()
        above += [nodes.Text("Under "), nodes.literal(text=prefix), nodes.Text(":")]
        return [above, table]


def _text_of(meaning: str) -> list[nodes.Node]:
    """A comment's words; what stands in `backticks` is code, and "no effect" is set off."""
    if meaning.startswith("no effect"):
        return [nodes.emphasis(text=meaning)]
    pieces = meaning.split("`")
    return [
        nodes.literal(text=piece) if place % 2 else nodes.Text(piece) for place, piece in enumerate(pieces) if piece
    ]


def _row(cells: list[list[nodes.Node]]) -> nodes.row:
    row = nodes.row()
    for content in cells:
        entry, paragraph = nodes.entry(), nodes.paragraph()
        paragraph += content
        entry += paragraph
        row += entry
    return row


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}
