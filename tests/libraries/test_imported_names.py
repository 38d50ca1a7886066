"""Every name that released libraries import is there, whatever is installed here."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

NAMES: dict[str, list[str]] = tomllib.loads((Path(__file__).parent / "imported_names.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", sorted(NAMES))
def test_names_are_there(module: str) -> None:
    found = import_module(module)
    for name in NAMES[module]:
        if not hasattr(found, name):
            import_module(f"{module}.{name}")  # `from package import module`
