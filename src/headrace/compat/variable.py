"""`distributed.variable`."""

from __future__ import annotations

from headrace.extensions.variables import Variable
from headrace.extensions.variables.scheduler import VariableExtension

__all__ = ["Variable", "VariableExtension"]
