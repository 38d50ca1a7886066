"""A dask graph to `SubmitGraph` messages: converted, culled, checked, ordered, packed. Pure functions; no client.

Tasks go out in the order of `dask.order`, in chunks, so that the first run while the last are still being packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dask._task_spec import GraphNode, convert_legacy_graph
from dask.core import getcycle
from dask.order import order
from dask.utils import ensure_dict

from headrace.common.keys import Key, to_wire
from headrace.messages.base import Payload
from headrace.messages.client import SubmitGraph
from headrace.protocol import dumps, hand_over

from .arguments import (
    NO_KWARGS,
    MemolessPickler,
    as_payload,
    dump_arguments,
    is_simple,
)
from .calls import pickle_function
from .graph_nodes import RUN_NODE, call_of
from .task_options import OptionTable

#: Tasks in the first message of a long graph, so that workers start early, and in those that follow, which are few:
#: only within a message does the scheduler know what needs a task before it places it.
FIRST_CHUNK = 500
CHUNK = 3000


class GraphCycleError(ValueError, RuntimeError):
    """Tasks of a graph depend on each other in a circle; names them."""


class Plan:
    """A graph that is culled, checked and ordered, ready to be packed.

    Attributes:
        nodes: the tasks, in the order in which they are to be sent, by the user's key.
        wire: the key of each as it travels.
        external: wire keys of tasks that the graph refers to but does not have.
        lost: what is missing, as a text, and the user's keys that cannot be had without it; None if nothing is missing.
    """

    __slots__ = ("external", "lost", "nodes", "wire")

    def __init__(
        self,
        nodes: dict[Any, GraphNode],
        wire: dict[Any, Key],
        external: list[Key],
        lost: tuple[str, set[Any]] | None = None,
    ) -> None:
        self.nodes = nodes
        self.wire = wire
        self.external = external
        self.lost = lost


def plan_graph(dsk: Mapping[Any, Any], wanted: Iterable[Any], is_known: Callable[[Key], bool]) -> Plan:
    """Cull a graph to the wanted keys, check it and put it in order.

    What needs a key that neither the graph has nor we know is left out, and named in the plan.

    Args:
        dsk: graph, with legacy tuples or `GraphNode`s as values, by the user's keys.
        wanted: keys whose results are wanted.
        is_known: whether the scheduler has this key, because a future of ours stands for it.

    Raises:
        GraphCycleError: (a ValueError) names the keys.
        TypeError: a key is not of an allowed type.
    """
    nodes = convert_legacy_graph(ensure_dict(dsk))
    wanted = list(wanted)
    culled, outside, tangled = _cull(nodes, wanted)
    lost = None
    if missing := [key for key in outside if not is_known(to_wire(key))]:
        lost = _missing(missing, culled), _needing(missing, culled)
        left = {key: node for key, node in culled.items() if key not in lost[1]}
        culled, outside, tangled = _cull(left, [key for key in wanted if key not in lost[1]])
    external = [to_wire(key) for key in outside]
    wire = {key: key if type(key) is str and key.isascii() else to_wire(key) for key in culled}
    if tangled:
        culled = _in_order(culled)
    return Plan(culled, wire, external, lost)


def _cull(nodes: Mapping[Any, GraphNode], wanted: Iterable[Any]) -> tuple[dict[Any, GraphNode], list[Any], bool]:
    """Nodes that the wanted keys need, in the graph's order; keys outside; whether an order must be found."""
    wanted = list(wanted)
    outside: dict[Any, None] = {}
    seen = set(wanted)
    stack = list(seen)
    branching = 0
    while stack:
        key = stack.pop()
        node = nodes.get(key)
        if node is None:
            outside[key] = None
            continue
        dependencies = node.dependencies
        if dependencies:
            branching += 1
            for dependency in dependencies:
                if dependency not in seen:
                    seen.add(dependency)
                    stack.append(dependency)
    for key in outside:
        seen.discard(key)
    culled = {key: nodes[key] for key in nodes if key in seen} if len(seen) < len(nodes) else dict(nodes)
    if branching == 1:
        # one task on top of independent ones: nothing to order, it only has to come last
        top = next(key for key, node in culled.items() if node.dependencies)
        if top in culled[top].dependencies:
            raise _cycle(culled)
        culled[top] = culled.pop(top)
        return culled, list(outside), False
    return culled, list(outside), branching > 0


def _in_order(nodes: dict[Any, GraphNode]) -> dict[Any, GraphNode]:
    try:
        ranks = order(nodes)
    except RuntimeError as error:
        raise _cycle(nodes) from error
    except (RecursionError, KeyError, AssertionError, IndexError) as error:
        if getcycle(nodes, None):
            raise _cycle(nodes) from error
        raise
    return {key: nodes[key] for key in sorted(nodes, key=ranks.__getitem__)}


def _cycle(nodes: Mapping[Any, GraphNode]) -> GraphCycleError:
    cycle = getcycle(nodes, None) or []
    shown = "\n".join(f"  -> {key!r}" for key in cycle[:20])
    return GraphCycleError(f"Cycle detected between the following keys:\n{shown}")


