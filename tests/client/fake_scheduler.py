"""A scheduler and worker in one object, to test the client's shell against: runs each task as it arrives."""

from __future__ import annotations

import asyncio
from typing import Any

from dask._task_spec import GraphNode, TaskRef

from headrace.client.packing.graph_nodes import RUN_NODE
from headrace.common.keys import from_wire
from headrace.messages import FromClient
from headrace.messages.client import (
    CancelKeys,
    CancelledKeys,
    CloseClient,
    DesireKeys,
    KeyInMemory,
    ReleaseKeys,
    SubmitGraph,
    TaskErred,
    TaskRetried,
)
from headrace.protocol import Frames, Serialize, dumps, dumps_exception, loads, loads_function, unwrap
from headrace.rpc import RequestServer, Stream

SMALL = 8192


def resolve(value: Any, data: dict[Any, Any]) -> Any:
    if isinstance(value, TaskRef):
        return data[value.key]
    if isinstance(value, GraphNode):
        return value({key: data[key] for key in value.dependencies})
    if type(value) in (list, tuple, set):
        return type(value)(resolve(item, data) for item in value)
    if type(value) is dict:
        return {key: resolve(item, data) for key, item in value.items()}
    return value


def run_node(node: Any) -> Any:
    return node() if isinstance(node, GraphNode) else node


class FakeScheduler:
    """Runs tasks at once, in order; `hold` keeps them until `run_held`."""

    def __init__(self) -> None:
        self.data: dict[Any, Any] = {}
        self.errors: dict[Any, Exception] = {}
        self.messages: list[Any] = []
        self.streams: dict[str, Stream] = {}
        self.hold = False
        self.held: list[SubmitGraph] = []
        self.metadata: dict[str, Any] = {}
        #: operations that it may be asked for twice; None to say nothing of that, as an older one does
        self.repeatable: list[str] | None = None
        self.server = RequestServer(
            {
                "who_has": self.who_has,
                "gather": self.gather,
                "get_data": self.get_data,
                "update_data": self.update_data,
                "ncores": lambda workers=None: {self.server.address: 2},
                "ncores_running": lambda workers=None: {self.server.address: 2},
                "begin_scatter": lambda keys, client, workers=None: {
                    "threads": {self.server.address: 2},
                    "scattering": 1,
                },
                "identity": lambda n_workers=-1: {"type": "Scheduler", "address": self.server.address},
                "set_metadata": lambda keys, value: self.metadata.__setitem__(keys[0], value),
                "get_metadata": lambda keys, default: self.metadata.get(keys[0], default),
                "run_function": self.run_function,
                "replicate": lambda **_: {"status": "OK"},
                "retry": self.retry,
            },
            {"register-client": self.register},
            name="scheduler",
        )

    async def __aenter__(self) -> FakeScheduler:
        await self.server.listen("tcp://127.0.0.1:0")
        return self

    async def __aexit__(self, *_: object) -> None:
        for stream in list(self.streams.values()):
            stream.abort()
        await self.server.close_comms()

    @property
    def address(self) -> str:
        return self.server.address

    async def register(self, comm: Any, client: str, versions: Any, returning: bool) -> None:
        welcome = {"status": "OK", "id": "fake"}
        await comm.write(welcome if self.repeatable is None else {**welcome, "repeatable": self.repeatable})
        ended = asyncio.Event()

        def on_batch(batch: list[Any]) -> None:
            for message in batch:
                self.messages.append(message)
                self.react(stream, message)

        stream = self.streams[client] = Stream(comm, FromClient, on_batch, lambda error: ended.set())
        await ended.wait()
        self.streams.pop(client, None)

    def react(self, stream: Stream, message: Any) -> None:
        if isinstance(message, SubmitGraph):
            if self.hold:
                self.held.append(message)
            else:
                self.run(stream, message)
        elif isinstance(message, ReleaseKeys):
            for key in message.keys:
                self.data.pop(key, None)
        elif isinstance(message, CancelKeys):
            stream.send(CancelledKeys(message.keys, message.reason))
        elif isinstance(message, DesireKeys) and not message.until_done:
            for key in message.keys:
                if key in self.data:
                    stream.send(KeyInMemory(key, type(self.data[key]).__name__))
                elif key not in self.errors:
                    stream.send(CancelledKeys([key], "unknown"))
        elif isinstance(message, CloseClient):
            stream.flush()
            asyncio.get_running_loop().create_task(stream.close())

    def run_held(self) -> None:
        held, self.held, self.hold = self.held, [], False
        for stream in self.streams.values():
            for message in held:
                self.run(stream, message)

    def run(self, stream: Stream, message: SubmitGraph) -> None:
        for position, key in enumerate(message.keys):
            pickled = message.functions[message.calls[position] if message.calls else 0]
            try:
                function = run_node if pickled == RUN_NODE else loads_function(pickled)
                args, kwargs = loads(message.arguments[position])
                if message.dependencies and message.dependencies[position]:
                    args, kwargs = resolve((args, kwargs), {from_wire(key): self.data[key] for key in self.data})
                self.data[key] = function(*args, **kwargs)
            except Exception as error:
                self.errors[key] = error
                dumped = dumps_exception(error)
                stream.send(TaskErred(key, dumped.exception, dumped.traceback, None, dumped.exception_text, ""))
            else:
                payload = dumps(self.data[key])
                small = not isinstance(payload, Frames) and len(payload) < SMALL
                if message.wanted is None or position in message.wanted:
                    stream.send(KeyInMemory(key, type(self.data[key]).__name__, payload if small else None))

    def retry(self, keys: list[Any], client: str) -> list[Any]:
        erred = [key for key in keys if key in self.errors]
        for stream in self.streams.values():
            stream.send_all([TaskRetried(key) for key in erred])
        return erred

    def who_has(self, keys: Any = None) -> dict[Any, list[str]]:
        return {key: [self.address] for key in (self.data if keys is None else keys) if key in self.data}

    def gather(self, keys: list[Any]) -> dict[str, Any]:
        return {"status": "OK", "data": {key: Serialize(self.data[key]) for key in keys if key in self.data}}

    get_data_calls = 0

    def get_data(self, keys: list[Any], who: Any) -> dict[str, Any]:
        self.get_data_calls += 1
        return self.gather(keys)

    def update_data(self, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        if data is not None:
            self.data.update({key: unwrap(value) for key, value in data.items()})
            return {"status": "OK", "nbytes": dict.fromkeys(data, 1)}
        return {"status": "OK"}

    def run_function(self, function: Any, args: Any, kwargs: Any, wait: bool) -> dict[str, Any]:
        return {"status": "OK", "result": Serialize(loads(function)(*loads(args), **loads(kwargs)))}
