"""Profiles as pages: the graph's data, and the functions that took most time."""

from __future__ import annotations

from typing import Any

from headrace.diagnostics.pages.flame import flame_data, hottest, profile_figure, profile_page
from headrace.profile import create
from tests.diagnostics.tasks import Page


def node(name: str, count: int, *children: dict[str, Any], filename: str = "") -> dict[str, Any]:
    where = filename or f"/{name}.py"
    description = {"filename": where, "name": name, "line_number": 3, "line": f"{name}()\n"}
    made = {"count": count, "children": {}, "identifier": name, "description": description}
    made["children"] = {child["identifier"]: child for child in children}
    return made


def profile(*children: dict[str, Any]) -> dict[str, Any]:
    total = sum(child["count"] for child in children)
    return {**create(), "count": total, "children": {child["identifier"]: child for child in children}}


def test_data_for_the_script() -> None:
    data = flame_data(profile(node("a", 6, node("b", 3)), node("c", 2)), 0.01)
    shown = [(data["texts"][each[4]], each[0], each[1], each[2], each[3]) for each in data["nodes"]]
    assert sorted(shown, key=lambda each: (each[2], each[3])) == [
        ("", 8, 0, 0.0, 1.0),
        ("a", 6, 1, 0.0, 0.75),
        ("c", 2, 1, 0.75, 0.25),
        ("b", 3, 2, 0.0, 0.375),
    ]


def test_what_was_hardly_seen_and_the_machinery_of_imports_are_left_out() -> None:
    machinery = node("_find_and_load", 500, node("module", 400), filename="<frozen importlib._bootstrap>")
    data = flame_data(profile(node("a", 1000, machinery), node("rare", 1)), 0.01)
    assert {data["texts"][each[4]] for each in data["nodes"]} == {"", "a", "module"}


def test_functions_by_their_own_time() -> None:
    found = hottest(profile(node("a", 6, node("b", 4)), node("b2", 2, node("b", 1))))
    assert [(name, own, whole) for name, _, own, whole in found] == [("b", 5, 5), ("a", 2, 6), ("b2", 1, 2)]


def test_a_recursive_function_counts_once() -> None:
    inner = node("f", 4)
    found = hottest(profile(node("f", 6, inner)))
    assert [(name, own, whole) for name, _, own, whole in found] == [("f", 6, 6)]


def test_page() -> None:
    nasty = "<module></script>"
    page = Page(profile_page(profile(node(nasty, 2)), 0.01))
    assert nasty in page.sections["profile"]
    assert nasty in page.blocks["profile-data"]["texts"]
    assert "No samples" in Page(profile_page(create(), 0.01)).sections["profile"]
    assert profile_figure(create(), 0.01)._repr_html_().startswith("<iframe")
