"""The pages for people: all that they show is escaped, links hold behind prefixes and proxies, sizes are bounded."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest

import headrace.http.pages.cluster_views
import headrace.http.routes.scheduler_pages as scheduler_pages
from headrace import Client, Event, Worker
from headrace.scheduler.state.records.workers import WorkerState
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.http.http_calls import Answer, ask

HOSTILE = "<script>alert(1)</script>'\"&"
PAGES = [
    "",
    "status",
    "workers",
    "tasks",
    "groups",
    "exceptions",
    "info/main/workers.html",
    "info/main/exceptions.html",
    "info/main/logs.html",
    "json/index.html",
    "system",
    "gpu",
    "individual-task-stream",
]


class Reader(HTMLParser):
    """Collects links and elements, and checks that elements are closed in order."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on")]
        if given.get("href"):
            self.links.append(str(given["href"]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(answer: Answer) -> Reader:
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    reader = Reader(answer.text)
    assert "script" not in reader.tags
    assert HOSTILE not in answer.text
    assert not [link for link in reader.links if urlsplit(link).scheme or link.startswith("/")]
    return reader


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.mark.parametrize("prefix", ["", "/foo/bar"])
def test_all_links_lead_somewhere_from_every_page(prefix: str) -> None:
    @gen_cluster(
        client=True,
        nthreads=[("127.0.0.1", 1)],
        scheduler_kwargs={"dashboard": True, "http_prefix": prefix or "/"},
        worker_kwargs={"name": f"w/{HOSTILE}", "resources": {HOSTILE: 1}},
    )
    async def run(c: Client, s: Any, a: Worker) -> None:
        keys = [("x", 0), b"by/te\xff", 7, -1.5, f"a/b{HOSTILE}?c#d%2F%25..", ("y", ("z", b"q"), 2), " ", ".."]
        futures = [c.submit(int, 1, key=key) for key in keys]
        await c.gather(futures)
        failed = c.submit(fail, HOSTILE, key=HOSTILE)
        await failed.exception()
        total = c.submit(sum, futures, key="total", resources={HOSTILE: 1})
        await total
        seen: set[str] = set()
        start = f"http://x{prefix}/"
        waiting = [start + page for page in PAGES]
        shown = ""
        while waiting:
            url = waiting.pop()
            if url in seen:
                continue
            seen.add(url)
            parts = urlsplit(url)
            answer = await ask(s.http_server.port, parts.path + (f"?{parts.query}" if parts.query else ""))
            assert answer.status == 200, (url, answer.text)
            assert url.startswith(start), url
            if answer.headers["content-type"].startswith("text/html"):
                shown += answer.text
                waiting += [urljoin(url, link).partition("#")[0] for link in read(answer).links]
        texts = [quote(str(key), safe="") for key in keys]
        for text in texts:
            assert any(text in url or text in url.replace("+", "%20") for url in seen), text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
        assert f"{start}info/main/workers.html" in seen
        assert any("/proxy/" in url for url in seen)

    run()


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_task_is_found_by_its_key_in_any_form(c: Client, s: Any, a: Worker) -> None:
    keys = [("x", 0), b"bytes", 7, "text", "a/b", ("x-1", ("y", 2.5), b"z")]
    futures = [c.submit(int, 1, key=key) for key in keys]
    await c.gather(futures)
    port = s.http_server.port
    for key in keys:
        text = str(key)
        for path in (
            f"{quote(text, safe='')}.html",
            f"{quote(text)}.html",
            f"by-name.html?name={quote(text, safe='')}",
        ):
            answer = await ask(port, f"/info/task/{path}")
            assert "Story" in answer.text, (path, answer)
            read(answer)
    for unknown in ("nope", "('x',", "(" * 500, "9" * 3000, "__import__('os')", "nan", "{}", "x" * 5000, "%ff%00"):
        answer = await ask(port, f"/info/task/{unknown if '%' in unknown else quote(unknown)}.html")
        assert (answer.status, "does not know a task" in answer.text) == (404, True)
        assert len(answer.body) < 500


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_worker_is_found_by_its_address_in_the_forms_that_proxies_leave(c: Client, s: Any, a: Worker) -> None:
    location = a.address.removeprefix("tcp://")
    for kind in ("worker", "logs", "call-stacks"):
        for name in (a.address, quote(a.address, safe=""), location, f"tcp:/{location}"):
            read(await ask(s.http_server.port, f"/info/{kind}/{name}.html"))
        for name in ("tcp://127.0.0.1:1", f"tls://{location}", "", "..", "%00"):
            answer = await ask(s.http_server.port, f"/info/{kind}/{name}.html")
            assert (answer.status, "there is no worker" in answer.text) == (404, True), name


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_call_stacks(c: Client, s: Any, a: Worker) -> None:
    port = s.http_server.port
    done = c.submit(int, 1, key="done")
    await done
    answer = await ask(port, "/info/call-stack/done.html")
    assert "does not run" in answer.text
    gate = Event("go", client=c)
    running = c.submit(_waiting_for_the_gate, key="running")
    await async_poll_for(lambda: bool(a.state.executing), 10)
    for path in ("call-stack/running", f"call-stacks/{quote(a.address, safe='')}"):
        answer = await ask(port, f"/info/{path}.html")
        read(answer)
        assert "_waiting_for_the_gate" in answer.text
    assert (await ask(port, "/info/call-stack/nope.html")).status == 404
    await gate.set()
    await running


def _waiting_for_the_gate() -> None:
    Event("go").wait()


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_worker_that_does_not_answer_is_waited_for_in_bounds(c: Client, s: Any, a: Worker) -> None:
    async def never(**_: object) -> None:
        await asyncio.Event().wait()

    s.broadcast = never
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler_pages, "WORKER_SECONDS", 0.1)
        answer = await ask(s.http_server.port, f"/info/logs/{quote(a.address, safe='')}.html")
    assert (answer.status, "did not answer within 0.1 s" in answer.text) == (504, True)

    async def unreachable(msg: Any, workers: list[str], **_: object) -> dict[str, Any]:
        return {workers[0]: OSError("it is gone")}

    s.broadcast = unreachable
    answer = await ask(s.http_server.port, f"/info/call-stacks/{quote(a.address, safe='')}.html")
    assert (answer.status, "it is gone" in answer.text) == (504, True)


@gen_cluster(nthreads=[], scheduler_kwargs={"dashboard": True})
async def test_without_workers_and_tasks(s: Any) -> None:
    for path in PAGES:
        read(await ask(s.http_server.port, f"/{path}"))
    assert "No worker is connected" in (await ask(s.http_server.port, "/")).text


@gen_cluster(nthreads=[], scheduler_kwargs={"dashboard": True})
async def test_thousands_of_workers_are_shown_in_pages(s: Any) -> None:
    records = {f"tcp://10.0.0.1:{number}": WorkerState(f"tcp://10.0.0.1:{number}") for number in range(1, 1001)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s.core, "workers", records)
        for path, told in (("/", "50 of them are shown"), ("/info/main/workers.html", "Workers 1 to 200 of 1,000")):
            answer = await ask(s.http_server.port, path)
            assert told in answer.text
            assert len(answer.body) < 300_000
        last = await ask(s.http_server.port, "/info/main/workers.html?page=5")
        assert "Workers 801 to 1,000 of 1,000" in last.text
        for odd in ("x", "-1", "0", "99999", "9" * 50, "٣"):
            assert (await ask(s.http_server.port, f"/info/main/workers.html?page={quote(odd)}")).status == 200
    assert headrace.http.pages.cluster_views.OVERVIEW_WORKERS == 50


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_many_neighbours_and_results_are_cut_with_a_word(c: Client, s: Any, a: Worker) -> None:
    parts = c.map(int, range(300))
    await c.submit(sum, parts, key="total")
    answer = await ask(s.http_server.port, "/info/task/total.html")
    assert "50 of 300 are shown" in answer.text
    answer = await ask(s.http_server.port, f"/info/worker/{a.address.removeprefix('tcp://')}.html")
    assert re.search(r"200 of 3\d\d are shown", answer.text)


@gen_cluster(nthreads=[], scheduler_kwargs={"dashboard": True, "http_prefix": "/foo"})
async def test_redirects_and_refreshing(s: Any) -> None:
    port = s.http_server.port
    for path in ("/info", "/foo/info"):
        answer = await ask(port, path)
        assert (answer.status, answer.headers["location"]) == (302, "info/main/workers.html")
    bare = await ask(port, "/foo")
    assert "foo/info/main/workers.html" in read(bare).links
    assert "refresh" not in bare.headers
    assert (await ask(port, "/?refresh=5")).headers["refresh"] == "5"
    assert (await ask(port, "/?refresh=99999")).headers["refresh"] == "3600"
    assert "refresh" not in (await ask(port, "/?refresh=-1%0d%0aX:1")).headers
    assert (await ask(port, "/individual-plots.json")).body == b"{}"


@gen_cluster(nthreads=[])
async def test_pages_for_people_link_only_to_what_is_served(s: Any) -> None:
    """Without a dashboard there is no front page."""
    assert (await ask(s.http_server.port, "/status")).status == 404
    assert "../../status" not in read(await ask(s.http_server.port, "/info/main/workers.html")).links
