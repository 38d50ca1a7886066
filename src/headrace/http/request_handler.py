"""The base of classes that answer HTTP requests, for headrace's own routes and for those of users' modules.

A route is `(pattern, class, keywords)`. For each request that the pattern matches one object of the class is made. Its
`initialize` is called with the keywords, and then its method for the verb (`get`, `post`, ...), plain or async, with
the groups of the pattern as text. What the method writes is the answer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, ClassVar, Protocol, TypeAlias
from urllib.parse import parse_qs

from .json_values import json_bytes

#: Verbs that a handler may have a method for.
VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: Who may ask a handler: those with rights; also scrapers of metrics, if these are open by the settings; anybody.
MEMBERS, SCRAPERS, ALL = "members", "scrapers", "all"
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


class BodyStream(Protocol):
    """The body of an answer that is sent piece by piece."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the pieces."""
        ...

    async def aclose(self) -> None:
        """Free what gives the pieces, also if none was asked for."""


class Done:
    """Something to await that is there already: handlers may write `await self.finish()`, or not."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


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
        rights: of who asks: "full", or "read"; "" where anybody may ask.
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
    rights: str = "full"

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
    def remote_address(self) -> str:
        """The same as `remote_ip`."""
        return self.remote_ip

    @property
    def version(self) -> str:
        """The version of HTTP, such as "HTTP/1.1"."""
        number = getattr(self.raw, "version", (1, 1))
        return f"HTTP/{number[0]}.{number[1]}"

    @property
    def cookies(self) -> SimpleCookie:
        """The cookies that came; none if they are malformed."""
        found = SimpleCookie()
        try:
            found.load(self.headers.get("Cookie", ""))
        except CookieError:
            return SimpleCookie()
        return found

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
        extra: facts for pages, `{"prefix": path}`.
        path_args, path_kwargs: what the groups of the route's pattern hold, as text; those with a name by name.
        stream: set by a handler that sends its answer piece by piece, in place of what it writes.
    """

    #: Whether a page of another web site may ask for more than reading.
    accepts_cross_site: ClassVar[bool] = False
    #: Who may ask: "members" (who shows the right to), "scrapers" (of metrics), or "all".
    open_to: ClassVar[str] = MEMBERS

    server: Any
    request: HttpRequest

    def __init__(self, server: Any, request: HttpRequest, prefix: str = "") -> None:
        self.server = server
        self.request = request
        self.prefix = prefix
        self.extra: dict[str, Any] = {"prefix": prefix}
        self.path_args: list[Any] = []
        self.path_kwargs: dict[str, Any] = {}
        self.stream: BodyStream | None = None
        self.clear()

    # For subclasses to override

    def initialize(self, dask_server: Any = None, **keywords: Any) -> None:
        """Take the keywords of the route; called before each request.

        Args:
            dask_server: the same as `server`.
        """

    def prepare(self) -> Any:
        """Do what all verbs have in common; plain or async. A handler that finishes here is not asked further."""

    def set_default_headers(self) -> None:
        """Set headers that errors have as well."""

    def on_finish(self) -> None:
        """Do what is left once the answer is made; called for errors as well."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write the answer to a request that failed.

        Args:
            kwargs: `reason`, a sentence, if there is one; and `exc_info` if an exception was raised.
        """
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write(f"{status_code}: {kwargs.get('reason') or reason_of(status_code)}\n")

    # The answer

    def clear(self) -> None:
        """Forget what was written and set so far."""
        self.status = 200
        self.reason: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.finished = False
        self.set_default_headers()

    def set_status(self, status_code: int, reason: str | None = None) -> None:
        """Set the status of the answer, by default 200.

        Args:
            reason: the words for the status, instead of the usual ones.

        Raises:
            ValueError: there is no such status, or there is a line break in the words.
        """
        if not 200 <= int(status_code) <= 599:
            raise ValueError(f"the status of an answer is between 200 and 599, not {status_code!r}")
        if reason is not None and any(character in reason for character in "\r\n\0"):
            reason = " ".join(reason.replace("\0", " ").split())
        self.status, self.reason = int(status_code), reason

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
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        if any(character in name + text for character in "\r\n\0"):
            raise ValueError(f"a header cannot have line breaks: {name}: {text!r}")
        self.headers.append((name, text))

    def clear_header(self, name: str) -> None:
        """Take a header back."""
        self.headers = [header for header in self.headers if header[0].lower() != name.lower()]

    def set_cookie(self, name: str, value: str, *, path: str = "/", max_age: int | None = None, **more: Any) -> None:
        """Have the browser keep a cookie.

        Args:
            max_age: seconds for which it is kept; until the browser ends by default.
            more: further attributes: `domain`, `expires` (text), `httponly`, `samesite`, `secure`.

        Raises:
            CookieError: the name or an attribute is malformed.
        """
        cookie: SimpleCookie = SimpleCookie()
        cookie[name] = value
        attributes = {"path": path, "max-age": max_age, **more}
        cookie[name].update({key: item for key, item in attributes.items() if item is not None})
        self.add_header("Set-Cookie", cookie[name].OutputString())

    def clear_cookie(self, name: str, path: str = "/") -> None:
        """Have the browser forget a cookie."""
        self.set_cookie(name, "", path=path, max_age=0)

    def write(self, chunk: str | bytes | Mapping[str, Any]) -> None:
        """Add to the answer: text (as UTF-8), bytes, or a dictionary as JSON."""
        if self.finished:
            raise RuntimeError("the answer is finished: nothing can be added to it")
        if isinstance(chunk, Mapping):
            self.set_header("Content-Type", "application/json; charset=utf-8")
            chunk = json.dumps(dict(chunk))
        elif not isinstance(chunk, str | bytes | bytearray | memoryview):
            raise TypeError(f"write takes text, bytes or a dictionary, not {type(chunk).__name__}")
        self.chunks.append(chunk.encode("utf-8", "replace") if isinstance(chunk, str) else bytes(chunk))

    def write_json(self, value: object, status: int = 200) -> None:
        """Answer with a value as JSON, and nothing else; see `json_value` for what JSON lacks."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.chunks = [json_bytes(value)]

    def flush(self) -> Done:
        """Accepted for compatibility: an answer is sent when it is finished."""
        return Done()

    def finish(self, chunk: str | bytes | Mapping[str, Any] | None = None) -> Done:
        """End the answer, with a last piece if one is given; may be awaited, and need not."""
        if chunk is not None:
            self.write(chunk)
        self.finished = True
        return Done()

    def redirect(self, url: str, permanent: bool = False, status: int | None = None) -> None:
        """Send the caller elsewhere.

        Args:
            url: best relative to this page: a proxy may have the server under another path.
        """
        self.set_status(status or (301 if permanent else 302))
        self.set_header("Location", url)
        self.finish()

    def send_error(self, status_code: int = 500, reason: str = "", **kwargs: Any) -> None:
        """End the answer with an error, in place of what was written so far; `write_error` says how.

        Args:
            reason: a sentence for the caller.
        """
        self.clear()
        self.set_status(status_code)
        self.write_error(status_code, **({"reason": reason} if reason else {}), **kwargs)
        self.finished = True

    def render(self, template_name: str, **_: object) -> None:
        """Fail: there are no templates here.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} renders the template {template_name!r}, and headrace has no templates: make the "
            "text with a library of your choice, and write it"
        )

    render_string = render

    # What came

    @property
    def local_path(self) -> str:
        """The path without the server's prefix, if it came with it; as sent."""
        path = self.request.path
        if self.prefix and (path == self.prefix or path.startswith(self.prefix + "/")):
            return path[len(self.prefix) :]
        return path

    @property
    def cookies(self) -> SimpleCookie:
        """The cookies that came."""
        return self.request.cookies

    def get_cookie(self, name: str, default: str | None = None) -> str | None:
        """The value of a cookie that came."""
        found = self.request.cookies.get(name)
        return default if found is None else found.value

    def get_argument(self, name: str, default: Any = _MISSING, strip: bool = True) -> Any:
        """The last value of an argument in the query or in a form.

        Raises:
            HttpError: there is none, and no default; the answer is 400 and names it.
        """
        return self._last({**self.request.query_arguments, **self.request.body_arguments}, name, default, strip)

    def get_query_argument(self, name: str, default: Any = _MISSING, strip: bool = True) -> Any:
        """The last value of an argument in the query; else as `get_argument`."""
        return self._last(self.request.query_arguments, name, default, strip)

    def get_body_argument(self, name: str, default: Any = _MISSING, strip: bool = True) -> Any:
        """The last value of an argument in a form; else as `get_argument`."""
        return self._last(self.request.body_arguments, name, default, strip)

    def get_query_arguments(self, name: str, strip: bool = True) -> list[str]:
        """All values of an argument in the query."""
        return [value.strip() if strip else value for value in self.request.query_arguments.get(name, [])]

    def get_body_arguments(self, name: str, strip: bool = True) -> list[str]:
        """All values of an argument in a form."""
        return [value.strip() if strip else value for value in self.request.body_arguments.get(name, [])]

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
            return json.loads(self.request.body or b"null", parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise HttpError(400, f"the body is no JSON: {error}") from None

    @classmethod
    def paths_of(cls, shown: str) -> Iterable[str]:
        """The paths of a route as the site map lists them; by default its pattern.

        Args:
            shown: the pattern without anchors and backslashes.
        """
        return [shown]

    @classmethod
    def verbs(cls) -> Iterable[str]:
        """The verbs that handlers of this class answer."""
        methods = [verb for verb in VERBS if callable(getattr(cls, verb.lower(), None))]
        if "GET" in methods and "HEAD" not in methods:
            methods.insert(methods.index("GET") + 1, "HEAD")
        return methods


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no value of JSON")


def reason_of(status: int) -> str:
    """The usual words for a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "error" if status >= 400 else "answer"


#: A module's routes: regular expression for a path without its leading slash, class, and keywords for `initialize`.
Routes: TypeAlias = list[tuple[str, type[RequestHandler], dict[str, Any]]]


class SocketHandler(RequestHandler):
    """Answers a WebSocket: `talk` has the connection until it returns."""

    #: Whether it changes nothing, whatever comes, so that whoever may only read may connect.
    only_tells: ClassVar[bool] = False

    async def talk(self, socket: Any) -> None:
        """Talk over the socket.

        Args:
            socket: aiohttp's `WebSocketResponse`, after the handshake.
        """
        raise NotImplementedError
