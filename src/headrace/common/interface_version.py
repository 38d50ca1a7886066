"""The release of the peer whose interface this one follows."""

from __future__ import annotations

#: `distributed.__version__`, which libraries compare.
API_VERSION = "2026.8.0"
