"""The distribution named `distributed`, which libraries require, is of the version whose interface headrace has."""

from __future__ import annotations

import tomllib
from pathlib import Path

from headrace.alias import API_VERSION

PROJECT = Path(__file__).parents[2] / "packaging" / "distributed" / "pyproject.toml"


def test_its_version_is_that_of_the_interface() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    assert project["name"] == "distributed"
    assert project["version"] == f"{API_VERSION}+headrace"
    assert project["dependencies"] == ["headrace"]
