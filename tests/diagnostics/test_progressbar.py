"""The progress bar's arithmetic and text, with futures that need no cluster."""

from __future__ import annotations

import doctest
import io
import threading
from concurrent.futures import Future

import pytest

from headrace import Client, wait
from headrace.diagnostics import plugin, progressbar
from headrace.diagnostics.progressbar import Progress, TextProgressBar, format_seconds, render_bar, render_line
from headrace.testing.waiting import poll_for


class Stand:
    """Stands in for a future."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)

    @property
    def status(self) -> str:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def done(self) -> bool:
        return self.statuses[0] != "pending"


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def stands_are_futures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progressbar, "_futures", lambda values: list(values))
    monkeypatch.setattr(TextProgressBar, "_block_on", staticmethod(lambda future, seconds: None))


@pytest.mark.parametrize("module", [progressbar, plugin])
def test_examples(module: object) -> None:
    assert not doctest.testmod(module).failed  # type: ignore[arg-type]


def test_bar_fills() -> None:
    assert render_bar(0, 4) == "    "
    assert render_bar(0.5, 4) == "██  "
    assert render_bar(1, 4) == "████"
    assert all(len(render_bar(i / 100, 7)) == 7 for i in range(101))


def test_durations() -> None:
    assert [format_seconds(s) for s in (0, 59.94, 119.7, 3600)] == ["0.0s", "59.9s", "2m 00s", "1h 00m"]


def test_nothing_to_do_is_done() -> None:
    progress = Progress(0, 0, 0, 0.0)
    assert progress.finished
    assert progress.fraction == 1
    assert progress.remaining is None
    assert "100%" in render_line(progress)


def test_a_percentage_is_rounded_down() -> None:
    assert " 99% " in render_line(Progress(9_999, 0, 10_000, 1.0))


def test_follows_until_all_are_done() -> None:
    file = Terminal()
    futures = [Stand("pending", "finished"), Stand("finished"), Stand("pending", "pending", "error")]
    progress = TextProgressBar(futures, file=file, start=False).run()
    assert (progress.done, progress.erred, progress.total) == (2, 1, 3)
    lines = file.getvalue().split("\r")
    assert "1/3" in lines[1]
    assert "3/3, 1 failed" in lines[-1]
    assert lines[-1].endswith("\n")


def test_without_a_terminal_it_writes_few_lines() -> None:
    file = io.StringIO()
    futures = [Stand(*["pending"] * i, "finished") for i in range(100)]
    TextProgressBar(futures, file=file, start=False).run()
    lines = file.getvalue().splitlines()
    assert len(lines) <= 5
    assert "100/100" in lines[-1]
    assert "\r" not in file.getvalue()


def test_done_ones_can_be_left_out() -> None:
    futures = [Stand("finished"), Stand("pending", "finished")]
    assert TextProgressBar(futures, complete=False, start=False, file=io.StringIO()).run().total == 1


def test_an_interrupt_leaves_the_terminal_on_a_new_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(future: object, seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TextProgressBar, "_block_on", staticmethod(interrupt))
    file = Terminal()
    with pytest.raises(KeyboardInterrupt):
        TextProgressBar([Stand("pending")], file=file, start=False).run()
    assert file.getvalue().endswith("\n")


async def test_within_a_loop_it_is_awaited() -> None:
    bar = TextProgressBar([Stand("pending", "finished")], file=io.StringIO(), interval=0.001)
    assert (await bar.listen()).done == 1


class Asked:
    """Stands in for a client whose scheduler answers when told to."""

    def __init__(self) -> None:
        self.questions: list[Future[int]] = []

    def ask_in_background(self, op: str) -> Future[int]:
        assert op == "count_running"
        self.questions.append(Future())
        return self.questions[-1]


def test_running_count_is_asked_for_and_never_waited_for() -> None:
    client, future = Asked(), Stand("pending")
    future.client = client  # type: ignore[attr-defined]
    bar = TextProgressBar([future], start=False, file=io.StringIO())
    assert bar.look().running is None
    assert bar.look().running is None
    assert len(client.questions) == 1, "one question at a time"
    client.questions[0].set_result(3)
    assert bar.look().running == 3
    client.questions[1].set_exception(OSError("gone"))
    assert bar.look().running is None
    client.questions[2].cancel()
    assert bar.look().running is None
    future.statuses = ["finished"]
    assert bar.look().running is None


STARTED, RELEASE = threading.Event(), threading.Event()


def hold() -> None:
    STARTED.set()
    assert RELEASE.wait(30)


def test_running_count_of_a_cluster() -> None:
    with Client(n_workers=1, threads_per_worker=1, processes=False) as client:
        futures = [client.submit(hold, pure=False) for _ in range(3)]
        assert STARTED.wait(30)
        terminal = Terminal()
        bar = TextProgressBar(futures, start=False, file=terminal)
        poll_for(lambda: bar.look().running == 1)
        bar.draw(bar.look())
        assert "1 running" in terminal.getvalue()
        RELEASE.set()
        wait(futures)
        assert client.ask_in_background("count_running").result(30) == 0
    assert client.ask_in_background("count_running").cancelled()
