"""The demo's own functions, without a cluster."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from headrace.demo import printed_report, sources
from headrace.demo.sources import Source, Summary, find_sources, merge, parse_file, to_frame


def write(folder: Path, text: str | bytes) -> Source:
    path = folder / "module.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Source(str(path), "package", "package.module")


@pytest.mark.parametrize("module", [printed_report, sources])
def test_examples(module: object) -> None:
    assert not doctest.testmod(module).failed  # type: ignore[arg-type]


def test_functions_and_classes_are_found_with_their_lengths(tmp_path: Path) -> None:
    parsed = parse_file(write(tmp_path, "class A:\n    def f(self):\n        pass\n\nasync def g(): pass\n"))
    assert sorted(zip(parsed.names, parsed.lengths, strict=True)) == [("f", 2), ("g", 1)]
    assert parsed.summary == Summary(files=1, lines=6, classes=1, functions=2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("def f(:\n", "SyntaxError"), (b"x = '\xff'\n", "encoding"), (b"# coding: nonsense\n", "nonsense")],
)
def test_a_file_that_does_not_parse_is_named(tmp_path: Path, text: str | bytes, reason: str) -> None:
    source = write(tmp_path, text)
    summary = parse_file(source).summary
    assert summary.files == 1
    assert summary.failed[0][0] == source.path
    assert reason in summary.failed[0][1]


def test_summaries_add_up() -> None:
    total = merge([Summary(1, 10, 2, 3), Summary(2, 5, 0, 1, [("a", "b")])])
    assert total == Summary(3, 15, 2, 4, [("a", "b")])
    assert merge([]) == Summary()


def test_the_table_has_a_row_per_function(tmp_path: Path) -> None:
    frame = to_frame([parse_file(write(tmp_path, "def f(): pass\ndef g():\n    1\n    2\n"))])
    assert frame.to_dict("list") == {
        "package": ["package"] * 2,
        "module": ["package.module"] * 2,
        "function": ["f", "g"],
        "lines": [1, 3],
        "size_class": [0, 1],
    }
    assert (to_frame([]).dtypes == frame.dtypes).all()


def test_this_interpreter_has_files() -> None:
    found = find_sources()
    assert any(source.module == "asyncio.events" and source.package == "standard library" for source in found)
    assert any(source.package == "dask" for source in found)
    assert len({source.path for source in found}) == len(found)
