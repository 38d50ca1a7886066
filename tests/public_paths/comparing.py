"""Compares what is here with the facts of `api-2026.8.json`: classes, members, functions, and what they take.

A deviation is a path and what differs there. This module knows the rules and nothing of which deviations are accepted.
`keyword_only.json` adds to the facts which parameters can only be given by name.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
API: dict[str, dict[str, Any]] = json.loads((HERE / "api-2026.8.json").read_text())
KEYWORD_ONLY: dict[str, list[str]] = json.loads((HERE / "keyword_only.json").read_text())

Parameter = inspect.Parameter
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
#: Stands for a default that is no plain literal: that there is one is all that is compared.
_SOME = object()
#: Defaults that say something about the machine on which the facts were taken.
_OF_THE_MACHINE = {"distributed.worker_memory.parse_memory_limit"}
#: What makes an object rather than describing its use: those who make it are here.
_MAKER = "__init__"


def deviations(instances: Mapping[type, Any], api: Mapping[str, dict[str, Any]] = API) -> dict[str, str]:
    """What differs, by path.

    Args:
        instances: live objects by class, for attributes that come to be when an object is made.
        api: the facts.
    """
    return {path: text for module, names in api.items() for path, text in _in_module(module, names, instances)}


def _in_module(module: str, names: dict[str, Any], instances: Mapping[type, Any]) -> Iterator[tuple[str, str]]:
    try:
        there = importlib.import_module(module)
    except ModuleNotFoundError:
        yield module, "no such module"
        return
    for name, facts in names.items():
        path = f"{module}.{name}"
        if not hasattr(there, name):
            yield path, "missing"
        elif facts.get("kind") == "class":
            yield from _in_class(path, getattr(there, name), facts, instances)
        elif "signature" in facts and (text := _compare_callable(path, getattr(there, name), facts, bound=True)):
            yield path, text


def _in_class(path: str, cls: Any, facts: dict[str, Any], instances: Mapping[type, Any]) -> Iterator[tuple[str, str]]:
    if not isinstance(cls, type):
        yield path, f"is no class but {cls!r}"
        return
    for base in facts["bases"]:
        if base.startswith("builtins.") and not issubclass(cls, getattr(importlib.import_module("builtins"), base[9:])):
            yield f"{path}.__bases__", f"is no {base[9:]}"
    made = f"{path}.{_MAKER}"
    if _made_by_init(facts) and (text := _compare_signature(made, _signature(cls), facts["init"], bound=True)):
        yield made, text
    instance = next((value for known, value in instances.items() if known is cls), None)
    for name, member in facts["members"].items():
        where = f"{path}.{name}"
        if not has_attribute(cls, name, instance):
            yield where, "missing"
        elif member["kind"] == "method" and (text := _compare_method(where, cls, name, member, instance)):
            yield where, text


def has_attribute(cls: type, name: str, instance: Any = None) -> bool:
    """Whether objects of a class have an attribute: its own, declared, assigned in its methods, or seen on one."""
    if hasattr(cls, name) or (instance is not None and hasattr(instance, name)):
        return True
    return any(name in vars(base).get("__annotations__", {}) or name in _assigned(base) for base in cls.__mro__)


@cache
def _assigned(cls: type) -> frozenset[str]:
    """Names that methods of a class assign on `self`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return frozenset()
    return frozenset(
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def _compare_method(path: str, cls: type, name: str, facts: dict[str, Any], instance: Any) -> str:
    static = inspect.getattr_static(cls, name, None)
    if static is None:  # comes to be with an object
        return _compare_callable(path, getattr(instance, name, None), facts, bound=True)
    if isinstance(static, property) or not callable(getattr(cls, name)):
        return f"is no method but {type(static).__name__}"
    alone = isinstance(static, staticmethod | classmethod)
    needs_self = facts["signature"].startswith("(self")
    if not needs_self and not alone:
        return "needs an object: it is called on the class"
    value = getattr(cls, name)
    return _compare_callable(path, value, facts, bound=alone)


def _compare_callable(path: str, value: Any, facts: dict[str, Any], *, bound: bool) -> str:
    if not callable(value):
        return f"cannot be called: {value!r}"
    if facts.get("async"):
        if not returns_awaitable(value) and not isinstance(value, type):
            return "is not awaited, there it must be"
    elif inspect.iscoroutinefunction(inspect.unwrap(value)):
        return "must be awaited, there it need not be"
    return _compare_signature(path, _signature(value), facts["signature"], bound=bound)


def _made_by_init(facts: dict[str, Any]) -> bool:
    """Whether the facts say what making an object takes; those of exceptions and dictionaries may be their base's."""
    return bool(facts["init"]) and facts["init"] not in ("(self, *args, **kwargs)", "(self, *args, **kwds)")


def returns_awaitable(value: Callable[..., Any]) -> bool:
    """Whether a function is a coroutine function, or says that it returns something to be awaited."""
    value = inspect.unwrap(value)
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        return True
    says = str(getattr(value, "__annotations__", {}).get("return", ""))
    return says.startswith(("Awaitable", "Coroutine", "asyncio.Future", "asyncio.Task", "Generator"))


def _signature(value: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(value)
    except (TypeError, ValueError):
        return None


def _compare_signature(path: str, ours: inspect.Signature | None, text: str, *, bound: bool) -> str:
    by_name = KEYWORD_ONLY.get(path) or KEYWORD_ONLY.get(path.removesuffix(f".{_MAKER}"), [])
    theirs = parsed(text, by_name)
    if theirs and theirs[0].name == "self":
        theirs = theirs[1:]
    if ours is None:
        return f"takes what nobody can see; expected {text}"
    if theirs and theirs[0].name == "cls" and "cls" not in ours.parameters:  # of a class method
        theirs = theirs[1:]
    own = list(ours.parameters.values())
    if not bound:
        own = own[1:]
    if path in _OF_THE_MACHINE:
        theirs = [each.replace(default=_SOME) if each.default is not Parameter.empty else each for each in theirs]
    return "; ".join(_differences(own, theirs))


def _differences(own: list[inspect.Parameter], theirs: list[inspect.Parameter]) -> Iterator[str]:
    by_name = {one.name: one for one in own if one.kind not in _VARIADIC}
    kinds = {one.kind for one in own}
    for one in theirs:
        if one.kind in _VARIADIC:
            if one.kind not in kinds:
                yield f"does not take {'*' if one.kind is Parameter.VAR_POSITIONAL else '**'}{one.name}"
        elif one.name not in by_name:
            yield f"does not take {one.name!r}"
        elif text := _difference(by_name[one.name], one):
            yield text
    order = [one.name for one in theirs if one.kind in _POSITIONAL]
    placed = [one.name for one in own if one.kind in _POSITIONAL]
    if all(name in by_name for name in order) and placed[: len(order)] != order:
        yield f"takes {placed[: len(order)]} by position, there it is {order}"
    known = {one.name for one in theirs}
    for one in own:
        if one.name not in known and one.default is Parameter.empty and one.kind not in _VARIADIC:
            yield f"asks for {one.name!r}, which is not known there"


def _difference(own: inspect.Parameter, other: inspect.Parameter) -> str:
    if own.kind is Parameter.POSITIONAL_ONLY and other.kind is Parameter.KEYWORD_ONLY:
        return f"does not take {own.name!r} by name"
    if other.default is Parameter.empty:
        return ""  # that ours has a default is no harm
    if own.default is Parameter.empty:
        return f"asks for {own.name!r}, which has a default there"
    if other.default is _SOME:
        return ""
    same = own.default == other.default and isinstance(own.default, bool) == isinstance(other.default, bool)
    return "" if same else f"{own.name!r} is {own.default!r} by default, there it is {other.default!r}"


def parsed(text: str, keyword_only: list[str]) -> list[inspect.Parameter]:
    """The parameters of a signature as the facts give it: without `*`, and with defaults that need not be Python."""
    found = []
    after_star = False
    for part in _split(text.strip()[1:-1]):
        name, has_default, default = part.partition("=")
        if name.startswith("**"):
            found.append(Parameter(name[2:], Parameter.VAR_KEYWORD))
            continue
        if name.startswith("*"):
            found.append(Parameter(name[1:], Parameter.VAR_POSITIONAL))
            after_star = True
            continue
        by_name = after_star or name in keyword_only
        kind = Parameter.KEYWORD_ONLY if by_name else Parameter.POSITIONAL_OR_KEYWORD
        found.append(Parameter(name, kind, default=_literal(default) if has_default else Parameter.empty))
    return found


def _split(text: str) -> Iterator[str]:
    """Parts between the commas of the outermost level."""
    depth, start, quoted = 0, 0, ""
    for position, letter in enumerate(text):
        if quoted:
            quoted = "" if letter == quoted else quoted
        elif letter in "'\"":
            quoted = letter
        elif letter in "([{<":
            depth += 1
        elif letter in ")]}>":
            depth -= 1
        elif letter == "," and not depth:
            yield text[start:position].strip()
            start = position + 1
    if text[start:].strip():
        yield text[start:].strip()


def _literal(text: str) -> Any:
    if text == "inf":
        return float("inf")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return _SOME
    return _SOME if value is ... else value  # the facts leave out what is long
