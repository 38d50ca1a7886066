"""`distributed.protocol.cuda`: the family for objects in the memory of GPUs."""

from __future__ import annotations

from headrace.protocol.families import cuda_dumps, cuda_loads
from headrace.protocol.registered import cuda_deserialize, cuda_serialize

__all__ = ["cuda_deserialize", "cuda_dumps", "cuda_loads", "cuda_serialize"]