def _needing(missing: Iterable[Any], nodes: Mapping[Any, GraphNode]) -> set[Any]:
    """The missing keys, and those of the nodes that need them, however far."""
    dependents: dict[Any, list[Any]] = {}
    for key, node in nodes.items():
        for dependency in node.dependencies:
            dependents.setdefault(dependency, []).append(key)
    lost = set(missing)
    stack = list(lost)
    while stack:
        for key in dependents.get(stack.pop(), ()):
            if key not in lost:
                lost.add(key)
                stack.append(key)
    return lost


def _missing(missing: Sequence[Any], nodes: Mapping[Any, GraphNode]) -> str:
    lost = set(missing)
    users = [key for key, node in nodes.items() if not lost.isdisjoint(node.dependencies)]
    who = f"; needed by {', '.join(map(repr, users[:3]))}" if users else ""
    shown = ", ".join(map(repr, missing[:5])) + (f", … ({len(missing) - 5} more)" if len(missing) > 5 else "")
    return f"The graph has no task for {shown}, and no future of this client has such a key (any more){who}."


class GraphPacker:
    """Turns a plan into messages.

    Args:
        graph: the submission's number.
        wanted: wire keys whose results the client wants.
        table: the tasks' options.
        submitting_task: the task that this runs in, if any.
    """

    def __init__(
        self,
        graph: int,
        plan: Plan,
        wanted: set[Key],
        table: OptionTable,
        submitting_task: Key | None = None,
        in_process: bool = False,
    ) -> None:
        self._in_process = in_process
        self._graph, self._plan, self._wanted, self._table, self._task = graph, plan, wanted, table, submitting_task
        self._pickle = MemolessPickler()
        #: functions by identity and, since many are made anew for each task, by content
        self._by_identity: dict[int, Payload] = {}

    def messages(self) -> Iterator[SubmitGraph]:
        """The messages; each is packed when it is asked for.

        Raises:
            SerializationError: a function or an argument cannot be pickled; names it.
        """
        keys = list(self._plan.nodes)
        start, size = 0, FIRST_CHUNK
        while True:
            chunk = keys[start : start + size]
            start, size = start + size, CHUNK
            yield self._message(chunk, more=start < len(keys))
            if start >= len(keys):
                return

    def _message(self, keys: list[Any], more: bool) -> SubmitGraph:
        nodes, wire, table = self._plan.nodes, self._plan.wire, self._table
        positions = {key: position for position, key in enumerate(keys)}
        functions: dict[Any, int] = {}
        pickled: list[Payload] = []
        external: dict[Key, int] = {}
        calls: list[int] = []
        arguments: list[Payload] = []
        dependencies: list[list[int]] = []
        linked = False
        count = len(keys)
        for key in keys:
            node = nodes[key]
            function, payload = self._pack(node)
            arguments.append(payload)
            call = functions.setdefault(function if type(function) is bytes else id(function), len(pickled))
            if call == len(pickled):
                pickled.append(function)
            calls.append(call)
            needs: list[int] = []
            if node.dependencies:
                linked = True
                for dependency in node.dependencies:
                    position = positions.get(dependency)
                    if position is None:
                        name = wire.get(dependency)
                        if name is None:
                            name = to_wire(dependency)
                        position = external.setdefault(name, count + len(external))
                    needs.append(position)
            dependencies.append(needs)
        wire_keys = [wire[key] for key in keys]
        wanted = [position for position, key in enumerate(wire_keys) if key in self._wanted]
        return SubmitGraph(
            self._graph,
            pickled,
            wire_keys,
            arguments,
            calls=calls if len(functions) > 1 else [],
            dependencies=dependencies if linked else [],
            external=list(external),
            option_of=[] if table.uniform else [table.position(key) for key in keys],
            options=[] if table.is_default else list(table.options),
            wanted=None if len(wanted) == count else wanted,
            more=more,
            submitting_task=self._task,
        )

    def _pack(self, node: GraphNode) -> tuple[Payload, Payload]:
        """The pickled function and arguments of one task."""
        call = call_of(node)
        if call is None:
            return RUN_NODE, self._pack_node(node)
        function, args, kwargs = call
        pickled = self._by_identity.get(id(function))
        if pickled is None:
            # the nodes keep their functions alive, so identities stay unique
            pickled = pickle_function(function, self._in_process)
            self._by_identity[id(function)] = pickled
        if not kwargs and not node.dependencies and all(map(is_simple, args)):
            return pickled, as_payload(self._pickle((args, NO_KWARGS)))
        return pickled, dump_arguments(function, args, kwargs, self._in_process)

    def _pack_node(self, node: GraphNode) -> Payload:
        if self._in_process:
            return hand_over(((node,), NO_KWARGS))
        try:
            return dumps(((node,), NO_KWARGS))
        except TypeError:
            function = getattr(node, "func", type(node))
            dump_arguments(function, getattr(node, "args", (node,)), getattr(node, "kwargs", NO_KWARGS))
            raise
