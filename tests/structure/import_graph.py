"""Reads the imports of the source tree without running it.

Works on syntax trees only, so that a module that is costly, or broken, to import is still checked.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Import:
    """One imported module or name, as a dotted path, and where it stands.

    Attributes:
        importer: dotted name of the module that imports.
        target: dotted path of what is imported (for `from a import b`: `a.b`).
        module: the module part of `target` as written (for `from a import b`: `a`).
        lazy: whether it stands inside a function.
        line: line number in the file.
    """

    importer: str
    target: str
    module: str
    lazy: bool
    line: int


def module_name(path: Path, root: Path = SOURCE) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(package: str, root: Path = SOURCE) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    return {module_name(path, root): path for path in sorted((root / package).rglob("*.py"))}


def imports_of(name: str, source: str, is_package: bool) -> list[Import]:
    """Every import of a module's text, except those for type checkers only."""
    package = name if is_package else name.rpartition(".")[0]
    return list(_walk(ast.parse(source), name, package, lazy=False))


def dotted_strings(source: str) -> list[str]:
    """Dotted paths that stand as text in a module, as lazy imports have them; of "a.b:C" the part before the colon."""
    texts = [
        node.value.partition(":")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return [text for text in texts if "." in text and all(part.isidentifier() for part in text.split("."))]


def _walk(node: ast.AST, name: str, package: str, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(name, alias.name, alias.name, lazy, child.lineno)
        elif isinstance(child, ast.ImportFrom):
            module = _absolute(child, package)
            for alias in child.names:
                yield Import(name, f"{module}.{alias.name}", module, lazy, child.lineno)
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            for otherwise in child.orelse:
                yield from _walk(ast.Module([otherwise], []), name, package, lazy)
        else:
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, name, package, inside)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - node.level + 1])
    return f"{base}.{node.module}" if node.module else base


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
