"""`headrace.yaml` says what each key means, and says truly which of them nothing reads."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from headrace.config import defaults

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "headrace"
#: Sections whose keys are the user's own names: what is read is the section.
FREE = ("distributed.scheduler.default-task-durations", "distributed.nanny.pre-spawn-environ")


def load_comments() -> Any:
    spec = importlib.util.spec_from_file_location("settings_comments", ROOT / "docs" / "settings_comments.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


comments_of = load_comments().comments_of
COMMENTS = comments_of((SOURCE / "headrace.yaml").read_text())


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix


LEAVES = list(leaves(defaults()))
READ = [key for key in LEAVES if key.startswith("distributed.") and not COMMENTS.get(key, "").startswith("no effect")]


@cache
def texts() -> list[set[str]]:
    """The texts that each module's code consists of, docstrings aside, without a dot at either end.

    The list of old names is left out, as it reads nothing.
    """
    found = []
    for path in SOURCE.rglob("*.py"):
        if path.name == "renamed_settings.py":
            continue
        tree = ast.parse(path.read_text())
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in said]
        found.append({node.value.strip(".") for node in constants if isinstance(node.value, str)})
    return found


def is_read(key: str) -> bool:
    """Whether some module names the key: whole, or some section that it is in and all that is left of it.

    What is left may be in pieces; a variable may name the section (`distributed.{kind}.preload`).
    """
    for section in FREE:
        if key.startswith(f"{section}."):
            key = section
    parts = key.split(".")
    for module in texts():
        if key in module:
            return True
        for place in range(1, len(parts)):
            known_section = ".".join(parts[:place]) in module
            rest = parts[place:]
            pieces = set(rest if place > 1 else rest[1:])
            if known_section and (".".join(rest) in module or pieces <= module):
                return True
    return False


def test_every_key_says_what_it_means() -> None:
    assert sorted(set(LEAVES) - set(COMMENTS)) == []
    assert sorted(set(COMMENTS) - set(LEAVES)) == [], "sections need no comment"


@pytest.mark.parametrize("key", READ)
def test_a_key_with_an_effect_is_read(key: str) -> None:
    assert is_read(key), f"nothing reads {key}: implement it, or say 'no effect: <why>' in headrace.yaml"


def test_a_key_without_effect_is_not_read() -> None:
    idle = {key for key in LEAVES if COMMENTS[key].startswith("no effect")}
    assert [key for key in sorted(idle) if any(key in module for module in texts())] == []
    assert all(COMMENTS[key].startswith("no effect: ") for key in idle), "say why"


def test_the_check_finds_what_nothing_reads() -> None:
    assert not is_read("distributed.p2p.storage.buffer")
    assert not is_read("distributed.worker.no-such-thing")
    assert is_read("distributed.comm.timeouts.connect")


def test_how_comments_are_found() -> None:
    text = "a:\n  # not this\n  b: '#1'  # first\n  c:  # second: of two\n  - x  # nor this\n  d: 3\ne: []  # third"
    assert comments_of(text) == {"a.b": "first", "a.c": "second: of two", "e": "third"}
