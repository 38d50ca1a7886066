"""Counts how far tasks are, by group, from the transitions of a scheduler's tasks. Pure: no clock, no loop.

Cheap enough to be called at every transition while somebody watches: a lookup or two for tasks of others. Nothing here
decides when or to whom anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from headrace.common.keys import Key, from_wire, key_group, key_prefix
from headrace.scheduler.state.records.tasks import TaskState

#: Groups listed one by one; tasks of later ones are counted in one more.
GROUPS = 200
#: Errors that are told of each group, and the characters of each.
ERRORS, ERROR_LENGTH = 3, 600
OTHERS = "(others)"
#: States in which a task is about to be computed.
_UNDER_WAY = ("waiting", "queued", "no-worker", "processing")

GroupOf = Callable[[TaskState], str]


class GroupCount:
    """Counts of the tasks of a group, by how far they are.

    Attributes:
        total: all tasks.
        done: tasks that were computed.
        erred: tasks that failed, or need one that did.
        lost: tasks that were cancelled, or that nobody wants any more.
        processing: tasks that are on a worker, to be run there.
        before: tasks that were done when they were first looked at.
    """

    __slots__ = ("before", "done", "erred", "lost", "name", "processing", "total")

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = self.done = self.erred = self.lost = self.processing = self.before = 0

    def numbers(self) -> tuple[Any, ...]:
        """The counts as they are sent: name, total, done, erred, lost, processing, before."""
        return (self.name, self.total, self.done, self.erred, self.lost, self.processing, self.before)


class Tally:
    """Counts given tasks and all that they need.

    Args:
        group_of: names the group of a task.
        complete: count tasks that are done already as well.
        on_change: called (without arguments) after each change.

    Attributes:
        groups: by name, in the order in which they were found.
        coming: keys that are wanted and not known to the scheduler yet.
        arrived: tasks that have come to be known, until `take_arrived`.
    """

    def __init__(self, group_of: GroupOf, complete: bool, on_change: Callable[[], None]) -> None:
        self._group_of = group_of
        self._complete = complete
        self._on_change = on_change
        self.groups: dict[str, GroupCount] = {}
        self.coming: set[Key] = set()
        self.arrived: list[TaskState] = []
        self._targets: set[Key] = set()
        self._targets_left = 0
        self._pending: dict[Key, GroupCount] = {}
        self._erred: dict[Key, GroupCount] = {}
        self._done: dict[Key, GroupCount] = {}
        self._released: list[TaskState] = []
        #: by the key of the task that failed, not of those that share its fate: a group it spoils, and the text
        self._errors: dict[Key, tuple[GroupCount, str]] = {}
        self._all_told = False

    @property
    def finished(self) -> bool:
        """True once all wanted keys have been named, and their tasks have ended in some way."""
        return self._all_told and not self._targets_left

    def want(self, keys: Iterable[Key], tasks: dict[Key, TaskState]) -> None:
        """Count these as well, once `take_arrived` has looked at them and at their dependencies."""
        for key in keys:
            if key in self._targets:
                continue
            self._targets.add(key)
            self._targets_left += 1
            task = tasks.get(key)
            if task is None:
                self.coming.add(key)
            else:
                self.arrived.append(task)

    def give_up_coming(self) -> None:
        """Count keys that the scheduler does not know by now as lost; no more will be wanted."""
        self._all_told = True
        for key in self.coming:
            group = self._group(key_prefix(key_group(key)))
            group.total += 1
            group.lost += 1
            self._targets_left -= 1
        self.coming.clear()

    def take_arrived(self, limit: int) -> bool:
        """Look at some of the tasks that have arrived, and at their dependencies; between events of the scheduler only.

        Returns:
            Whether there are more.
        """
        arrived = self.arrived
        for _ in range(limit):
            if not arrived:
                break
            task = arrived.pop()
            if self._knows(task.key):
                continue
            if self._add(task):
                arrived.extend(task._dependencies)
        for task in self._released:
            if task.state == "released" and task.key in self._pending:
                self._settle(task.key, "lost")
        self._released.clear()
        return bool(arrived)

    def _knows(self, key: Key) -> bool:
        return key in self._pending or key in self._done or key in self._erred

    def _add(self, task: TaskState) -> bool:
        """Count a task as it is now; returns whether its dependencies count as well."""
        key, state = task.key, task.state
        ended = state not in _UNDER_WAY
        if ended and not self._complete and state not in ("erred", "forgotten"):
            # known, so that it is not looked at again
            self._done[key] = _UNCOUNTED
            self._targets_left -= key in self._targets
            return False
        group = self._group(self._group_of(task))
        group.total += 1
        self._pending[key] = group
        if state == "forgotten":  # since it arrived
            self._settle(key, "lost")
            return False
        if state == "processing":
            group.processing += 1
        elif state == "erred":
            self._settle(key, "erred")
            self._tell_error(group, task)
        elif ended:
            group.before += 1
            self._settle(key, "done")
        return True

    def _group(self, name: str) -> GroupCount:
        group = self.groups.get(name)
        if group is None:
            if len(self.groups) >= GROUPS:
                name = OTHERS
            group = self.groups.setdefault(name, GroupCount(name))
        return group

    def observe(self, task: TaskState, start: str, finish: str, now: float = 0.0) -> None:
        """A task went from one state to another."""
        key = task.key
        group = self._pending.get(key)
        if group is None:
            self._observe_other(task, finish)
            return
        if start == "processing":
            group.processing -= 1
        if finish == "processing":
            group.processing += 1
        elif finish == "memory":
            self._settle(key, "done")
        elif finish == "erred":
            self._settle(key, "erred")
            self._tell_error(group, task)
        elif finish == "forgotten":
            self._settle(key, "lost")
        elif finish == "released":
            self._released.append(task)
        else:
            return
        self._on_change()

    def _observe_other(self, task: TaskState, finish: str) -> None:
        """Note the move of a task that is not pending: one of others, one not looked at yet, or one begun again."""
        key = task.key
        if key in self.coming:
            self.coming.discard(key)
            self.arrived.append(task)
        elif finish in _UNDER_WAY and key in self._erred:
            group = self._erred.pop(key)
            group.erred -= 1
            self._errors.pop(key, None)
            self._begin_again(key, group, finish)
        elif finish in _UNDER_WAY and key in self._targets and key in self._done:
            group = self._done.pop(key)
            if group is _UNCOUNTED:
                group = self._group(self._group_of(task))
                group.total += 1
            else:
                group.done -= 1
            self._begin_again(key, group, finish)
        else:
            return
        self._on_change()

    def _begin_again(self, key: Key, group: GroupCount, state: str) -> None:
        self._pending[key] = group
        self._targets_left += key in self._targets
        group.processing += state == "processing"

    def _settle(self, key: Key, how: str) -> None:
        group = self._pending.pop(key)
        self._targets_left -= key in self._targets
        if how == "done":
            group.done += 1
            self._done[key] = group
        elif how == "erred":
            group.erred += 1
            self._erred[key] = group
        else:
            group.lost += 1
            self._done[key] = _UNCOUNTED

    def _tell_error(self, group: GroupCount, task: TaskState) -> None:
        """Keep the text of a failure, once, with the task that failed if that is counted."""
        culprit = task.exception_blame or task
        if len(self._errors) < GROUPS * ERRORS and (culprit is task or culprit.key not in self._errors):
            self._errors[culprit.key] = (group, culprit.exception_text[:ERROR_LENGTH])

    def snapshot(self, running: int) -> dict[str, Any]:
        """The message for a client that watches.

        Args:
            running: how many tasks of anybody run in the cluster now.
        """
        errors: dict[str, list[tuple[str, str]]] = {}
        for key, (group, text) in self._errors.items():
            told = errors.setdefault(group.name, [])
            if len(told) < ERRORS:
                told.append((str(from_wire(key)), text))
        return {
            # found from the ends downwards, and told in the order of the work
            "groups": [group.numbers() for group in reversed(self.groups.values())],
            "coming": len(self.coming),
            "errors": errors,
            "running": running,
            "finished": self.finished,
        }


#: Stands for the group of tasks that are not counted.
_UNCOUNTED = GroupCount("")
