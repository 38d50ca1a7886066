"""The map for developers: each file and name on it exists, and the diagrams are what the tables of transitions say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure.test_import_directions import LAYERS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "headrace"
DOCS = ROOT / "docs"

#: `path/to/file.py` or `path/to/file.py:name`, in backticks.
PLACE = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|yaml|md))(?::(\w+))?`")


def places(page: str) -> list[tuple[str, str]]:
    return [(path, name) for path, name in PLACE.findall((DOCS / page).read_text(encoding="utf-8"))]


def found(path: str) -> Path | None:
    """The file of that path: of the source if it is there, else of the repository; a bare name may be anywhere."""
    for parent in (SOURCE, SOURCE.parent, ROOT):
        if (parent / path).is_file():
            return parent / path
    return next(iter(sorted(SOURCE.rglob(path))), None)


@pytest.mark.parametrize("page", ["developing.md", "design.md"])
def test_every_place_on_the_page_exists(page: str) -> None:
    assert len(places(page)) > 20
    missing = sorted({path for path, _ in places(page) if found(path) is None})
    assert not missing, f"{page} names files that are not there: {missing}"


def test_every_name_on_the_map_is_in_its_file() -> None:
    wrong = []
    for path, name in places("developing.md"):
        file = found(path)
        if name and file is not None:
            defines = re.compile(rf"^\s*(?:async )?(?:def|class) {name}\b|^{name}\b.*=", re.MULTILINE)
            if not defines.search(file.read_text(encoding="utf-8")):
                wrong.append(f"{path}:{name}")
    assert not wrong, f"the map names what is not in these files: {wrong}"


def test_a_name_that_is_not_there_is_noticed() -> None:
    assert PLACE.findall("`worker/nothing.py:nobody`") == [("worker/nothing.py", "nobody")]
    assert found("worker/nothing.py") is None


def test_diagrams_are_what_the_tables_say() -> None:
    done = subprocess.run(
        [sys.executable, str(DOCS / "state_diagrams.py"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_layers_of_the_design_are_those_that_imports_follow() -> None:
    drawn = (DOCS / "design.md").read_text(encoding="utf-8").split("```\n", 2)[1]
    rows = [tuple(line.split("  ")[0].split()) for line in drawn.splitlines()]
    assert rows == [tuple(part.removeprefix("headrace.") for part in row) for row in LAYERS]
