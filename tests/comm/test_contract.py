"""What every comm does, whatever carries it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Any

import dask
import pytest

from headrace.comm import Comm, CommClosedError, ConnectTimeoutError, connect
from headrace.exceptions import DeserializationError
from headrace.messages import FromWorker, ToWorker
from headrace.messages.worker import AddKeys, ComputeTask, FreeKeys, ReleasedData, TaskFinished
from headrace.protocol import Frames, Serialize, Serialized, unwrap
from tests.comm.transports import Collected, Transport


async def test_messages_arrive_as_they_were(transport: Transport) -> None:
    message = {
        "op": "x",
        "list": [1, 2.5, None, True],
        ("a", 1): (1, (2,)),
        "set": {1, 2},
        "bytes": b"abc",
        "text": "é",
    }
    async with transport.pair() as (near, far):
        await near.write(message)
        assert await far.read() == message
        await far.write(message)
        assert await near.read() == message


async def test_a_second_reader_is_refused(transport: Transport) -> None:
    async with transport.pair() as (near, far):
        first = asyncio.ensure_future(near.read())
        await asyncio.sleep(0)  # it has begun, and waits
        with pytest.raises(RuntimeError, match="being read already"):
            await near.read()
        await far.write("for the first")
        assert await first == "for the first"


async def test_many_small_messages_keep_their_order(transport: Transport) -> None:
    async with transport.pair() as (near, far):
        for number in range(1000):
            near.send(number)
        assert [await far.read() for _ in range(1000)] == list(range(1000))


@pytest.mark.parametrize("sizes", [[0], [1], [70_000], [10, 200_000, 0, 3], [5_000_000, 9_000_000], [1000] * 500])
async def test_frames_arrive_whole(transport: Transport, sizes: list[int]) -> None:
    frames = [os.urandom(size) for size in sizes]
    async with transport.pair() as (near, far):
        for _ in range(2):
            sending = asyncio.ensure_future(near.write({"frames": Frames(list(frames)), "after": 1}))
            message = await far.read()
            await sending
            assert [bytes(frame) for frame in message["frames"].frames] == frames
            assert message["after"] == 1


async def test_both_ends_may_send_much_at_once(transport: Transport) -> None:
    data = os.urandom(20_000_000)
    async with transport.pair() as (near, far):
        results = await asyncio.gather(near.write(Frames([data])), far.write(Frames([data])), near.read(), far.read())
        assert bytes(results[2].frames[0]) == bytes(results[3].frames[0]) == data


async def test_received_arrays_are_writable(transport: Transport) -> None:
    numpy = pytest.importorskip("numpy")
    async with transport.pair() as (near, far):
        await near.write({"data": {"x": Serialize(numpy.arange(100_000))}})
        array = (await far.read())["data"]["x"]
        array[0] = 17
        assert array[:3].tolist() == [17, 1, 2]


async def test_serialized_values_can_be_forwarded_unopened(transport: Transport) -> None:
    async with transport.pair(deserialize=False) as (near, far):
        await near.write({"value": Serialize({1, 2})})
        message = await far.read()
        assert isinstance(message["value"], (Serialize, Serialized))
        await far.write(message)
        assert unwrap((await near.read())["value"]) == {1, 2}


async def test_a_value_that_cannot_be_loaded_leaves_the_comm_usable(socket_transport: Transport) -> None:
    async with socket_transport.pair() as (near, far):
        await near.write({"value": Serialized.of(b"cno_such_module\nx\n.")})
        await near.write("next")
        with pytest.raises(DeserializationError, match="no_such_module"):
            await far.read()
        assert await far.read() == "next"


async def test_an_unsendable_message_leaves_the_comm_usable(socket_transport: Transport) -> None:
    async with socket_transport.pair() as (near, far):
        with pytest.raises(TypeError, match="complex"):
            await near.write({"a": 1j})
        await near.write("next")
        assert await far.read() == "next"


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_the_other_side_sees_the_end(transport: Transport, how: str) -> None:
    async with transport.pair() as (near, far):
        reading = asyncio.ensure_future(far.read())
        await asyncio.sleep(0)
        if how == "close":
            await near.close()
        else:
            near.abort()
        with pytest.raises(CommClosedError):
            await reading
        assert near.closed()
        assert far.closed()
        for comm in (near, far):
            with pytest.raises(CommClosedError):
                await comm.write("x")
            with pytest.raises(CommClosedError):
                comm.send("x")
            with pytest.raises(CommClosedError):
                await comm.read()


async def test_what_was_sent_before_close_arrives(transport: Transport) -> None:
    async with transport.pair() as (near, far):
        near.send(Frames([bytes(3_000_000)]))
        near.send("last")
        closing = asyncio.ensure_future(near.close())
        assert (await far.read()).nbytes == 3_000_000
        assert await far.read() == "last"
        with pytest.raises(CommClosedError):
            await far.read()
        await closing


async def test_an_own_read_ends_when_the_comm_is_closed(transport: Transport) -> None:
    async with transport.pair() as (near, _):
        reading = asyncio.ensure_future(near.read())
        await asyncio.sleep(0)
        near.abort()
        with pytest.raises(CommClosedError):
            await reading


async def test_streams_deliver_batches_in_order(transport: Transport) -> None:
    received, answers = Collected(), Collected()
    async with transport.pair() as (near, far):
        far.start_stream(FromWorker, received.on_batch, received.on_close)
        near.start_stream(ToWorker, answers.on_batch, answers.on_close)
        near.send([AddKeys(["a", ("b", 1, 2.5)]), ReleasedData("c")])
        near.send([ReleasedData(key) for key in range(100)])
        far.send([FreeKeys(["x"])])
        assert (await received.wait_for(102))[:2] == [AddKeys(["a", ("b", 1, 2.5)]), ReleasedData("c")]
        assert received.messages[2:] == [ReleasedData(key) for key in range(100)]
        assert len(received.batches) == 2
        assert await answers.wait_for(1) == [FreeKeys(["x"])]
        await near.close()
        assert await received.wait_closed() is None
        assert await answers.wait_closed() is None


async def test_streams_carry_frames(transport: Transport) -> None:
    received = Collected()
    frames = Frames([b"head", os.urandom(300_000)])
    message = TaskFinished("x", 1, 300_000, "bytes", 0.0, 1.0, result=frames)
    async with transport.pair() as (near, far):
        far.start_stream(FromWorker, received.on_batch, received.on_close)
        near.start_stream(ToWorker, received.on_batch, received.on_close)
        near.send([message, message, ReleasedData("y")])
        first, second, last = await received.wait_for(3)
        for got in (first, second):
            assert [bytes(frame) for frame in got.result.frames] == [bytes(frame) for frame in frames.frames]
        assert last == ReleasedData("y")


async def test_stream_begins_after_requests(transport: Transport) -> None:
    """Packets that arrive before `start_stream` are delivered first."""
    received = Collected()
    async with transport.pair() as (near, far):
        await near.write({"op": "register"})
        near.start_stream(ToWorker, lambda _: None, lambda _: None)
        for number in range(10):
            near.send([ReleasedData(number)])
        assert await far.read() == {"op": "register"}
        await asyncio.sleep(0)  # some may have come already
        far.start_stream(FromWorker, received.on_batch, received.on_close)
        near.send([ReleasedData(10)])
        await received.wait_for(11)
        assert received.messages == [ReleasedData(number) for number in range(11)]


async def test_stream_on_a_closed_comm_reports_the_end(transport: Transport) -> None:
    received = Collected()
    async with transport.pair() as (near, far):
        await near.close()
        with pytest.raises(CommClosedError):
            await far.read()
        far.start_stream(FromWorker, received.on_batch, received.on_close)
        await received.wait_closed()


async def test_a_fault_in_a_stream_s_handler_closes_that_comm_only(
    transport: Transport, logs: pytest.LogCaptureFixture
) -> None:
    ended = Collected()

    def on_batch(_: list[Any]) -> None:
        raise KeyError("bug")

    async with transport.pair() as (other, other_far), transport.pair() as (near, far):
        far.start_stream(FromWorker, on_batch, ended.on_close)
        near.start_stream(ToWorker, lambda _: None, lambda _: None)
        near.send([ReleasedData("x")])
        assert isinstance(await ended.wait_closed(), KeyError)
        assert "could not be handled" in logs.text
        await other.write(1)
        assert await other_far.read() == 1


async def test_wrong_messages_close_that_comm_only(socket_transport: Transport, logs: pytest.LogCaptureFixture) -> None:
    ended = Collected()
    async with socket_transport.pair() as (other, other_far), socket_transport.pair() as (near, far):
        far.start_stream(FromWorker, ended.on_batch, ended.on_close)
        near.start_stream(ToWorker, lambda _: None, lambda _: None)
        near.send([FreeKeys(["x"])])  # not something that a worker says
        assert isinstance(await ended.wait_closed(), CommClosedError)
        assert "malformed" in logs.text
        await other.write(1)
        assert await other_far.read() == 1


async def test_many_comms_at_once(transport: Transport) -> None:
    async def echo(comm: Comm) -> None:
        while True:
            await comm.write(await comm.read())

    async def talk(number: int) -> None:
        comm = await transport.connect(listener)
        for turn in range(5):
            await comm.write((number, turn))
            assert await comm.read() == (number, turn)
        await comm.close()

    async with transport.listening(echo) as listener:
        await asyncio.gather(*map(talk, range(20)))


async def test_addresses(transport: Transport) -> None:
    async with transport.pair() as (near, far):
        assert near.peer_address == far.local_address
        assert near.local_address == far.peer_address
        assert near.peer_address.startswith(transport.scheme + "://")
        assert near.same_host
        assert transport.scheme in repr(near)
        assert near.peer_info["protocol"] == far.peer_info["protocol"]
        near.abort()
        assert "closed" in repr(near)


async def test_nobody_there(transport: Transport) -> None:
    async def handle(comm: Comm) -> None: ...

    async with transport.listening(handle) as listener:
        address = listener.contact_address
    with pytest.raises(ConnectTimeoutError, match=r"0\.1 s") as caught:
        await connect(address, timeout=0.1, **transport.connect_args)
    assert address in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, asyncio.TimeoutError)


def keep_little_in_the_kernel(comm: Comm) -> None:
    """Have the kernel keep little of what travels, so that it is full at once, and not by and by."""
    descriptor = comm._transport.get_extra_info("socket").fileno()  # type: ignore[attr-defined]
    with socket.socket(fileno=os.dup(descriptor)) as kernel:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            kernel.setsockopt(socket.SOL_SOCKET, option, 65_536)


async def test_write_waits_for_an_end_that_does_not_read(socket_transport: Transport) -> None:
    with dask.config.set({"distributed.comm.same-machine-memory": False}):
        async with socket_transport.pair() as (near, far):
            for comm in (near, far):
                keep_little_in_the_kernel(comm)
            far._transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(40):
                near.send(b"x" * 1_000_000)
                await asyncio.sleep(0)
            assert near.unsent > 1_000_000
            writing = asyncio.ensure_future(near.write("last"))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not writing.done()
            far._transport.resume_reading()  # type: ignore[attr-defined]
            for _ in range(40):
                await far.read()
            await writing
            assert await far.read() == "last"
            assert near.unsent == 0


async def test_connect_waits_for_a_listener(transport: Transport) -> None:
    async def handle(comm: Comm) -> None:
        await comm.write("hello")

    async with transport.listening(handle) as listener:
        address = listener.contact_address
    connecting = asyncio.ensure_future(connect(address, timeout=20, **transport.connect_args))
    await asyncio.sleep(0.01)  # so that the first attempt fails, most times
    at_address = Transport(transport.scheme, transport.listen_args, transport.connect_args)
    from headrace.comm import listen

    again = await listen(address, handle, **at_address.listen_args)
    try:
        comm = await connecting
        assert await comm.read() == "hello"
        await comm.close()
    finally:
        again.stop()


async def test_nobody_there_any_more(transport: Transport) -> None:
    """Whoever knows that somebody was there does not wait for the connect timeout, here longer than the test's."""

    async def handle(comm: Comm) -> None: ...

    async with transport.listening(handle) as listener:
        address = listener.contact_address
    with pytest.raises(ConnectionRefusedError, match="nothing listens at") as caught:
        await connect(address, timeout=3600, retry_refused=False, **transport.connect_args)
    assert address in str(caught.value)


