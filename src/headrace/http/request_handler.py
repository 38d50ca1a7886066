"""The base of classes that answer HTTP requests, for headrace's own routes and for those of users' modules.

A route is `(pattern, class, keywords)`. For each request that the pattern matches one object of the class is made. Its
`initialize` is called with the keywords, and then its method for the verb (`get`, `post`, ...), plain or async, with
the groups of the pattern as text. What the method writes is the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias
from urllib.parse import parse_qs

#: Verbs that a handler may have a method for.
VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MISSING = object()


class HttpError(Exception):
    """Raised by handlers to answer with an error.

    Args:
        status: of the answer, 400 to 599.
        reason: a sentence for the caller.
        headers: further headers of the answer.
    """

    def __init__(self, status: int = 500, reason: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, reason)
        self.status = self.status_code = status
        self.reason = reason
        self.headers = dict(headers or {})


@dataclass(slots=True)
class HttpRequest:
    """What a handler may know of a request.

    Attributes:
        method: "GET" etc.
        path: as sent, with its leading slash and percent signs, without the query.
        query: the text after the question mark.
        headers: names are found in any case.
        body: as sent; empty for GET.
        remote_ip: address of who asked (of the proxy, if there is one).
        protocol: "http" or "https".
        host: what the caller thinks it talks to, such as "localhost:8787".
        raw: aiohttp's request, for what else there is.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    remote_ip: str
    protocol: str
    host: str
    raw: Any = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """Path and query, as sent."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def query_arguments(self) -> dict[str, list[str]]:
        """The values of each argument in the query."""
        return parse_qs(self.query, keep_blank_values=True)

    @property
    def body_arguments(self) -> dict[str, list[str]]:
        """The values of each argument in the body of a form."""
        if not self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            return {}
        return parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True)

    @property
    def arguments(self) -> dict[str, list[bytes]]:
        """The values of each argument in query and body, as bytes."""
        found: dict[str, list[bytes]] = {}
        for arguments in (self.query_arguments, self.body_arguments):
            for name, values in arguments.items():
                found.setdefault(name, []).extend(value.encode() for value in values)
        return found

    def full_url(self) -> str:
        """The address that was asked for."""
        return f"{self.protocol}://{self.host}{self.uri}"


class RequestHandler:
    """Answers one request.

    Attributes:
        server: the Scheduler, Worker or Nanny that is asked.
        request: what came.
        prefix: path under which the server's pages are as the caller sees them, without a slash at its end.
    """

    #: Whether a page of another web site may ask for more than reading.
    accepts_cross_site: ClassVar[bool] = False

    server: Any
    request: HttpRequest

    def __init__(self, server: Any, request: HttpRequest, prefix: str = "") -> None:
        self.server = server
        self.request = request
        self.prefix = prefix
        self.status = 200
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.finished = False

    # For subclasses to override

    def initialize(self, dask_server: Any = None, **keywords: Any) -> None:
        """Take the keywords of the route; called before each request.

        Args:
            dask_server: the same as `server`.
        """

    def prepare(self) -> Any:
        """Do what all verbs have in common; plain or async. A handler that finishes here is not asked further."""

    # The answer

    def set_status(self, status_code: int, reason: str | None = None) -> None:
        """Set the status of the answer, by default 200."""
        self.status = int(status_code)

    def get_status(self) -> int:
        """The status that the answer has so far."""
        return self.status

    def set_header(self, name: str, value: object) -> None:
        """Set a header of the answer in place of others of that name."""
        self.headers = [header for header in self.headers if header[0].lower() != name.lower()]
        self.add_header(name, value)

    def add_header(self, name: str, value: object) -> None:
        """Add a header to the answer.

        Raises:
            ValueError: there is a line break in it.
        """
        text = str(value)
        if any(character in name + text for character in "\r\n\0"):
            raise ValueError(f"a header cannot have line breaks: {name}: {text!r}")
        self.headers.append((name, text))

    def clear_header(self, name: str) -> None:
        """Take a header back."""
        self.headers = [header for header in self.headers if header[0].lower() != name.lower()]

    def write(self, chunk: str | bytes | Mapping[str, Any]) -> None:
        """Add to the answer: text (as UTF-8), bytes, or a dictionary as JSON."""
        if self.finished:
            raise RuntimeError("the answer is finished: nothing can be added to it")
        if isinstance(chunk, Mapping):
            self.set_header("Content-Type", "application/json; charset=utf-8")
            chunk = json.dumps(dict(chunk))
        elif not isinstance(chunk, str | bytes | bytearray | memoryview):
            raise TypeError(f"write takes text, bytes or a dictionary, not {type(chunk).__name__}")
        self.chunks.append(chunk.encode() if isinstance(chunk, str) else bytes(chunk))

    def write_json(self, value: object, status: int = 200) -> None:
        """Answer with a value as JSON, and nothing else."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.chunks = [json.dumps(value).encode()]

    def finish(self, chunk: str | bytes | Mapping[str, Any] | None = None) -> None:
        """End the answer, with a last piece if one is given."""
        if chunk is not None:
            self.write(chunk)
        self.finished = True

    def redirect(self, url: str, permanent: bool = False, status: int | None = None) -> None:
        """Send the caller elsewhere.

        Args:
            url: best relative to this page: a proxy may have the server under another path.
        """
        self.set_status(status or (301 if permanent else 302))
        self.set_header("Location", url)
        self.finish()

    def send_error(self, status_code: int = 500, reason: str = "", **_: object) -> None:
        """Answer with an error, in place of what was written so far.

        Args:
            reason: a sentence for the caller.
        """
        raise HttpError(status_code, reason)

    # What came

    def get_argument(self, name: str, default: Any = _MISSING, strip: bool = True) -> Any:
        """The last value of an argument in the query or in a form.

        Raises:
            HttpError: there is none, and no default; the answer is 400 and names it.
        """
        return self._last({**self.request.query_arguments, **self.request.body_arguments}, name, default, strip)

    def get_query_argument(self, name: str, default: Any = _MISSING, strip: bool = True) -> Any:
        """The last value of an argument in the query; else as `get_argument`."""
        return self._last(self.request.query_arguments, name, default, strip)

    def get_arguments(self, name: str, strip: bool = True) -> list[str]:
        """All values of an argument, of the query and of a form."""
        values = self.request.query_arguments.get(name, []) + self.request.body_arguments.get(name, [])
        return [value.strip() if strip else value for value in values]

    def _last(self, arguments: Mapping[str, list[str]], name: str, default: Any, strip: bool) -> Any:
        values = arguments.get(name)
        if not values:
            if default is _MISSING:
                raise HttpError(400, f"the argument {name!r} is missing")
            return default
        return values[-1].strip() if strip else values[-1]

    def json_body(self) -> Any:
        """The value of a body in JSON. Its content type must say so: a form of another web site cannot.

        Raises:
            HttpError: the content type is another (415), or the body is no JSON (400).
        """
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HttpError(415, "send JSON, with the header 'Content-Type: application/json'")
        try:
            return json.loads(self.request.body or b"null")
        except (ValueError, RecursionError) as error:
            raise HttpError(400, f"the body is no JSON: {error}") from None

    @classmethod
    def verbs(cls) -> Iterable[str]:
        """The verbs that handlers of this class answer."""
        methods = [verb for verb in VERBS if callable(getattr(cls, verb.lower(), None))]
        if "GET" in methods and "HEAD" not in methods:
            methods.insert(methods.index("GET") + 1, "HEAD")
        return methods


#: A module's routes: regular expression for a path without its leading slash, class, and keywords for `initialize`.
Routes: TypeAlias = list[tuple[str, type[RequestHandler], dict[str, Any]]]


class SocketHandler(RequestHandler):
    """Answers a WebSocket: `talk` has the connection until it returns."""

    async def talk(self, socket: Any) -> None:
        """Talk over the socket.

        Args:
            socket: aiohttp's `WebSocketResponse`, after the handshake.
        """
        raise NotImplementedError
