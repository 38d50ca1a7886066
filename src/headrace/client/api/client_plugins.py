"""Plugins that the client itself registers: uploaded files, and what workers log."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any

from .client_base import ClientBase

if TYPE_CHECKING:
    from headrace.diagnostics.plugin import ForwardLoggingPlugin, SchedulerUploadFile, UploadFile

#: What forwarded log records are published under; the logger's name is added.
FORWARD_TOPIC = "forward-logging"


class PluginMethods(ClientBase):
    """Methods that work by plugins."""

    def upload_file(self, filename: str, load: bool = True) -> Any:
        """Bring a file to all workers, later ones included, and to the scheduler.

        Args:
            filename: a module, egg or zip, which is imported there, or any other file.
            load: whether to import it.

        Returns:
            What each worker answered.

        Raises:
            OSError: it cannot be read.
            BaseException: what it raised as it was imported on a worker.
        """
        from headrace.diagnostics.plugin import SchedulerUploadFile, UploadFile

        on_workers, on_scheduler = UploadFile(filename, load), SchedulerUploadFile(filename, load)
        name = f"{filename}-{uuid.uuid4()}"
        if self.asynchronous:
            return self._upload_file(on_workers, on_scheduler, name)
        self._whole_client._register_plugin_as(on_scheduler, name, "scheduler")
        # under the file's name: the next upload of it takes this one's place on workers that come later
        return self._whole_client._register_plugin_as(on_workers, None, "worker")

    async def _upload_file(self, on_workers: UploadFile, on_scheduler: SchedulerUploadFile, name: str) -> Any:
        await self._whole_client._register_plugin_as(on_scheduler, name, "scheduler")
        return await self._whole_client._register_plugin_as(on_workers, None, "worker")

    def forward_logging(self, logger_name: str | None = None, level: int | str = logging.NOTSET) -> Any:
        """Have what a logger on the workers logs logged here as well, by the logger of the same name.

        Args:
            logger_name: of the logger; None for all.
            level: from which level on.
        """
        from headrace.diagnostics.plugin import ForwardLoggingPlugin

        topic = _topic(logger_name)
        plugin = ForwardLoggingPlugin(logger_name, level, topic)
        return self.sync(self._forward_logging, plugin, topic)

    async def _forward_logging(self, plugin: ForwardLoggingPlugin, topic: str) -> Any:
        self._whole_client._event_handlers[topic] = _log_here
        await self._call("subscribe_topic", topic=topic, client=self.id)
        from headrace.protocol import dumps

        return await self._whole_client._register_remote_plugin("register_worker_plugin", dumps(plugin), topic, False)

    def unforward_logging(self, logger_name: str | None = None) -> Any:
        """Undo `forward_logging`.

        Raises:
            ValueError: that logger is not forwarded.
        """
        return self.sync(self._unforward_logging, _topic(logger_name))

    async def _unforward_logging(self, topic: str) -> None:
        if topic not in self._whole_client._event_handlers:
            raise ValueError(f"nothing is forwarded under {topic!r}")
        del self._whole_client._event_handlers[topic]
        await self._call("unsubscribe_topic", topic=topic, client=self.id)
        await self._whole_client._unregister_plugin("unregister_worker_plugin", topic)


def _topic(logger_name: str | None) -> str:
    return f"{FORWARD_TOPIC}-{logger_name}"


def _log_here(event: tuple[float, dict[str, object]]) -> None:
    """Log a forwarded record as if it had been logged here."""
    record = logging.makeLogRecord(event[1])
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