async def test_listener_stops(transport: Transport) -> None:
    accepted = Collected()

    async def handle(comm: Comm) -> None:
        accepted.on_batch([comm])

    async with transport.listening(handle) as listener:
        comm = await transport.connect(listener)
        (far,) = await accepted.wait_for(1)
        listener.stop()
        await comm.write("still open")
        assert await far.read() == "still open"
        with pytest.raises(OSError, match="Timed out"):
            await transport.connect(listener, timeout=0.05)
        await comm.close()
        await far.close()


async def test_a_fault_in_handle_comm_closes_the_comm(transport: Transport, logs: pytest.LogCaptureFixture) -> None:
    async def handle(comm: Comm) -> None:
        raise KeyError("bug")

    async with transport.listening(handle) as listener:
        comm = await transport.connect(listener)
        with pytest.raises(CommClosedError):
            await comm.read()
        assert "KeyError" in logs.text


async def test_inproc_between_threads() -> None:
    """Ends on loops of different threads."""
    ready, address, stop = threading.Event(), [], []

    async def serve() -> None:
        from headrace.comm import listen

        done = asyncio.Event()

        async def echo(comm: Comm) -> None:
            received = Collected()
            await comm.write(threading.get_ident())

            def on_batch(messages: list[Any]) -> None:
                comm.send([(threading.get_ident(), message) for message in messages])

            comm.start_stream(Any, on_batch, received.on_close)
            await received.wait_closed()

        async with await listen("inproc://", echo) as listener:
            address.append(listener.contact_address)
            stop.append((asyncio.get_running_loop(), done))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    await asyncio.to_thread(ready.wait)
    comm = await connect(address[0])
    received = Collected()
    there = await comm.read()
    assert there == thread.ident != threading.get_ident()
    comm.start_stream(Any, received.on_batch, received.on_close)
    for number in range(100):
        comm.send([number])
    assert await received.wait_for(100) == [(there, number) for number in range(100)]
    await comm.close()
    loop, done = stop[0]
    loop.call_soon_threadsafe(done.set)
    await asyncio.to_thread(thread.join)
    with pytest.raises(CommClosedError):
        comm.send([1])


async def test_inproc_hands_over_the_objects_themselves(security: Any) -> None:
    received = Collected()
    value, task = object(), ComputeTask("x", 1, (0.0, 0, 0), 1, b"", 0.0, False)
    async with Transport("inproc").pair() as (near, far):
        await near.write({"value": Serialize(value), "list": [1]})
        assert (await far.read())["value"] is value
        near.start_stream(FromWorker, received.on_batch, received.on_close)
        far.start_stream(ToWorker, received.on_batch, received.on_close)
        batch = [task]
        near.send(batch)
        await received.wait_for(1)
        assert received.batches[0] is batch
