"""`/statics/...`: files that pages need, those that are packaged with headrace and no others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple

from headrace.http.request_handler import ALL, HttpError, RequestHandler, Routes

FOLDER = Path(__file__).parent.parent / "statics"
#: Content types by the end of a file's name; other files are not served.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
#: Seconds for which browsers need not ask whether a file has changed.
MAX_AGE = 300


class StaticFile(NamedTuple):
    """A file to be served.

    Attributes:
        content: its bytes.
        kind: its content type.
        tag: for `ETag`; another for other content.
    """

    content: bytes
    kind: str
    tag: str


@cache
def static_files(folder: Path = FOLDER) -> dict[str, StaticFile]:
    """All files to be served, by their paths below a folder.

    A request looks into this table and never at a path, so that none can lead elsewhere; links are left out.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        linked = any((folder / part).is_symlink() for part in (inside, *inside.parents))
        if path.suffix in TYPES and path.is_file() and not linked:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            found[inside.as_posix()] = StaticFile(content, TYPES[path.suffix], tag)
    return found


class StaticHandler(RequestHandler):
    """Answers with a packaged file."""

    open_to: ClassVar[str] = ALL  # all have these files who have the package

    @classmethod
    def paths_of(cls, shown: str) -> Iterable[str]:
        """The paths of all files."""
        return [f"statics/{name}" for name in static_files()]

    def get(self, name: str) -> None:
        """Answer with the file, or with 304 if the caller has it."""
        file = static_files().get(name)
        if file is None:
            raise HttpError(404, f"there is no file {name[:200]!r}")
        self.set_header("ETag", file.tag)
        self.set_header("Cache-Control", f"public, max-age={MAX_AGE}")
        known = [each.strip().removeprefix("W/") for each in self.request.headers.get("If-None-Match", "").split(",")]
        if file.tag in known or "*" in known:
            self.set_status(304)
            return
        self.set_header("Content-Type", file.kind)
        self.write(file.content)


routes: Routes = [(r"statics/(.*)", StaticHandler, {})]
