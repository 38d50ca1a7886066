"""Data between workers: fetches what the core decides to fetch, and serves what others ask for, within limits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace import config
from headrace.clock import measured
from headrace.comm import Comm
from headrace.common.keys import Key, from_wire
from headrace.containment import contained, described, log_raised
from headrace.exceptions import MessageTooLargeError, SerializationError
from headrace.messages.spending import Spent, spend
from headrace.protocol import Serialize, Serialized, unwrap
from headrace.protocol.families import known_families
from headrace.protocol.load_errors import loading_error
from headrace.protocol.marks import SerializeBy, open_by_families
from headrace.protocol.serialization_context import transfer_context
from headrace.rpc import NO_REPLY, ConnectionPool, PatientCalls

from .execution.executor import failure
from .execution.result_sizes import nbytes_of, type_name_of
from .memory import SpilledValues
from .state.effects import GatherData
from .state.events import BusyOver, DataDropped, ExecuteFailed, GatherBusy, GatherDone, GatherFailed

if TYPE_CHECKING:
    from .server import WorkerServer

logger = logging.getLogger("distributed.worker")

#: Seconds after which a busy peer is asked again.
BUSY_PAUSE = 0.15
#: Transfers of fewer bytes measure the round trip and not the bandwidth.
TELLING_BYTES = 1_000_000
#: Share of the memory limit below which it makes no difference to it when something is sent.
LARGE_FRACTION = 0.05


class Transfers:
    """Both directions of one worker's transfers.

    Attributes:
        incoming_limit: requests of others that are answered at a time; beyond it the answer is "busy".
        outgoing_count, outgoing_total: answers under way, and so far; `outgoing_bytes` those under way have.
        bandwidth: bytes per second of late, from transfers that are large enough to tell; `measured` is their number.
        bandwidth_workers, bandwidth_types: of those since the last heartbeat, by peer and by type of what came, the sum
            of their speeds and how many there were.
        sent, received: bytes so far.
    """

    def __init__(self, worker: WorkerServer, incoming_limit: int) -> None:
        self._worker = worker
        self.incoming_limit = incoming_limit
        self.outgoing_count = 0
        self.outgoing_bytes = 0
        self.outgoing_total = 0
        self.bandwidth = float(config.parse_bytes(config.get("distributed.scheduler.bandwidth", 100_000_000)))
        self.bandwidth_workers: dict[str, tuple[float, int]] = {}
        self.bandwidth_types: dict[str, tuple[float, int]] = {}
        self.measured = 0
        self.sent = 0
        self.received = 0
        self._serializers: list[str] | None = None
        self._deserializers: list[str] | None = None
        self.pool = ConnectionPool(deserialize=False, connection_args=worker.connection_args)
        self.calls = PatientCalls(self.pool)

    def choose_families(self, serializers: Iterable[str] | None, deserializers: Iterable[str] | None) -> None:
        """Have values from peers serialized by certain families.

        Args:
            serializers: names of the families by which peers are to serialize, in order of preference.
            deserializers: of those from which values are taken; by default the same.

        Raises:
            ValueError: a family that is not registered in this process.
        """
        self._serializers = None if serializers is None else known_families(serializers)
        self._deserializers = self._serializers if deserializers is None else known_families(deserializers)

    # what we fetch

    async def fetch(self, request: GatherData) -> None:
        """Ask a peer; the answer goes to the core as an event."""
        worker = self._worker
        start, began = time.perf_counter(), time.time()
        types: set[str] = set()
        spent: Spent = {}
        try:
            reply = await self._request(request.worker, request.keys)
            spend(spent, "network", time.perf_counter() - start)
            if reply["status"] == "busy":
                self._note_gather({}, "busy", start)
                worker.take(GatherBusy(request.worker))
                return
            done = await self._store(request.worker, reply["data"], types, spent)
        except OSError as error:
            logger.info("Could not fetch data from %s: %s", request.worker, error)
            self._note_gather({}, "failed", start)
            worker.take(GatherFailed(request.worker))
            return
        except BaseException as raised:  # without an answer, nothing would be asked of that peer any more
            raised = log_raised(logger, raised, "What came from %s could not be taken", request.worker, awaited=True)
            now = time.time()
            done = GatherDone(
                request.worker, {}, {key: failure(key, raised, None, now, now, 0) for key in request.keys}
            )
            reply = {}
        done.broken.update(reply.get("broken", {}))
        seconds = time.perf_counter() - start
        done.start, done.stop = began, began + seconds
        nbytes = sum(done.data.values())
        self._note_gather(spent, "other", start)
        worker.note_received(request.worker, done.data, nbytes, began, seconds)
        if nbytes > TELLING_BYTES:
            self._measure(request.worker, types, nbytes / seconds)
        worker.take(done)

    def _note_gather(self, spent: Spent, rest: str, start: float) -> None:
        """Count what fetching has taken since `start`; the seconds that are not among `spent` as `rest`."""
        spend(spent, rest, max(0.0, time.perf_counter() - start - sum(spent.values())))
        self._worker.activities.add_all("gather-dep", spent)

    def _measure(self, peer: str, types: set[str], speed: float) -> None:
        """Note the speed of a transfer, in bytes per second; by type if all that came is of one (documented policy)."""
        self.measured += 1
        self.bandwidth += 0.05 * (speed - self.bandwidth)
        _add(self.bandwidth_workers, peer, speed)
        if len(types) == 1:
            _add(self.bandwidth_types, types.pop(), speed)

    def tell_bandwidth(self) -> dict[str, Any]:
        """Bandwidths for a heartbeat, by their documented names."""
        return {
            "total": self.bandwidth,
            "workers": dict(self.bandwidth_workers),
            "types": dict(self.bandwidth_types),
            "measured": self.measured,
        }

    def bandwidth_told(self) -> None:
        """A heartbeat has told it: begin anew."""
        self.bandwidth_workers.clear()
        self.bandwidth_types.clear()

    async def _request(self, address: str, keys: list[Key]) -> dict[str, Any]:
        """A peer's reply; with `broken` for the values that it could not pickle."""
        try:
            wanted = {} if self._serializers is None else {"serializers": self._serializers}
            return dict(await self.calls.call(address, "get_data", keys=keys, who=self._worker.address, **wanted))
        except OSError:
            raise
        except Exception as error:
            if len(keys) == 1:
                now = time.time()
                broken = failure(keys[0], error, None, now, now, 0)
                broken.unsent = isinstance(error, SerializationError | MessageTooLargeError)
                return {"status": "OK", "data": {}, "broken": {keys[0]: broken}}
        joined: dict[str, Any] = {"status": "OK", "data": {}, "broken": {}}
        for key in keys:
            reply = await self._request(address, [key])
            joined["data"].update(reply.get("data", {}))
            joined["broken"].update(reply.get("broken", {}))
        return joined

    def _opened(self, value: object) -> Any:
        return unwrap(value) if self._deserializers is None else open_by_families(value, self._deserializers)

    async def _store(self, address: str, data: dict[Key, Any], types: set[str], spent: Spent) -> GatherDone:
        """Unpickle and keep what came, and add the names of its types; what cannot be unpickled is reported as such."""
        nbytes: dict[Key, int] = {}
        broken: dict[Key, ExecuteFailed] = {}
        for key, value in data.items():
            try:
                value = measured(spent, "deserialize", partial(self._opened, value))
                size = nbytes_of(value)
                self._worker.memory_manager.store(key, value, size)
            except BaseException as raised:
                broken[key] = self._unloadable(key, address, contained(raised))
            else:
                nbytes[key] = size
                types.add(type_name_of(value))
                self.received += size
        return GatherDone(address, nbytes, broken)

    def _unloadable(self, key: Key, address: str, cause: Exception) -> ExecuteFailed:
        error = loading_error(
            f"the value of {from_wire(key)!r}, which came from {address}, cannot be loaded on the worker at "
            f"{self._worker.address}: {described(cause)}",
            cause,
        )
        error.__cause__ = cause
        now = time.time()
        return failure(key, error, cause.__traceback__, now, now, 0)

    def retry_later(self, address: str) -> None:
        """Announce a busy peer to the core after a pause."""
        asyncio.get_running_loop().call_later(BUSY_PAUSE, self._retry, address)

    def _retry(self, address: str) -> None:
        if self._worker.is_running:
            self._worker.take(BusyOver(address))

    async def gather(self, who_has: dict[Key, list[str]]) -> dict[str, Any]:
        """Fetch copies for the scheduler, trying each holder in turn.

        Returns `{"status": "OK"}`, or `"partial-fail"` with the `keys` that nobody had.
        """
        from .state.events import DataStored

        worker = self._worker
        left = {key: list(holders) for key, holders in who_has.items() if key not in worker.data}
        stored: dict[Key, int] = {}
        while left:
            by_holder: dict[str, list[Key]] = {}
            for key, holders in left.items():
                if holders:
                    by_holder.setdefault(holders.pop(), []).append(key)
            if not by_holder:
                break
            answers = await asyncio.gather(*[self._ask(address, keys) for address, keys in by_holder.items()])
            for address, data in zip(by_holder, answers, strict=True):
                done = await self._store(address, data, set(), {})
                stored |= done.data
                for key in done.data:
                    left.pop(key, None)
        if stored:
            worker.take(DataStored(stored))
        return {"status": "partial-fail", "keys": list(left)} if left else {"status": "OK"}

    async def _ask(self, address: str, keys: list[Key]) -> dict[Key, Any]:
        try:
            for _ in range(100):
                reply = await self._request(address, keys)
                if reply["status"] != "busy":
                    return dict(reply["data"])
                await asyncio.sleep(BUSY_PAUSE)
        except OSError as error:
            logger.info("Could not fetch data from %s: %s", address, error)
        return {}

    # what we serve

    async def get_data(
        self, comm: Comm, keys: list[Key], who: str | None = None, serializers: list[str] | None = None, **_: object
    ) -> Any:
        """Answer a request for values; keys that are not here are left out. Peers (`who`) may be told to come later.

        Args:
            serializers: names of the families by which the values are to go, in order of preference.
        """
        worker = self._worker
        if who is not None and self.outgoing_count >= self.incoming_limit:
            return {"status": "busy"}
        data, tasks = worker.data, worker.core.tasks
        held = [key for key in keys if key in data]
        nbytes = sum(tasks[key].get_nbytes() for key in held if key in tasks)
        if who is not None and self.outgoing_count and self._crowded(nbytes):
            return {"status": "busy"}
        values = worker.memory_manager.values_of(held)
        spilled = values if type(values) is SpilledValues else None
        on_disk = (0, 0) if spilled is None else spilled.weight()
        found: dict[Key, Any] = {}
        self.outgoing_count += 1
        self.outgoing_bytes += nbytes
        start, began = time.perf_counter(), time.time()
        spent: Spent = {}
        try:
            if spilled is not None:
                found = await self._pickled(spilled)
            else:
                found = {key: Serialize(value) for key, value in values.items()}
            values.clear()
            if serializers is not None:
                context = transfer_context(worker.address, comm.peer_address)
                found = {key: SerializeBy(value.load(), serializers, context) for key, value in found.items()}
            written = time.perf_counter()
            comm.spent = spent
            await comm.write({"status": "OK", "data": found})  # here, so that the limit covers the sending
            spend(spent, "network", max(0.0, time.perf_counter() - written - _seconds(spent)))
        except SerializationError as error:
            raise self._cannot_send(found, error) from error
        except MessageTooLargeError as error:
            names = ", ".join(repr(from_wire(key)) for key in list(found)[:5])
            raise MessageTooLargeError(f"the result of the task {names} cannot be sent: {error}") from error
        finally:
            comm.spent = None
            self.outgoing_count -= 1
            self.outgoing_bytes -= nbytes
            if spilled is not None:
                spilled.sent()
        self.outgoing_total += 1
        self.sent += nbytes
        travelled = int(spent.pop(("sent", "bytes"), nbytes))
        self._note_read(held, nbytes, spilled, on_disk, spent)
        worker.note_sent(who, held, nbytes, began, time.perf_counter() - start, travelled)
        return NO_REPLY

    def _note_read(
        self, keys: list[Key], nbytes: int, spilled: SpilledValues | None, on_disk: tuple[int, int], spent: Spent
    ) -> None:
        """Count what serving values has taken.

        Args:
            keys, nbytes: what was served.
            spilled, on_disk: if some of it lay on disk, how many values and bytes.
            spent: beside reading.
        """
        activities = self._worker.activities
        count, nbytes = len(keys) - on_disk[0], nbytes - on_disk[1]
        if spilled is not None:
            activities.add_all("get-data", spilled.spent)
        if count:
            activities.add_all("get-data", {("memory-read", "count"): count, ("memory-read", "bytes"): nbytes})
        activities.add_all("get-data", spent)

    def _crowded(self, nbytes: int) -> bool:
        """Whether pickling so much may take the process over its limit; such answers are given one at a time."""
        manager = self._worker.memory_manager
        limit = manager.memory_limit
        if not limit or nbytes < LARGE_FRACTION * limit:
            return False
        return manager.process_memory() + nbytes > limit * (manager.memory_pause_fraction or 1.0)

    async def _pickled(self, values: SpilledValues) -> dict[Key, Any]:
        """Values of which some lie on disk; these go as they are, and are read in a thread. Lost ones are left out.

        Raises:
            SerializationError: a value cannot be read, and could not before it was computed again.
        """
        payloads, unreadable = await asyncio.get_running_loop().run_in_executor(None, values.read_payloads)
        for error in unreadable:
            dropped = self._worker.memory_manager.give_up(error)
            if dropped is None:
                raise SerializationError(str(error)) from error
            self._worker.take(DataDropped(dropped))
        found: dict[Key, Any] = {key: Serialized.of(payload) for key, payload in payloads.items()}
        found |= {key: Serialize(value) for key, value in values.items() if key not in values.on_disk}
        return found

    def _cannot_send(self, found: dict[Key, Any], error: SerializationError) -> SerializationError:
        """The error of an answer in which a value cannot be pickled; names the task."""
        for key, value in found.items():
            try:
                if isinstance(value, Serialize):
                    value.dump()
            except SerializationError as cause:
                return SerializationError(
                    f"the result of the task {from_wire(key)!r} cannot be sent. {cause}. Tasks that run on the same "
                    f"worker ({self._worker.address}) can use it; for others, return something that can be pickled"
                )
        return error

    async def close(self) -> None:
        """Close the connections to peers."""
        await self.pool.close()


def _seconds(spent: Spent) -> float:
    return sum([value for (_, unit), value in spent.items() if unit == "seconds"])


def _add(sums: dict[str, tuple[float, int]], name: str, speed: float) -> None:
    total, count = sums.get(name, (0.0, 0))
    sums[name] = (total + speed, count + 1)
