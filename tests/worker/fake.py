"""A scheduler that only does what a test tells it: it takes registrations and shows what workers say."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.comm import Comm
from headrace.messages import FromWorker
from headrace.messages.worker import ComputeTask, DefineFunction, TaskFailed, TaskFinished, WorkerHeartbeat
from headrace.protocol import dumps, dumps_function
from headrace.rpc import RequestServer, Stream


class FakeScheduler:
    """One worker's other end; several may register, and are told apart by name."""

    def __init__(self) -> None:
        self.server = RequestServer(
            {"echo": lambda data=None: data}, {"register-worker": self.register}, name="scheduler"
        )
        self.id = "s"
        self.refusal: str | None = None
        self.slow: asyncio.Event | None = None
        self.plugins: dict[str, Any] = {}
        self.workers: dict[Any, dict[str, Any]] = {}
        self.streams: dict[Any, Stream] = {}
        self.messages: dict[Any, list[Any]] = {}
        self.gone = asyncio.Event()
        self._news = asyncio.Event()
        self._functions: dict[bytes, int] = {}

    async def __aenter__(self) -> FakeScheduler:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*[stream.close() for stream in self.streams.values()])
        await self.server.close_comms()

    @property
    def address(self) -> str:
        return self.server.address

    async def register(self, comm: Comm, name: Any, **details: Any) -> None:
        if self.refusal:
            await comm.write({"status": "error", "message": self.refusal})
            await comm.close()
            return
        if self.slow is not None:
            await self.slow.wait()
        await comm.write({"status": "OK", "heartbeat_interval": 0.05, "id": self.id, "worker_plugins": self.plugins})
        self.workers[name] = details
        self.messages[name] = []

        def on_batch(messages: list[Any]) -> None:
            self.messages[name] += messages
            self._news.set()

        self.streams[name] = Stream(comm, FromWorker, on_batch, lambda error: self.gone.set())

    def compute(self, worker: Any, key: Any, function: Any, *args: Any, **options: Any) -> None:
        """Have a worker compute something; `options` are fields of `ComputeTask`, and `kwargs` for the function."""
        kwargs = options.pop("kwargs", {})
        pickled = dumps_function(function)
        number = self._functions.setdefault(pickled, len(self._functions))
        fields = {"attempt": 1, "priority": (0, 0, 0), "duration": -1.0, "report": True, **options}
        message = ComputeTask(key=key, function=number, arguments=dumps((args, kwargs)), **fields)
        self.streams[worker].send_all([DefineFunction(number, pickled), message])

    def send(self, worker: Any, *messages: Any) -> None:
        self.streams[worker].send_all(messages)

    async def wait(self, worker: Any, kind: type, key: Any = None) -> Any:
        """The next message of a kind (about a key), taken out; others stay."""
        async with asyncio.timeout(10):
            while True:
                for message in self.messages[worker]:
                    if isinstance(message, kind) and (key is None or message.key == key):
                        self.messages[worker].remove(message)
                        return message
                self._news.clear()
                await self._news.wait()

    async def finished(self, worker: Any, key: Any) -> TaskFinished:
        message = await self.wait(worker, (TaskFinished, TaskFailed), key)  # type: ignore[arg-type]
        assert isinstance(message, TaskFinished), message.exception_text + message.traceback_text
        return message

    async def failed(self, worker: Any, key: Any) -> TaskFailed:
        message = await self.wait(worker, (TaskFinished, TaskFailed), key)  # type: ignore[arg-type]
        assert isinstance(message, TaskFailed), message
        return message

    async def heartbeat(self, worker: Any) -> WorkerHeartbeat:
        self.messages[worker] = [m for m in self.messages[worker] if not isinstance(m, WorkerHeartbeat)]
        message = await self.wait(worker, WorkerHeartbeat)
        assert isinstance(message, WorkerHeartbeat)
        return message
