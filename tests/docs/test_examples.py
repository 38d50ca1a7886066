"""Every Python example of the documentation runs: the blocks of a page, one after the other, as one program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import headrace

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "design.md")]
#: Public names that are no API of their own: modules, low-level calls and errors of the standard library.
NOT_ON_A_PAGE = {"TimeoutError", "CancelledError", "config", "connect", "rpc", "sync", "Status"}
#: A block, and the comment before it that says why it is not run.
BLOCK = re.compile(r"(?P<skip><!-- not run: [^>]+ -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)


def program(page: Path) -> str:
    """The page's examples, each on the lines on which it stands in the page."""
    text, lines = page.read_text(), []
    for block in BLOCK.finditer(text):
        if block["skip"] is None:
            number = text.count("\n", 0, block.start("code"))
            lines += [""] * (number - len(lines)) + block["code"].splitlines()
    return "\n".join(lines)


@pytest.mark.parametrize("page", [page for page in PAGES if program(page)], ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{page.stem}.py"
    script.write_text(program(page))
    done = subprocess.run(
        [sys.executable, *("-W", "error"), *("-W", "ignore:Port 8787 cannot be had:UserWarning"), str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}:\n{done.stderr}"


def test_every_public_name_is_on_an_api_page() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    documented = {line.rpartition(".")[2] for line in pages.splitlines() if line.startswith(".. auto")}
    assert not set(headrace.__all__) - documented - NOT_ON_A_PAGE


def test_the_examples_are_found() -> None:
    assert sum(bool(program(page)) for page in PAGES) >= 5
