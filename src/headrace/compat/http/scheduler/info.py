"""`distributed.http.scheduler.info`."""

from headrace.http.event_stream import EventStreamHandler as EventstreamHandler
from headrace.http.routes.scheduler_pages import ExceptionsPage as Exceptions
from headrace.http.routes.scheduler_pages import LogsPage as Logs
from headrace.http.routes.scheduler_pages import PlotsHandler as IndividualPlots
from headrace.http.routes.scheduler_pages import TaskPage as Task
from headrace.http.routes.scheduler_pages import TaskStackPage as TaskCallStack
from headrace.http.routes.scheduler_pages import WorkerLogsPage as WorkerLogs
from headrace.http.routes.scheduler_pages import WorkerPage as Worker
from headrace.http.routes.scheduler_pages import WorkersPage as Workers
from headrace.http.routes.scheduler_pages import WorkerStacksPage as WorkerCallStacks
from headrace.http.routes.scheduler_pages import routes

__all__ = [
    "EventstreamHandler",
    "Exceptions",
    "IndividualPlots",
    "Logs",
    "Task",
    "TaskCallStack",
    "Worker",
    "WorkerCallStacks",
    "WorkerLogs",
    "Workers",
    "routes",
]
