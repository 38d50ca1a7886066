"""TaskTable: all known tasks by key, which makes their groups and prefixes as keys come and drops them as keys go."""

from __future__ import annotations

from headrace.common.keys import Key, key_group, key_prefix

from .groups import DEFAULT_DATA_SIZE, TaskGroup, TaskPrefix
from .tasks import TaskState


class TaskTable(dict[Key, TaskState]):
    """All known tasks by key, with their groups and prefixes."""

    def __init__(
        self, default_durations: dict[str, float] | None = None, default_nbytes: int = DEFAULT_DATA_SIZE
    ) -> None:
        super().__init__()
        self.groups: dict[str, TaskGroup] = {}
        self.prefixes: dict[str, TaskPrefix] = {}
        self._default_durations = default_durations or {}
        self._default_nbytes = default_nbytes
        #: what the latest key had before its token, and its group
        self._head = ""
        self._head_group: TaskGroup

    def new(self, key: Key) -> TaskState:
        """Make the record of an unknown key; it is released."""
        group = self._group_of(key)
        task = TaskState(key, group)
        group.entered["released"] += 1
        group.count += 1
        self[key] = task
        return task

    def _group_of(self, key: Key) -> TaskGroup:
        """The group of an unknown key: most times that of the one before, which has the same text before its token."""
        head = ""
        if type(key) is str:
            head, _, token = key.rpartition("-")
            if head and head == self._head and not token.isalpha() and self._head_group.count:
                return self._head_group
            if token.isalpha():
                head = ""
        name = key_group(key)
        group = self.groups.get(name)
        if group is None:
            group = self.new_group(name)
        if head:
            self._head, self._head_group = head, group
        return group

    def new_group(self, name: str) -> TaskGroup:
        prefix_name = key_prefix(name)
        prefix = self.prefixes.get(prefix_name)
        if prefix is None:
            prefix = TaskPrefix(prefix_name, self._default_durations.get(prefix_name, -1.0))
            self.prefixes[prefix_name] = prefix
        group = self.groups[name] = TaskGroup(name, prefix, self._default_nbytes)
        return group

    def forget(self, task: TaskState) -> None:
        """Drop the record of a task, and its group with the group's last task."""
        del self[task.key]
        group = task.group
        group.count -= 1
        if not group.count:
            del self.groups[group.name]
            group.prefix.remove_group(group)
