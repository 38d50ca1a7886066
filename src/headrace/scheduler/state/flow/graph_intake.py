"""Graphs in: a client's columns become tasks, and those that can run start.

A message is checked before anything of it is taken, so that a bad one leaves no trace but the refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.retry_policy import policy_of, problem_of_policy
from headrace.messages.base import NO_OPTIONS
from headrace.messages.client import LOST_DEPENDENCIES, CancelledKeys, GraphRefused, SubmitGraph
from headrace.scheduler.state.records.clients import OpenGraph
from headrace.scheduler.state.records.computations import Computation
from headrace.scheduler.state.records.tasks import TaskState, link
from headrace.scheduler.state.transitions.forgetting import let_go_of_function
from headrace.scheduler.state.transitions.running import begin_waiting

from .interest import add_interest, desire_keys, release_tasks

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.clients import ClientState
    from headrace.scheduler.state.transitions.engine import Recommendations

#: Groups of a computation after which another begins: a cluster that is never without work would keep them all.
MOST_GROUPS = 1000


def problem_of(message: SubmitGraph) -> str | None:
    """Find what is wrong with the columns of a submission, or `None`.

    A dependency must stand before its dependents: that rules out cycles, which clients report with their keys.
    """
    size = len(message.keys)
    if not message.functions and size:
        return "a submission needs at least one function"
    for function in message.functions:
        if type(function) is not bytes and not hasattr(function, "nbytes"):
            return f"a function must be a payload, not {type(function).__name__}"
    for name, bound in (("calls", len(message.functions)), ("option_of", len(message.options))):
        column = getattr(message, name)
        if column and (len(column) != size or min(column) < 0 or max(column) >= bound):
            return f"column {name!r} does not fit {size} tasks and {bound} entries"
    for name in ("arguments", "dependencies", "rank"):
        column = getattr(message, name)
        if len(column) != size and (column or name == "arguments"):
            return f"column {name!r} has {len(column)} entries for {size} tasks"
    if message.wanted and (min(message.wanted) < 0 or max(message.wanted) >= size):
        return "column 'wanted' names a task that is not there"
    for options in message.options:
        policy = policy_of(options.annotations)
        if policy is not None and (problem := problem_of_policy(policy)) is not None:
            return problem
    end = size + len(message.external)
    for position, needed in enumerate(message.dependencies):
        for index in needed:
            if not (0 <= index < position or size <= index < end):
                return f"task {message.keys[position]!r} depends on itself, a later task, or one that is not there"
    return None


def take_graph(state: SchedulerCore, client: ClientState, message: SubmitGraph) -> Recommendations:
    """Record the tasks of a submission, or of a part of one, and recommend those that can run."""
    problem = problem_of(message)
    if problem is not None:
        state.send(client, GraphRefused(message.keys, problem))
        return _close(state, client, message)
    external: list[TaskState] = []
    for key in message.external:
        task = state.tasks.get(key)
        if task is None:
            text = f"They depend on {key!r}, which the scheduler does not know (any more)."
            state.send(client, CancelledKeys(message.keys, LOST_DEPENDENCIES, text))
            return _close(state, client, message)
        external.append(task)
    generation, offset = _priority_base(state, client, message)
    listed, created, described = _make_tasks(state, message, generation, offset)
    if message.dependencies:
        _connect(message, listed, created + described if described else created, external)
    _note_computation(state, client, message, created)
    told = _mark_wanted(state, client, message, listed, created)
    if state.graph_observer is not None:
        state.graph_observer(client, message)
    recommendations = _start(state, created)
    recommendations.update(told)
    if not message.more:
        recommendations.update(_close(state, client, message))
    return recommendations


def _start(state: SchedulerCore, created: list[TaskState]) -> Recommendations:
    """Make new tasks wait, dependents before what they need, so that what nobody needs is seen and not run.

    A short way: released → waiting without the row's function, for tasks that need nothing and so have nobody to ask.

    Returns:
        What can run, in the order of the graph.
    """
    recommendations: Recommendations = {}
    ready: list[TaskState] = []
    for task in reversed(created):
        if not task.who_wants and not task._waiters:
            recommendations[task] = "forgotten" if not task._dependents else "released"
            continue
        if recommendations:
            recommendations.pop(task, None)
        if not task._dependencies and state.short_ways:
            state.move(task, "waiting")
            ready.append(task)
            continue
        begin_waiting(state, task, recommendations)
        if recommendations.get(task) == "processing":
            del recommendations[task]
            ready.append(task)
    ready.reverse()
    recommendations.update(dict.fromkeys(ready, "processing"))
    return recommendations


def _priority_base(state: SchedulerCore, client: ClientState, message: SubmitGraph) -> tuple[float, int]:
    """The generation of a submission, and how many of its tasks came before.

    Submissions of a client within `fifo_timeout` share a generation; a task's own submissions run just before it.
    """
    graph = client.graphs.get(message.graph)
    if graph is None:
        parent = state.tasks.get(message.submitting_task) if message.submitting_task is not None else None
        if parent is not None:
            generation: float = parent.priority[1] - 0.01
        else:
            timeout = message.options[0].fifo_timeout if message.options else NO_OPTIONS.fifo_timeout
            if state.now - client.last_submission > timeout:
                state.generation += 1
            client.last_submission = state.now
            generation = state.generation
        if not message.more:
            return generation, 0
        graph = client.graphs[message.graph] = OpenGraph(generation)
    offset = graph.size
    graph.size += len(message.keys)
    return graph.generation, offset


def _make_tasks(
    state: SchedulerCore, message: SubmitGraph, generation: float, offset: int
) -> tuple[list[TaskState], list[TaskState], list[TaskState]]:
    """All tasks of the message, those of them that were not known as computable before, and those whose data is there.

    The last are data that a client has scattered: should these be lost, they can be computed from now on.
    """
    tasks = state.tasks
    functions = [state.functions.intern(pickled) for pickled in message.functions]
    options = message.options or [NO_OPTIONS]
    calls, option_of, rank = message.calls, message.option_of, message.rank
    listed: list[TaskState] = []
    created: list[TaskState] = []
    described: list[TaskState] = []
    for position, key in enumerate(message.keys):
        task = tasks.get(key)
        if task is None:
            task = tasks.new(key)
        elif task.who_has:
            if task.function is not None or not _is_describable(message, position, task):
                listed.append(task)
                continue
        elif task.function is not None and not _lost_for_good(task):
            listed.append(task)
            continue
        elif task.function is not None:
            let_go_of_function(state, task)
        function = functions[calls[position]] if calls else functions[0]
        chosen = options[option_of[position]] if option_of else options[0]
        if not function.users:
            state.functions.use(function)
        else:
            function.users += 1
        task.function = function
        task.arguments = message.arguments[position]
        if chosen is not NO_OPTIONS:
            task.options = chosen
            if chosen.retries:
                task.rare.retries = chosen.retries
        place = rank[position] if rank else offset + position
        task.priority = (-chosen.priority, generation, place)
        listed.append(task)
        (described if task.who_has else created).append(task)
    return listed, created, described


def _is_describable(message: SubmitGraph, position: int, task: TaskState) -> bool:
    """Whether scattered data may be given what computes them: what needs them already must not be among their needs."""
    return task.state == "memory" and not (task._dependents and message.dependencies and message.dependencies[position])


def _lost_for_good(task: TaskState) -> bool:
    """Whether a task is known that can never run again, so that it is to be made anew."""
    return task.state == "released" and task.has_lost_dependencies


def _connect(
    message: SubmitGraph, listed: list[TaskState], created: list[TaskState], external: list[TaskState]
) -> None:
    """Link new tasks to what they depend on."""
    every = listed + external
    new = set(created)
    for task, needed in zip(listed, message.dependencies, strict=True):
        if not needed or task not in new:
            continue
        dependencies = [every[index] for index in needed]
        task._dependencies = tuple(dependencies)
        group = task.group
        for dependency in dependencies:
            link(task, dependency)
            if dependency.group is not group:
                group.dependencies.add(dependency.group)


def _mark_wanted(
    state: SchedulerCore,
    client: ClientState,
    message: SubmitGraph,
    listed: list[TaskState],
    created: list[TaskState],
) -> Recommendations:
    """Record what the client wants; it is told of what is there already. The rest of an open graph is held."""
    wanted = listed if message.wanted is None else [listed[position] for position in message.wanted]
    known = []
    alone = client.alone
    wants_what = client.wants_what
    old = set(listed).difference(created) if len(created) < len(listed) else ()
    for task in wanted:
        if not task.who_wants and task not in old:
            task.who_wants = alone
            wants_what.add(task)
        else:
            known.append(task.key)
    recommendations = desire_keys(state, client, known) if known else {}
    if message.more and message.wanted is not None:
        held = client.graphs[message.graph].held
        rest = set(wanted)
        for task in listed:
            if task not in rest:
                add_interest(state.holder, task)
                held.append(task)
                if task.state == "released" and task in old:
                    recommendations[task] = "waiting"
    return recommendations


def _close(state: SchedulerCore, client: ClientState, message: SubmitGraph) -> Recommendations:
    """The last part of a submission has come: what was held for it is held no more."""
    graph = client.graphs.pop(message.graph, None)
    return release_tasks(state, state.holder, graph.held) if graph is not None else {}


def _note_computation(
    state: SchedulerCore, client: ClientState, message: SubmitGraph, created: list[TaskState]
) -> None:
    """Add the groups to the current computation; a new one begins when the cluster had nothing to do.

    The parts of a submission belong together, even if workers were done with one before the next came.
    """
    if not created:
        return
    computations = state.computations
    graph = client.graphs.get(message.graph)
    computation = graph.computation if graph is not None else None
    if computation is None:
        if not computations or not state.busy or len(computations[-1].groups) >= MOST_GROUPS:
            computations.append(Computation(f"{message.graph}-{state.transition_counter}", state.shown))
        computation = computations[-1]
        if graph is not None:
            graph.computation = computation
    group = None
    for task in created:
        if task.group is not group:
            group = task.group
            computation.groups.add(group)
            if task.options.annotations and state.span_observer is not None:
                annotation = task.options.annotations.get("span")
                if annotation:
                    state.span_observer(group, annotation, message.code)
    computation.sources.update(message.code)
    if message.options:
        computation.annotations.update(message.options[0].as_annotations())
