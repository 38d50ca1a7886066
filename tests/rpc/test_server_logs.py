"""What servers logged of late, by whomever it is asked for, whatever of it was shown."""

from __future__ import annotations

import io
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from headrace import Client, Nanny, Scheduler, Worker
from headrace.rpc.server_logs import OPEN, LogLines
from headrace.testing.clusters import gen_cluster

NAME = "distributed.example-of-logs"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger(NAME)
    found.handlers[:] = []
    found.setLevel(logging.NOTSET)
    yield found
    assert not found.filters
    assert found.level == logging.NOTSET


@pytest.fixture
def shown(logger: logging.Logger) -> Iterator[io.StringIO]:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger.addHandler(handler)
    yield text
    logger.removeHandler(handler)


def texts(lines: Any) -> list[str]:
    return [line[-1].split(" - ")[-1] for line in lines]


def test_newest_first_bounded_and_in_a_span_of_time(logger: logging.Logger) -> None:
    kept = LogLines(NAME, length=3)
    logger.warning("before")
    kept.start()
    for number in range(4):
        logger.warning("line %d", number)
    kept.stop()
    logger.warning("after")
    assert texts(kept.lines()) == ["line 3", "line 2", "line 1"]
    assert texts(kept.lines(n=2)) == ["line 3", "line 2"]
    assert kept.lines(n=0) == []
    (_, _, (when, level, text)) = kept.lines(timestamps=True)
    assert level == "WARNING"
    assert text.endswith(f"{NAME} - WARNING - line 1")
    assert len(kept.lines(start=when)) == 3
    assert kept.lines(start=when + 3600) == []


def test_lines_are_kept_that_are_not_shown(logger: logging.Logger, shown: io.StringIO) -> None:
    kept = LogLines(NAME)
    kept.start()
    logger.debug("debug")
    logger.info("info")
    logger.warning("warning")
    kept.stop()
    assert texts(kept.lines()) == ["warning", "info"]
    assert shown.getvalue() == "warning\n"


def test_whoever_sets_the_level_sees_what_he_wants(logger: logging.Logger, shown: io.StringIO) -> None:
    kept = LogLines(NAME)
    kept.start()
    assert logger.level == OPEN
    logger.setLevel(logging.INFO)
    logger.info("info")
    logger.setLevel(logging.ERROR)
    logger.warning("warning")
    another = LogLines(NAME)
    another.start()  # opens it again
    logger.info("more info")
    logger.error("error")
    kept.stop()
    logger.error("last")
    another.stop()
    assert shown.getvalue() == "info\nerror\nlast\n"
    assert texts(kept.lines()) == ["error", "more info", "info"]
    assert texts(another.lines()) == ["last", "error", "more info"]
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_client(processes: bool, capfd: pytest.CaptureFixture[str]) -> None:
    def say(word: str) -> None:
        logging.getLogger("distributed.worker").info("the word is %s", word)

    with Client(n_workers=2, threads_per_worker=1, processes=processes) as client:
        lines = client.get_scheduler_logs()
        assert isinstance(lines, tuple)
        assert any("Receive client connection" in text for _, text in lines)
        assert client.get_scheduler_logs(n=1) == lines[:1]
        client.run(say, "hello")
        by_worker = client.get_worker_logs()
        workers = sorted(client.scheduler_info()["workers"])
        assert sorted(by_worker) == workers
        for lines in by_worker.values():
            assert "the word is hello" in texts(lines)
        assert list(client.get_worker_logs(n=1, workers=workers[:1]).values()) == [by_worker[workers[0]][:1]]
    assert "the word" not in capfd.readouterr().err, "a LocalCluster is silent"


@gen_cluster(nthreads=[("127.0.0.1", 1)], Worker=Nanny, client=True, config={"distributed.admin.log-length": 2})
async def test_length_and_servers(c: Client, s: Scheduler, nanny: Nanny) -> None:
    for _ in range(3):
        logging.getLogger("distributed.nanny").info("a line")
    assert texts(nanny.get_logs()) == ["a line"] * 2
    assert len(s.get_logs()) == 2
    for _ in range(3):
        await c.run(lambda: logging.getLogger("distributed.worker").info("of the worker"))
    assert {address: texts(lines) for address, lines in (await c.get_worker_logs()).items()} == {
        nanny.worker_address: ["of the worker"] * 2
    }
    assert {address: texts(lines) for address, lines in (await c.get_worker_logs(nanny=True)).items()} == {
        nanny.worker_address: ["a line"] * 2
    }


@gen_cluster(nthreads=[("127.0.0.1", 1)], config={"distributed.admin.log-format": "%(levelname)s: %(message)s"})
async def test_format(s: Scheduler, w: Worker) -> None:
    logging.getLogger("distributed.worker").info("a line")
    assert w.get_logs(n=1) == [("INFO", "INFO: a line")]


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_filter_that_raises_does_not_keep_a_failure_from_its_user(c: Client, s: Scheduler, a: Worker) -> None:
    refused: list[str] = []

    def refuse(record: logging.LogRecord) -> bool:
        refused.append(record.msg)
        raise ValueError(f"not to be logged: {record.msg}")

    logger = logging.getLogger("distributed.worker")
    logger.filters.insert(0, refuse)
    try:
        with pytest.raises(ZeroDivisionError):
            await c.submit(divmod, 1, 0)
    finally:
        logger.removeFilter(refuse)
    assert len(refused) == 1
    assert refused[0].startswith("Compute Failed")


class Large:
    """Something that a log line is about, whose end can be seen."""

    def __str__(self) -> str:
        return "large"


def test_what_is_kept_is_text(logger: logging.Logger, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what a line was about, nor the frames that an exception came through."""
    monkeypatch.setattr(logger, "propagate", False)  # pytest keeps records
    kept = LogLines(NAME)
    kept.start()
    ends: list[Any] = []

    def fail() -> None:
        value = Large()
        ends.append(weakref.ref(value))
        try:
            raise ValueError(f"of the {value}")
        except ValueError:
            logger.exception("about the %s", value, extra={"value": value})

    fail()
    logger.warning("%s" % ("x" * 1_000_000))
    kept.stop()
    assert all(end() is None for end in ends)
    (_, cut), (_, text) = kept.lines()
    assert "about the large" in text
    assert "Traceback" in text
    assert text.endswith("ValueError: of the large")
    assert len(cut) < 40_000
    assert len(shown.getvalue()) > 1_000_000
