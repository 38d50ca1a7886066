"""`distributed.preloading`: `headrace.preloading`, and a check for the command lines of others."""

from __future__ import annotations

from collections.abc import Sequence

import click

from headrace.common.facade import names_before

__getattr__ = names_before(__name__, "headrace.preloading")


def validate_preload_argv(ctx: click.Context, param: object, value: Sequence[str]) -> Sequence[str]:
    """A click callback for arguments that are meant for preloads: there must be one.

    Raises:
        click.UsageError: there is none, so that the arguments are nobody's.
    """
    if value and not ctx.params.get("preload"):
        plural = "s" if len(value) > 1 else ""
        raise click.UsageError(f"Got unexpected extra argument{plural}: ({' '.join(map(str, value))})", ctx=ctx)
    return value
