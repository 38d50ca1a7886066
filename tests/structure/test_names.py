"""What is where, and what it is called, so that a reader finds it by name: classes, files, rooms, first words."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.structure.import_graph import SOURCE, modules

#: Class names that occur more than once: the documented records, each with the public paths that ask for the name.
SHARED_CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "TaskState": ("distributed.scheduler.TaskState", "distributed.worker_state_machine.TaskState"),
    "WorkerState": ("distributed.scheduler.WorkerState", "distributed.worker_state_machine.WorkerState"),
    "Scheduler": ("distributed.scheduler.Scheduler", "distributed.deploy.ssh.Scheduler"),
    "Worker": ("distributed.worker.Worker", "distributed.deploy.ssh.Worker"),
}

#: Files of the same name: those that every folder of their kind has.
UNIFORM_STEMS = {"__init__", "__main__"}
#: In folders under `headrace/extensions`, each of which is the same thing for another feature.
UNIFORM_IN_EXTENSIONS = {"client", "core", "scheduler"}
#: Other stems that occur more than once, with the reason. No more than fifteen.
SHARED_STEMS: dict[str, str] = {
    "client": "the room's own class",
    "core": "the pure state machine of a room",
    "server": "the shell of a room",
    "tasks": "the records of tasks, at the scheduler and at the worker",
    "invariants": "the checks of a core",
    "clients": "clients of a scheduler: their records, their connections",
    "workers": "workers of a scheduler: their records, their connections",
    "scaling": "how many workers are wanted: the decision, the operations",
}

#: Python files that a folder may have beside `__init__`: what a reader takes in at one look.
MOST_FILES = 16

#: First words that leave open what a docstring is about.
VAGUE = frozenset({"As", "It", "Its", "That", "These", "This", "Those", "What", "Which", "Who", "Whose"})
#: Share of docstrings that may begin so.
VAGUE_SHARE = 0.03


def trees() -> Iterator[tuple[str, Path, ast.Module]]:
    for package in ("headrace", "distributed"):
        for name, path in modules(package).items():
            yield name, path, ast.parse(path.read_text(encoding="utf-8"))


def is_public_path(path: Path) -> bool:
    """Whether a file of compat has its name from the interface, and so cannot have another."""
    return path.relative_to(SOURCE).parts[:2] == ("headrace", "compat")


def test_no_class_name_occurs_twice() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for name, _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{name}:{node.lineno}")
    twice = {kind: places for kind, places in found.items() if len(places) > len(SHARED_CLASS_NAMES.get(kind, (0,)))}
    assert not twice, "\n" + "\n".join(f"{kind}: {', '.join(places)}" for kind, places in sorted(twice.items()))
    stale = [kind for kind in SHARED_CLASS_NAMES if len(found[kind]) < 2]
    assert not stale, f"these occur once now: take them off the list: {stale}"


def test_rooms_are_small() -> None:
    count: dict[Path, int] = defaultdict(int)
    for _, path, _ in trees():
        count[path.parent] += path.stem != "__init__"
    count.pop(SOURCE / "headrace" / "compat")  # mirrors the public paths
    large = {str(folder.relative_to(SOURCE)): files for folder, files in count.items() if files > MOST_FILES}
    assert not large, f"divide these folders: {large}"


def test_one_idea_has_one_stem() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for _, path, _ in trees():
        in_extensions = path.relative_to(SOURCE).parts[:2] == ("headrace", "extensions")
        if path.stem in UNIFORM_STEMS or (in_extensions and path.stem in UNIFORM_IN_EXTENSIONS):
            continue
        if not is_public_path(path):
            found[path.stem].append(str(path.relative_to(SOURCE)))
    twice = {stem: places for stem, places in found.items() if len(places) > 1}
    new = {stem: places for stem, places in twice.items() if stem not in SHARED_STEMS}
    assert not new, "\n" + "\n".join(f"{stem}: {', '.join(places)}" for stem, places in sorted(new.items()))
    assert not set(SHARED_STEMS) - set(twice), f"take off the list: {set(SHARED_STEMS) - set(twice)}"
    assert len(SHARED_STEMS) <= 15


def first_words() -> Iterator[tuple[str, str]]:
    """Place and first word of every docstring."""
    for name, _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                words = (ast.get_docstring(node) or "").split()
                if words:
                    yield f"{name}:{getattr(node, 'lineno', 1)}", words[0].strip("`.,:;")


def test_docstrings_begin_with_what_they_are_about() -> None:
    words = list(first_words())
    vague = [place for place, word in words if word in VAGUE]
    assert len(vague) <= VAGUE_SHARE * len(words), f"{len(vague)} of {len(words)} docstrings:\n" + "\n".join(vague)
