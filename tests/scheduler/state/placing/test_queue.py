"""The queue against a sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.scheduler.state.placing.queue import TaskQueue
from headrace.scheduler.state.records.task_table import TaskTable
from headrace.scheduler.state.records.tasks import TaskState


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_smallest_priority_first_then_first_come(operations: list[tuple[int, bool]]) -> None:
    queue, table = TaskQueue(), TaskTable()
    model: list[TaskState] = []
    for number, (priority, push) in enumerate(operations):
        if push or not model:
            task = table.new(number)
            task.priority = (0, 0, priority)
            task.state = "queued"
            queue.push(task)
            model.append(task)
        else:
            first = min(model, key=lambda task: (task.priority, task.key))
            assert queue.peek() is first
            model.remove(first)
            first.state = "processing"
            queue.left()
        assert len(queue) == len(model)
        assert list(queue) == sorted(model, key=lambda task: (task.priority, task.key))
        assert all(task in queue for task in model)
    if not model:
        assert queue.peek() is None
