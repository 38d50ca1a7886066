"""`performance_report`: the page is written, complete in itself, and says what happened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from headrace import Client, performance_report, wait
from headrace.diagnostics.pages.performance_page import report_page
from headrace.diagnostics.pages.report_content import ReportContent, WorkerLine, busy_part, totals
from headrace.diagnostics.report_collection import READINGS, Readings, Reports
from headrace.diagnostics.task_stream import Run
from headrace.profile import create
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.diagnostics.tasks import Page, add, double, fail

SECTIONS = ["stream", "load", "tasks", "workers", "profile", "scheduler", "code", "system"]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_a_report_of_some_work(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    one, other = sorted(client.scheduler_info()["workers"])
    with performance_report(filename=str(path)):
        client.gather(client.map(double, range(30)))
        a, b = client.submit(double, 70, workers=one), client.submit(double, 71, workers=other)
        client.submit(add, a, b, workers=one).result()
        wait(client.submit(fail, "<i>"))
    page = read(path)
    assert list(page.sections) == SECTIONS
    assert len(page.blocks["stream-data"]["keys"]) == 34
    assert set(page.blocks["stream-data"]["names"]) == {"double", "add", "fail"}
    assert sorted({run[3] for run in page.blocks["stream-data"]["runs"]}) == [0, 1]
    assert "double" in page.sections["tasks"]
    for address in (one, other):
        assert address in page.sections["workers"]
    assert "with performance_report(filename=str(path)):" in page.sections["code"]
    assert "test_performance.py, line" in page.sections["code"]
    assert [tag for tag, _ in page.tags].count("mark") == 1
    assert "msgspec" in page.sections["system"]
    html = path.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in html
    assert '<meta name="viewport"' in html
    assert re.search(r"<dt>Tasks</dt><dd>34<", html)
    assert re.search(r"<dt>Failed</dt><dd>1<", html)


def test_the_code_of_callers_further_out(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "report.html"

    def in_a_library() -> None:
        with performance_report(str(path), stacklevel=2):
            client.submit(double, 1000).result()

    in_a_library()
    assert "def test_the_code_of_callers_further_out" in read(path).sections["code"]


def test_it_is_written_when_the_work_fails(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(ZeroDivisionError), performance_report(str(path)):
        raise ZeroDivisionError
    assert "No task has ended" in read(path).sections["stream"]


def test_where_it_cannot_be_written(client: Client, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"), performance_report(str(tmp_path / "nowhere" / "report.html")):
        pass
    with pytest.raises(ZeroDivisionError), performance_report(str(tmp_path / "nowhere" / "report.html")):
        raise ZeroDivisionError


def test_to_a_url(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with performance_report(f"file://{path}", storage_options={"auto_mkdir": True}):
        client.submit(double, 1001).result()
    assert len(read(path).blocks["stream-data"]["keys"]) == 1


def test_with_is_refused_for_an_asynchronous_client() -> None:
    with pytest.raises(ValueError, match="No clients found"), performance_report():
        pass


@gen_cluster(client=True)
async def test_asynchronous(c: Client, s: Any, a: Any, b: Any) -> None:
    import tempfile

    with pytest.raises(TypeError, match="async with"), performance_report():
        pass
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.html"
        async with performance_report(str(path)):
            await c.gather(c.map(double, range(5)))
        page = read(path)
    assert len(page.blocks["stream-data"]["keys"]) == 5
    assert "async with performance_report" in page.sections["code"]
    assert "double" in Page(await s.performance_report(0.0, 0, "print(<b>)")).sections["tasks"]


@gen_cluster(client=True)
async def test_observation_ends_with_the_client(c: Client, s: Any, a: Any, b: Any) -> None:
    async with Client(s.address, asynchronous=True) as other:
        begun = await other._call("performance_report_start", client=other.id)
        reports: Reports = s.extensions["reports"]
        assert reports._open
        watcher = reports._watcher
        assert watcher is not None
    await async_poll_for(lambda: not reports._open and not watcher._thread.is_alive(), 10)
    with pytest.raises(ValueError, match="under way"):
        await c._call("performance_report_stop", report=begun["report"])


def test_readings_are_thinned_out() -> None:
    readings = Readings()
    for second in range(5 * READINGS):
        readings.add(float(second), 1, 0)
    assert READINGS / 2 <= len(readings.points) <= READINGS
    steps = {late[0] - early[0] for early, late in zip(readings.points, readings.points[1:], strict=False)}
    assert max(steps) <= 2 * min(steps)


NASTY = "x</script><img src=x onerror=alert(1)>&\"'"


def content(**changes: Any) -> ReportContent:
    runs = [
        Run(f"{NASTY}-1", "tcp://w", 1, "OK", 10, "int", (("compute", 1.0, 3.0), ("transfer", 0.5, 1.0))),
        Run("g-1", "tcp://w", 1, "error", 0, "", (("compute", 3.0, 4.0), ("load", 2.0, 3.0)), None, NASTY),
    ]
    profile = create()
    description = {"filename": NASTY, "name": NASTY, "line_number": 3, "line": NASTY}
    profile["children"]["f"] = {"count": 4, "children": {}, "identifier": "f", "description": description}
    profile["count"] = 4
    workers = [WorkerLine("tcp://w", NASTY, 2, 1000, 0, 2000, {"host": {}, "packages": {NASTY: NASTY}})]
    known: dict[str, Any] = {
        "start": 0.0,
        "stop": 5.0,
        "runs": runs,
        "workers": workers,
        "profile": profile,
        "profile_interval": 0.01,
        "loop_profile": profile,
        "loop_interval": 0.01,
        "memory": [(1.0, 500, 0), (2.0, 1500, 0)],
        "code": NASTY,
        "asked_by": {"filename": NASTY, "line": 1, "first_line": 1, "versions": {"packages": {NASTY: NASTY}}},
        "scheduler": {"address": NASTY, "versions": {"host": {NASTY: NASTY}}},
    }
    return ReportContent(**{**known, **changes})


def test_nothing_shown_can_be_markup() -> None:
    html = report_page(content())
    page = Page(html)  # refuses images and handlers of events
    assert "<img" not in html
    assert NASTY in page.sections["code"]
    assert NASTY in page.sections["profile"]
    assert NASTY in page.blocks["profile-data"]["texts"]
    assert NASTY in page.sections["system"]


def test_totals() -> None:
    whole, by_prefix, by_worker = totals(content().runs)
    assert (whole.tasks, whole.failed, whole.compute, whole.transfer, whole.load) == (2, 1, 3.0, 0.5, 1.0)
    assert (whole.longest, whole.mean, whole.nbytes) == (2.0, 1.5, 10)
    assert set(by_prefix) == {NASTY, "g"}
    assert by_worker["tcp://w"] == whole


def test_empty() -> None:
    page = Page(report_page(content(runs=[], workers=[], profile=create(), loop_profile=create(), memory=[], code="")))
    assert list(page.sections) == SECTIONS
    assert "not known" in page.sections["code"]


def test_what_runs_the_loop_is_left_out() -> None:
    def node(filename: str, count: int, *children: dict[str, Any]) -> dict[str, Any]:
        description = {"filename": filename, "name": filename, "line_number": 1, "line": ""}
        return {
            "count": count,
            "identifier": filename,
            "description": description,
            "children": {child["identifier"]: child for child in children},
        }

    loop = node("/python/asyncio/runners.py", 10, node("/ours/work.py", 3), node("/python/selectors.py", 5))
    busy = busy_part({**create(), "count": 12, "children": {"a": loop, "/ours/work.py": node("/ours/work.py", 2)}})
    assert busy["count"] == 5
    assert [child["count"] for child in busy["children"].values()] == [5]
