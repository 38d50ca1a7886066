"""`distributed.publish`."""

from __future__ import annotations

from headrace.client.api.datasets_mapping import Datasets
from headrace.extensions.publish.scheduler import PublishedDataset, PublishExtension

__all__ = ["Datasets", "PublishExtension", "PublishedDataset"]
