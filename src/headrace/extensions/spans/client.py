"""The user's half of spans: an annotation that tasks carry. Needs no client."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import dask


@contextmanager
def span(*tags: str) -> Iterator[str]:
    """Tasks that are made in this context belong to a span, and so to those around it; yields the span's id.

    Several tags are nested spans. A span that is opened again under the same name is another one. Inside a task,
    `dask.get_annotations().get("span")` tells the spans that it belongs to, and those of the tasks that it submits.

    Args:
        tags: names, outermost first.

    Raises:
        ValueError: there is no tag.
        TypeError: a tag is not text.

    Examples:
        >>> with span("my workflow") as span_id:  # doctest: +SKIP
        ...     client.submit(len, "abc").result()
        >>> client.cluster.scheduler.extensions["spans"].spans[span_id]  # doctest: +SKIP
    """
    if not tags:
        raise ValueError("Must specify at least one span tag")
    for tag in tags:
        if not isinstance(tag, str):
            raise TypeError(f"a span's tag must be text, not {type(tag).__name__}: {tag!r}")
    around = dask.get_annotations().get("span") or {"name": (), "ids": ()}
    ids = tuple(str(uuid.uuid4()) for _ in tags)
    annotation = {"name": (*around["name"], *tags), "ids": (*around["ids"], *ids)}
    with dask.annotate(span=annotation):
        yield ids[-1]
