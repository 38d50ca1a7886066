"""The client's shell against a scheduler that runs everything at once."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import signal
import threading
import traceback
from concurrent.futures import CancelledError
from operator import add
from queue import Queue
from typing import Any

import dask
import numpy as np
import pytest

from headrace.client import (
    Client,
    ClosedClientError,
    Future,
    FutureCancelledError,
    FuturesCancelledError,
    as_completed,
    default_client,
    fire_and_forget,
    futures_of,
    get_client,
    wait,
)
from headrace.client.link.held_keys import RELEASED_AT_ONCE
from headrace.messages.client import DesireKeys, LostData, ReleaseKeys, SubmitGraph
from headrace.rpc import sync
from tests.client.fake_scheduler import FakeScheduler


def inc(x: int) -> int:
    return x + 1


def fail(x: Any) -> None:
    raise ZeroDivisionError(x)


def sent(scheduler: FakeScheduler, kind: type) -> list[Any]:
    """Messages that have come, once all that was sent before has."""
    client = default_client()
    client.sync(client.scheduler.identity)
    return [message for message in scheduler.messages if type(message) is kind]


def tell(scheduler: FakeScheduler, *messages: Any) -> None:
    """Have the scheduler say something, and wait until the client has heard it."""
    client = default_client()

    async def send() -> None:
        for stream in scheduler.streams.values():
            stream.send_all(messages)

    sync(client.loop, send)
    client.submit(inc, object.__hash__(messages), pure=False).result()


class TestSubmit:
    def test_result(self, client: Client) -> None:
        future = client.submit(inc, 1)
        assert isinstance(future, Future)
        assert future.result() == 2
        assert future.result(timeout="5s") == 2
        assert future.done()
        assert future.status == "finished"
        assert future.type is int
        assert not future.cancelled()
        assert future.exception() is None
        assert future.traceback() is None
        assert future.client is client
        assert future.key in repr(future)
        assert "type: int" in repr(future)
        assert future.key in future._repr_html_()

    def test_futures_as_arguments(self, client: Client) -> None:
        a, b = client.submit(inc, 1), client.submit(inc, 2, key=b"bytes")
        assert b.key == b"bytes"
        assert client.submit(add, a, b).result() == 5
        assert client.submit(sum, [a, (b := client.submit(inc, 5)), 1]).result() == 9
        assert client.submit(lambda d: d["x"][0], {"x": [a]}).result() == 2
        assert client.submit(len, {a, b}).result() == 2

    def test_equal_calls_share_a_key_and_are_sent_once(self, client: Client, scheduler: FakeScheduler) -> None:
        first, second = client.submit(inc, 1), client.submit(inc, 1)
        assert first.key == second.key
        assert first is not second
        assert first != second
        assert len({first, second}) == 2
        assert len(sent(scheduler, SubmitGraph)) == 1
        assert client.submit(inc, 1, pure=False).key != first.key

    def test_errors_point_into_the_users_code(self, client: Client) -> None:
        future = client.submit(fail, "boom")
        with pytest.raises(ZeroDivisionError, match="boom") as caught:
            future.result()
        assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"
        assert isinstance(future.exception(), ZeroDivisionError)
        assert traceback.extract_tb(future.traceback())[-1].name == "fail"
        assert future.status == "error"

    def test_mistakes(self, client: Client) -> None:
        with pytest.raises(TypeError, match="callable"):
            client.submit(1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="callable"):
            client.map(1, [1])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="lock"):
            client.submit(inc, threading.Lock())
        with pytest.raises(TypeError, match="key must be"):
            client.submit(inc, 1, key=object())
        with pytest.raises(ValueError, match="allow_other_workers"):
            client.submit(inc, 1, allow_other_workers=True)

    def test_options_and_annotations(self, client: Client, scheduler: FakeScheduler) -> None:
        with dask.annotate(priority=7, color="red"):
            one = client.submit(inc, 1, retries=2, workers="alice", resources={"GPU": 1})
            two = client.map(inc, [10], priority=3)
            three = client.compute(dask.delayed(inc)(100))
        one.result(), client.gather(two), three.result()
        options = [message.options[0] for message in sent(scheduler, SubmitGraph) if message.keys]
        assert [chosen.priority for chosen in options] == [7, 3, 7]
        assert (options[0].retries, options[0].workers, options[0].resources) == (2, ["alice"], {"GPU": 1})
        assert options[0].annotations == {"color": "red"}

    def test_timeout(self, client: Client, scheduler: FakeScheduler) -> None:
        scheduler.hold = True
        future = client.submit(inc, 1)
        with pytest.raises(TimeoutError, match=r"0\.01"):
            future.result(timeout=0.01)
        with pytest.raises(TimeoutError, match="10ms"):
            future.exception(timeout="10ms")
        assert not future.done()
        assert future._state is not None
        assert future._state.waiters == []
        sync(client.loop, _async(scheduler.run_held))
        assert future.result() == 2

    def test_submitting_from_many_threads(self, client: Client) -> None:
        results: list[int] = []

        def work(start: int) -> None:
            results.extend(client.submit(inc, start + i).result() for i in range(50))

        threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == sorted(1000 * n + i + 1 for n in range(4) for i in range(50))


def _async(function: Any) -> Any:
    async def call() -> Any:
        return function()

    return call


class TestMap:
    def test_results_in_order(self, client: Client) -> None:
        assert client.gather(client.map(inc, range(5000))) == list(range(1, 5001))

    def test_shapes(self, client: Client) -> None:
        assert client.map(inc, []) == []
        assert client.gather(client.map(add, [1, 2, 3], (10, 20))) == [11, 22]
        assert client.gather(client.map(lambda x, y=0: x + y, [1, 2], y=client.submit(inc, 9))) == [11, 12]
        assert client.gather(client.map(add, client.map(inc, [1, 2]), [5, 6])) == [7, 9]
        assert [future.key for future in client.map(inc, [1, 2], key=["a", ("b", 1)])] == ["a", ("b", 1)]
        assert all(future.key.startswith("mine-") for future in client.map(inc, [1, 2], key="mine"))

    def test_equal_calls_in_one_map(self, client: Client) -> None:
        futures = client.map(inc, [1, 1, 2])
        assert futures[0].key == futures[1].key
        assert client.gather(futures) == [2, 2, 3]

    def test_parts_are_sent_early_and_the_graph_is_ended(self, client: Client, scheduler: FakeScheduler) -> None:
        futures = client.map(inc, range(10), batch_size=4)
        assert client.gather(futures) == list(range(1, 11))
        parts = sent(scheduler, SubmitGraph)
        assert [len(part.keys) for part in parts] == [4, 4, 2]
        assert [part.more for part in parts] == [True, True, False]

    def test_known_tasks_are_not_sent_again(self, client: Client, scheduler: FakeScheduler) -> None:
        first = client.map(inc, range(6))
        second = client.map(inc, range(8), batch_size=6)
        assert client.gather(second) == list(range(1, 9))
        assert [len(part.keys) for part in sent(scheduler, SubmitGraph)] == [6, 2]
        del first

    def test_a_failure_in_the_middle_ends_the_graph(self, client: Client, scheduler: FakeScheduler) -> None:
        with pytest.raises(TypeError, match="lock"):
            client.map(inc, [1, 2, threading.Lock()], batch_size=2)
        parts = sent(scheduler, SubmitGraph)
        assert [part.more for part in parts] == [True, False]
        assert client.submit(inc, 1).result() == 2

    def test_large_keyword_arguments_are_sent_once(self, client: Client, scheduler: FakeScheduler) -> None:
        array = np.zeros(100_000)
        assert client.gather(client.map(lambda x, a: x + len(a), [1, 2], a=array)) == [100_001, 100_002]
        sizes = [part.arguments[0] for part in sent(scheduler, SubmitGraph)]
        assert [type(size) is bytes for size in sizes] == [False, True]

    def test_iterators_and_queues_are_refused_as_documented(self, client: Client) -> None:
        with pytest.raises(TypeError, match="no longer supports"):
            client.map(inc, iter([1]))
        with pytest.raises(TypeError, match="no longer supports"):
            client.map(inc, Queue())  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="1 keys for 2 calls"):
            client.map(inc, [1, 2], key=["a"])


class TestGather:
    def test_nested_containers(self, client: Client) -> None:
        a, b = client.map(inc, [1, 2])
        assert client.gather(a) == 2
        assert client.gather({"x": [a, (b, 5)], "y": {a}}) == {"x": [2, (3, 5)], "y": {2}}
        assert list(client.gather(iter([a, b]))) == [2, 3]
        assert client.gather([]) == []

    def test_exception_payloads(self, client: Client) -> None:
        good, bad = client.submit(inc, 1), client.submit(fail, 1)
        with pytest.raises(ZeroDivisionError):
            client.gather([good, bad])
        assert client.gather([good, bad, good], errors="skip") == [2, 2]
        assert client.gather({"a": good, "b": bad}, errors="skip") == {"a": 2}
        assert client.gather((good, bad), errors="skip") == (2, None)
        assert client.gather(bad, errors="skip") is None
        with pytest.raises(ValueError, match="errors must be"):
            client.gather([good], errors="bogus")

    def test_large_results_come_from_the_workers(self, client: Client, scheduler: FakeScheduler) -> None:
        futures = client.map(np.ones, [100_000, 100_001])
        assert [len(array) for array in client.gather(futures)] == [100_000, 100_001]
        assert scheduler.get_data_calls == 1
        assert len(futures[0].result()) == 100_000
        assert len(client.gather(futures[0], direct=False)) == 100_000
        assert scheduler.get_data_calls == 2

    def test_a_lost_result_is_waited_for(self, client: Client, scheduler: FakeScheduler) -> None:
        future = client.submit(np.ones, 50_000)
        wait(future)
        lost = scheduler.data.pop(future.key)
        tell(scheduler, LostData(future.key))
        assert future.status == "lost"
        answer: list[Any] = []
        thread = threading.Thread(target=lambda: answer.append(future.result()))
        thread.start()
        scheduler.data[future.key] = lost
        from headrace.messages.client import KeyInMemory

        tell(scheduler, KeyInMemory(future.key, "ndarray"))
        thread.join()
        assert len(answer[0]) == 50_000


class TestScatter:
    @pytest.mark.parametrize("direct", [None, False])
    def test_shapes(self, client: Client, scheduler: FakeScheduler, direct: Any) -> None:
        scheduler.server.handlers["scatter"] = lambda data, **_: scheduler.update_data(data)
        scatter = client.scatter
        assert client.gather(scatter([1, 2], direct=direct)) == [1, 2]
        assert client.gather(scatter((1, 2), direct=direct)) == (1, 2)
        assert client.gather(scatter({1, 2}, direct=direct)) == {1, 2}
        assert client.gather(scatter(range(2), direct=direct)) == [0, 1]
        assert scatter({"x": 5}, direct=direct)["x"].key == "x"
        single = scatter("text", direct=direct)
        assert single.status == "finished"
        assert single.result() == "text"
        assert single.type is str

    def test_equal_values_share_a_key_unless_told_otherwise(self, client: Client) -> None:
        one, two = client.scatter([5, 5])
        assert one.key == two.key
        one, two = client.scatter([5, 5], hash=False)
        assert one.key != two.key

    def test_scattered_data_as_arguments(self, client: Client) -> None:
        array = np.arange(100_000)
        future = client.scatter(array, broadcast=True)
        assert client.submit(np.sum, future).result() == array.sum()

    def test_iterators_are_refused(self, client: Client) -> None:
        with pytest.raises(TypeError, match="no longer supports"):
            client.scatter(iter([1]))


class TestGraphs:
    def test_get(self, client: Client) -> None:
        dsk = {"x": (inc, 1), "y": (inc, "x")}
        assert client.get(dsk, "y") == 3
        assert client.get(dsk, [["x"], ["y", "x"]]) == [[2], [3, 2]]
        (future,) = client.get(dsk, ["x"], sync=False)
        assert future.result() == 2

    def test_get_lets_go_at_once(self, client: Client) -> None:
        assert client.get({"x": (inc, 1)}, "x") == 2
        assert client.get({"x": (inc, 5)}, "x") == 6

    def test_bad_graphs(self, client: Client) -> None:
        with pytest.raises(ValueError, match="Cycle"):
            client.get({"x": (inc, "y"), "y": (inc, "x")}, "x")
        with pytest.raises(FutureCancelledError, match="'z'"):
            client.get({"x": (inc, 1)}, "z")
        with pytest.raises(TypeError, match="lock"):
            client.get({"x": (inc, threading.Lock())}, "x")
        assert not client.futures

    def test_collections_use_the_client(self, client: Client) -> None:
        assert dask.delayed(inc)(1).compute() == 2
        assert dask.compute(dask.delayed(inc)(1), {"a": dask.delayed(inc)(2)}) == (2, {"a": 3})

    def test_compute(self, client: Client) -> None:
        x = dask.delayed(inc)(1)
        one, two, three = client.compute([x, 5, [x, 1]])
        assert (one.result(), two, three.result()) == (2, 5, [2, 1])
        assert client.compute(x).result() == 2
        assert client.compute(x, sync=True) == 2
        with pytest.raises(TypeError, match="unexpected keyword argument 'sycn'"):
            client.compute(x, sycn=True)
        assert x.compute(num_workers=3) == client.persist(x, sycn=True).compute() == 2
        assert client.compute({"a": x}).result() == {"a": 2}
        assert client.compute(3) == 3

    def test_persist(self, client: Client) -> None:
        da = pytest.importorskip("dask.array")
        x = da.ones((4, 4), chunks=2) + 1
        y = x.persist()
        assert len(futures_of(y)) == 4
        assert (y + y.T).sum().compute() == 64
        (z,) = client.persist([x])
        assert z.sum().compute() == 32
        with pytest.raises(TypeError, match="collections"):
            client.persist(5)

    def test_futures_in_delayed(self, client: Client) -> None:
        future = client.submit(inc, 1)
        assert dask.delayed(add)(future, 1).compute() == 3
        assert dask.delayed(sum)([future, 1]).compute() == 3

    def test_normalize_collection(self, client: Client) -> None:
        x = dask.delayed(inc)(1)
        y = dask.delayed(inc)(x)
        kept = client.persist(x)
        z = client.normalize_collection(y)
        assert any(isinstance(value, Future) for value in dict(z.dask).values())
        assert z.compute() == 3
        del kept


class TestLife:
    def test_futures_release_their_keys(self, client: Client, scheduler: FakeScheduler) -> None:
        future = client.submit(inc, 1)
        key = future.key
        future.result()
        twin = client.submit(inc, 1)
        del future
        gc.collect()
        client.submit(inc, 2).result()
        assert key in client.futures
        del twin
        gc.collect()
        client.submit(inc, 3).result()
        assert key not in client.futures
        assert key in [key for message in sent(scheduler, ReleaseKeys) for key in message.keys]

    def test_many_are_released_in_several_messages(self, client: Client, scheduler: FakeScheduler) -> None:
        futures = client.map(inc, range(2 * RELEASED_AT_ONCE + 1))
        keys = [future.key for future in futures]
        client.gather(futures)
        del futures
        gc.collect()
        client.submit(inc, -1).result()
        released = [message.keys for message in sent(scheduler, ReleaseKeys)]
        assert max(map(len, released)) <= RELEASED_AT_ONCE
        assert sorted(key for part in released for key in part) == sorted(keys)

    def test_release(self, client: Client) -> None:
        future = client.submit(inc, 1)
        assert future.result() == 2
        future.release()
        assert future.status == "finished"
        assert not client.futures

    def test_cancel(self, client: Client, scheduler: FakeScheduler) -> None:
        scheduler.hold = True
        future = client.submit(inc, 1)
        future.cancel(reason="changed my mind", msg="really")
        assert future.cancelled()
        assert future.done()
        with pytest.raises(FutureCancelledError, match=r"changed my mind.*\n?really") as caught:
            future.result()
        assert isinstance(caught.value, CancelledError)
        with pytest.raises(FutureCancelledError):
            client.gather([future])
        with pytest.raises(FuturesCancelledError, match="1 Future cancelled"):
            wait([future])
        scheduler.hold = False
        assert client.submit(inc, 1).result() == 2

    def test_retry(self, client: Client, scheduler: FakeScheduler) -> None:
        future = client.submit(fail, 1)
        wait(future)
        future.retry()
        assert future.status == "pending"

    def test_callbacks(self, client: Client) -> None:
        seen: Queue[Any] = Queue()
        future = client.submit(inc, 1)
        future.add_done_callback(lambda f: seen.put((f, threading.current_thread())))
        assert seen.get(timeout=5)[0] is future
        future.add_done_callback(seen.put)
        assert seen.get(timeout=5) is future

    def test_pickling(self, client: Client) -> None:
        future = client.submit(inc, 1)
        future.result()
        other = pickle.loads(pickle.dumps(future))
        assert other.key == future.key
        assert other.result() == 2
        assert copy.copy(future) is future
        assert copy.deepcopy([future])[0] is future

    def test_a_pickled_future_of_an_unknown_key_is_cancelled(self, client: Client) -> None:
        future = Future("nobody knows")
        with pytest.raises(FutureCancelledError):
            future.result()

    def test_fire_and_forget(self, client: Client, scheduler: FakeScheduler) -> None:
        scheduler.hold = True
        future = client.submit(inc, 1)
        key = future.key
        fire_and_forget(future)
        del future
        gc.collect()
        assert next(message for message in sent(scheduler, DesireKeys) if message.until_done).keys == [key]
        assert key in client.futures

    def test_repr_and_names(self, client: Client, scheduler: FakeScheduler) -> None:
        assert scheduler.address in repr(client)
        assert client.id.startswith("Client-")
        assert client.status == "running"
        assert client.scheduler.address == scheduler.address
        assert client.dashboard_link is None
        assert client.id in client._repr_html_()

    def test_closed(self, scheduler: FakeScheduler) -> None:
        client = Client(scheduler.address)
        scheduler.hold = True
        pending = client.submit(inc, 1)
        scheduler.hold = False
        done = client.submit(inc, 3)
        assert done.result() == 4
        client.close()
        client.close()
        assert client.status == "closed"
        for future in (pending, done):
            assert future.cancelled()
            with pytest.raises(FutureCancelledError, match="client-closed"):
                future.result()
        with pytest.raises(ClosedClientError):
            client.submit(inc, 2)
        with pytest.raises(ClosedClientError):
            client.map(inc, [2])
        with pytest.raises(ClosedClientError):
            client.scheduler_info()
        assert "No scheduler" in repr(client)

    def test_wrong_address(self) -> None:
        with pytest.raises(OSError, match=r"127\.0\.0\.1:1\b"):
            Client("127.0.0.1:1", timeout=0.2)
        with pytest.raises(TypeError, match="Scheduler address"):
            Client(5)
        with pytest.raises(TypeError, match="Scheduler address"):
            Client(FakeScheduler)
        with pytest.raises(TypeError, match="bogus"):
            Client("127.0.0.1:1", bogus=True)

    def test_the_scheduler_goes_away(self, scheduler: FakeScheduler) -> None:
        with Client(scheduler.address, timeout=0.2) as client:
            scheduler.hold = True
            future = client.submit(inc, 1)
            sent(scheduler, SubmitGraph)
            sync(client.loop, scheduler.__aexit__)
            with pytest.raises(FutureCancelledError, match="connection-lost"):
                future.result(timeout=10)
            with pytest.raises(ClosedClientError):
                client.submit(inc, 2)

    def test_the_connection_breaks(self, client: Client, scheduler: FakeScheduler) -> None:
        scheduler.hold = True
        done = client.submit(inc, 5)
        pending = client.submit(inc, 1)
        sent(scheduler, SubmitGraph)
        scheduler.data[done.key] = 6

        async def cut() -> None:
            for stream in list(scheduler.streams.values()):
                stream.abort()

        sync(client.loop, cut)
        assert done.result(timeout=5) == 6
        with pytest.raises(FutureCancelledError):
            pending.result(timeout=5)
        scheduler.hold = False
        assert client.submit(inc, 7).result() == 8


class TestWaiting:
    def test_wait(self, client: Client, scheduler: FakeScheduler) -> None:
        futures = client.map(inc, range(3))
        done, not_done = wait(futures)
        assert (done, not_done) == (set(futures), set())
        scheduler.hold = True
        pending = client.submit(inc, 10)
        done, not_done = wait([*futures, pending], return_when="FIRST_COMPLETED")
        assert not_done == {pending}
        with pytest.raises(TimeoutError):
            wait(pending, timeout="10ms")
        with pytest.raises(NotImplementedError, match="return_when"):
            wait(futures, return_when="SOON")
        with pytest.raises(TypeError, match=r"wait\(\[x, y\]\)"):
            wait(futures[0], futures[1])

    def test_as_completed(self, client: Client) -> None:
        futures = client.map(inc, range(3))
        assert set(as_completed(futures)) == set(futures)
        assert len(list(as_completed([futures[0], futures[0]]))) == 2
        assert list(as_completed([])) == []
        assert sorted(result for _, result in as_completed(futures, with_results=True)) == [1, 2, 3]

    def test_as_completed_grows(self, client: Client) -> None:
        completed = as_completed(client.map(inc, range(2)))
        first = next(completed)
        completed.add(client.submit(inc, first))
        completed.update([client.submit(inc, 100)])
        assert completed.count() == 3
        assert len(list(completed)) == 3
        assert completed.is_empty()
        with pytest.raises(TypeError, match="must be a future"):
            completed.add(1)  # type: ignore[arg-type]

    def test_as_completed_with_errors(self, client: Client) -> None:
        good, bad = client.submit(inc, 1), client.submit(fail, 1)
        found = dict(as_completed([good, bad], with_results=True, raise_errors=False))
        assert found[good] == 2
        kind, error, trace = found[bad]
        assert kind is ZeroDivisionError
        assert isinstance(error, ZeroDivisionError)
        assert traceback.extract_tb(trace)[-1].name == "fail"
        with pytest.raises(ZeroDivisionError):
            list(as_completed([bad], with_results=True))

    def test_as_completed_with_large_results(self, client: Client) -> None:
        futures = client.map(np.ones, [50_000, 50_001])
        assert sorted(len(result) for _, result in as_completed(futures, with_results=True)) == [50_000, 50_001]

    def test_batches(self, client: Client, scheduler: FakeScheduler) -> None:
        futures = client.map(inc, range(5))
        wait(futures)
        (batch,) = as_completed(futures).batches()
        assert set(batch) == set(futures)
        scheduler.hold = True
        completed = as_completed([client.submit(inc, 100)])
        assert completed.next_batch(block=False) == []
        assert not completed.has_ready()
        completed.clear()
        assert completed.is_empty()

    def test_as_completed_timeout(self, client: Client, scheduler: FakeScheduler) -> None:
        scheduler.hold = True
        with pytest.raises(TimeoutError):
            next(as_completed([client.submit(inc, 1)], timeout=0.01))

    @pytest.mark.parametrize(("timeout", "text"), [("5ms", "after 5ms."), (0.01, "after 0.01 s.")])
    def test_timeouts_are_told_as_given(
        self, client: Client, scheduler: FakeScheduler, timeout: Any, text: str
    ) -> None:
        scheduler.hold = True
        future = client.submit(inc, 1)
        for waiting in (lambda: next(as_completed([future], timeout=timeout)), lambda: wait(future, timeout=timeout)):
            with pytest.raises(TimeoutError, match=f"timed out {re.escape(text)}$"):
                waiting()

    def test_ctrl_c_leaves_the_client_usable(self, client: Client, scheduler: FakeScheduler) -> None:
        scheduler.hold = True
        future = client.submit(inc, 1)
        main = threading.main_thread().ident
        assert main is not None
        client.loop.call_later  # noqa: B018 - the loop is there
        timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            future.result()
        timer.join()
        sync(client.loop, _async(scheduler.run_held))
        assert future.result() == 2


class TestCurrent:
    def test_the_default_client(self, client: Client) -> None:
        assert default_client() is client
        assert Client.current() is client
        assert get_client() is client
        assert dask.config.get("scheduler") == "dask.distributed"
        with pytest.raises(ValueError, match="as_current"):
            Client.current(allow_global=False)

    def test_several_clients(self, client: Client, scheduler: FakeScheduler) -> None:
        with Client(scheduler.address, set_as_default=False) as other:
            assert default_client() is client
            with other.as_current():
                assert Client.current() is other
                assert Client.current(allow_global=False) is other
            assert Client.current() is client
            assert other.submit(inc, client.submit(inc, 1)).result() == 3
        with Client(scheduler.address) as newer:
            assert default_client() is newer
        assert default_client() is client

    def test_no_client(self) -> None:
        with pytest.raises(ValueError, match="No clients found"):
            default_client()

    def test_questions(self, client: Client, scheduler: FakeScheduler) -> None:
        future = client.submit(inc, 1)
        assert client.who_has([future]) == {future.key: (scheduler.address,)}
        assert client.nthreads() == client.ncores() == {scheduler.address: 2}
        assert client.scheduler_info()["type"] == "Scheduler"
        client.wait_for_workers(1, timeout=5)
        with pytest.raises(TimeoutError, match="1/2"):
            client.wait_for_workers(2, timeout=0.01)
        with pytest.raises(ValueError, match="positive"):
            client.wait_for_workers(0)
        client.set_metadata("x", 1)
        assert client.get_metadata("x") == 1
        assert client.get_metadata("y", default=2) == 2
        with pytest.raises(KeyError, match="y"):
            client.get_metadata("y")
        assert client.run_on_scheduler(add, 1, 2) == 3
        with pytest.raises(ValueError, match="no operation"):
            client.get_events()


class TestAsynchronous:
    async def test_everything_awaits(self) -> None:
        async with FakeScheduler() as scheduler, Client(scheduler.address, asynchronous=True) as client:
            assert client.asynchronous
            future = client.submit(inc, 1)
            assert await future == 2
            assert await future.result() == 2
            assert await client.gather(client.map(inc, range(3))) == [1, 2, 3]
            (scattered,) = await client.scatter([np.ones(20_000)])
            assert len(await scattered) == 20_000
            assert await client.get({"x": (inc, 1)}, "x") == 2
            assert await client.compute(dask.delayed(inc)(1)) == 2
            bad = client.submit(fail, 1)
            with pytest.raises(ZeroDivisionError) as caught:
                await bad
            assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail"
            assert isinstance(await bad.exception(), ZeroDivisionError)
            assert len((await wait(client.map(inc, range(3)))).done) == 3
            assert sorted([await f async for f in as_completed(client.map(inc, range(3)))]) == [1, 2, 3]
            pairs = as_completed(client.map(inc, range(3)), with_results=True)
            assert sorted([result async for _, result in pairs]) == [1, 2, 3]
            scheduler.hold = True
            with pytest.raises(TimeoutError):
                await client.submit(inc, 50).result(timeout=0.01)
            with pytest.raises(TimeoutError):
                await wait(client.submit(inc, 50), timeout=0.01)
            with pytest.raises(TypeError, match="async with"):
                client.__enter__()
        assert client.status == "closed"

    async def test_awaited(self) -> None:
        async with FakeScheduler() as scheduler:
            client = await Client(scheduler.address, asynchronous=True)
            assert await client.submit(inc, 1) == 2
            await client.close()
            with pytest.raises(OSError, match="127"):
                await Client("127.0.0.1:1", asynchronous=True, timeout=0.1)

    async def test_work_before_the_connection_is_there(self) -> None:
        async with FakeScheduler() as scheduler:
            client = Client(scheduler.address, asynchronous=True)
            future = client.submit(inc, 1)
            assert await future == 2
            await client.close()
