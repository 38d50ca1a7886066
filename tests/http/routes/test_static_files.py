"""Files that pages need: those that are packaged, and nothing else whatever the path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.http.routes.static_files import FOLDER, static_files
from headrace.testing.clusters import gen_cluster
from tests.http.http_calls import ask


@gen_cluster(nthreads=[])
async def test_a_file_with_what_browsers_need_to_keep_it(s: Any) -> None:
    port = s.http_server.port
    answer = await ask(port, "/statics/pages.css")
    assert (answer.status, answer.body) == (200, (FOLDER / "pages.css").read_bytes())
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert "max-age" in answer.headers["cache-control"]
    tag = answer.headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = await ask(port, "/statics/pages.css", headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert (await ask(port, "/statics/pages.css", headers={"If-None-Match": '"x"'})).status == 200
    head = await ask(port, "/statics/headrace.svg", "HEAD")
    assert (head.status, head.headers["content-type"], head.body) == (200, "image/svg+xml", b"")


@gen_cluster(nthreads=[])
async def test_nothing_else(s: Any) -> None:
    for name in (
        "",
        ".",
        "..",
        "/",
        "nope.css",
        "pages.css/",
        "./pages.css",
        "x/../pages.css",
        "../__init__.py",
        "..%2f__init__.py",
        "%2e%2e/__init__.py",
        "%2e%2e%2f%2e%2e%2f__init__.py",
        "..%5c__init__.py",
        "%252e%252e/__init__.py",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "pages.css%00",
        "pages.css%00.txt",
        "%ff",
    ):
        assert (await ask(s.http_server.port, f"/statics/{name}")).status == 404, name
    assert (await ask(s.http_server.port, "/statics/pages.css", "POST")).status == 405


def test_links_and_unknown_kinds_are_left_out(tmp_path: Path) -> None:
    served = tmp_path / "served"
    (served / "inner").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.txt").write_text("x")
    (served / "inner" / "a.js").write_text("1")
    (served / "code.py").write_text("1")
    (served / "link.txt").symlink_to(tmp_path / "secret" / "key.txt")
    (served / "folder").symlink_to(tmp_path / "secret")
    assert list(static_files(served)) == ["inner/a.js"]


@pytest.mark.parametrize("name", ["pages.css", "headrace.svg"])
def test_the_pages_own_files_are_packaged(name: str) -> None:
    assert name in static_files()
