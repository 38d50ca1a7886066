"""`distributed.versions`."""

from __future__ import annotations

from headrace.common.package_versions import (
    VersionMismatchWarning,
    error_message,
    get_package_info,
    get_system_info,
    get_versions,
)

__all__ = ["VersionMismatchWarning", "error_message", "get_package_info", "get_system_info", "get_versions"]
