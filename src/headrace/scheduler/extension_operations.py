"""Registration of an extension's operations, so that a user's own extension may take the place of one of ours."""

from __future__ import annotations

from headrace.rpc.server import Operation

from .shell import HasShell, Operations, Shell, shell_of


def register_operations(scheduler: HasShell | Shell, owner: str, operations: Operations) -> None:
    """Have an extension answer operations.

    An extension of ours is made with the Shell, and a name that is taken is a mistake then. A user may make a
    documented class of extension, or a subclass, with the public Scheduler that has one already: the later one answers
    from then on.

    Args:
        owner: the extension, for the error.
        operations: by name; a plain function means `Operation(function)`.

    Raises:
        ValueError: an extension of ours registers an operation that is registered already.
    """
    shell = shell_of(scheduler)
    free = dict(operations)
    if scheduler is not shell:
        for name in [name for name in operations if name in shell.server.handlers]:
            operation = free.pop(name)
            shell.server.handlers[name] = operation.function if isinstance(operation, Operation) else operation
    shell.add_operations(owner, free)
