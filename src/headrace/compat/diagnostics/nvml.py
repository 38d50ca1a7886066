"""`distributed.diagnostics.nvml`: what is known of graphics cards here."""

from __future__ import annotations

from headrace.graphics_cards import (
    CudaContext,
    CudaDeviceInfo,
    device_get_count,
    get_device_index_and_uuid,
    get_device_mig_mode,
    has_cuda_context,
    init_once,
    is_initialized,
    one_time,
    real_time,
)

__all__ = [
    "CudaContext",
    "CudaDeviceInfo",
    "device_get_count",
    "get_device_index_and_uuid",
    "get_device_mig_mode",
    "has_cuda_context",
    "init_once",
    "is_initialized",
    "one_time",
    "real_time",
]
