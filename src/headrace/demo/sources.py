"""The demo's tasks, which run on the workers: parse a file, merge summaries, make a table.

The tasks are plain functions of plain values, and know nothing of the cluster.
"""

from __future__ import annotations

import ast
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Upper bounds of the classes into which function lengths are sorted, in lines; the last class is open.
SIZE_CLASSES = (2, 5, 10, 20, 40, 80)


@dataclass(frozen=True)
class Source:
    """A file to read: its path, its top-level package and its dotted module name."""

    path: str
    package: str
    module: str


@dataclass
class Summary:
    """The counts of one file, or the sum of those of several.

    Attributes:
        files, lines, classes, functions: counts.
        failed: (path, why) of the files that do not parse.
    """

    files: int = 0
    lines: int = 0
    classes: int = 0
    functions: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Parsed:
    """The summary of a file, and its functions as columns of equal length."""

    source: Source
    summary: Summary
    names: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


def find_sources() -> list[Source]:
    """Every Python file of the standard library and of the installed packages, sorted by path."""
    paths = sysconfig.get_paths()
    installed = {Path(paths["purelib"]), Path(paths["platlib"])}
    library = Path(paths["stdlib"])
    found = {source.path: source for source in _files_below(library, "standard library")}
    for root in installed:
        found.update((source.path, source) for source in _files_below(root, None))
    return [found[path] for path in sorted(found)]


def _files_below(root: Path, package: str | None) -> Iterator[Source]:
    """The files of one tree; `package` names them all, else each goes by its first folder."""
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if package and parts[0] in {"site-packages", "dist-packages"}:
            continue  # of another interpreter than the one that runs, when this is a virtual environment
        if not path.is_file():
            continue
        yield Source(str(path), package or parts[0], ".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def parse_file(source: Source) -> Parsed:
    """Read and parse a file; a file that cannot be read or parsed is counted as failed."""
    try:
        with tokenize.open(source.path) as file:  # honours the file's own encoding declaration
            text = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes and the like in other people's files
            tree = ast.parse(text, source.path)
    except (SyntaxError, ValueError, RecursionError, OSError) as error:
        reason = getattr(error, "msg", None) or str(error)
        return Parsed(source, Summary(files=1, failed=[(source.path, f"{type(error).__name__}: {reason}")]))
    parsed = Parsed(source, Summary(files=1, lines=text.count("\n") + 1))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parsed.names.append(node.name)
            parsed.lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
        elif isinstance(node, ast.ClassDef):
            parsed.summary.classes += 1
    parsed.summary.functions = len(parsed.names)
    return parsed


def summary_of(parsed: Parsed) -> Summary:
    return parsed.summary


def merge(summaries: Iterable[Summary]) -> Summary:
    """The sum of several summaries."""
    total = Summary()
    for summary in summaries:
        total.files += summary.files
        total.lines += summary.lines
        total.classes += summary.classes
        total.functions += summary.functions
        total.failed += summary.failed
    return total


def size_class(lines: int) -> int:
    """Position of a function's length among `SIZE_CLASSES`.

    >>> size_class(1), size_class(3), size_class(1000)
    (0, 1, 6)
    """
    return sum(lines > bound for bound in SIZE_CLASSES)


def to_frame(batch: list[Parsed]) -> Any:
    """A `pandas.DataFrame` of the functions in some files: package, module, function, lines, size_class."""
    import pandas as pd

    counts = [len(parsed.names) for parsed in batch]
    lengths = [length for parsed in batch for length in parsed.lengths]
    return pd.DataFrame(
        {
            "package": _repeat([parsed.source.package for parsed in batch], counts),
            "module": _repeat([parsed.source.module for parsed in batch], counts),
            "function": pd.Series([name for parsed in batch for name in parsed.names], dtype="str"),
            "lines": pd.Series(lengths, dtype="int64"),
            "size_class": pd.Series([size_class(length) for length in lengths], dtype="int64"),
        }
    )


def _repeat(values: list[str], counts: list[int]) -> Any:
    import pandas as pd

    repeated = [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
    return pd.Series(repeated, dtype="str")
