"""From a request to its answer: finds the route, checks what any request must keep to, calls the handler.

Faults of the caller are answered with a sentence and a 4xx; faults of a handler with 500 and one log line. Works on
aiohttp's low-level server, and is imported at the first connection, with aiohttp.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from multidict import CIMultiDict

from headrace.auth.signed_claims import FULL, looks_signed
from headrace.comm.complaints import Complaints
from headrace.containment import contained, traceback_of
from headrace.rpc.server_life import Node

from .cross_site import READING, is_cross_site
from .http_access import CHALLENGE, PASS_HEADER, READ_ONLY, Asking, HttpAccess, may_do
from .http_limits import HttpLimits
from .login_links import LoginRefusedError, split_code
from .request_handler import MEMBERS, VERBS, BodyStream, HttpError, HttpRequest, RequestHandler, SocketHandler
from .route_tables import Route

#: Set on every answer: what it says is not to be guessed at, and is not to be kept.
COMMON_HEADERS = {
    "Server": "headrace",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "same-origin",
}


class Dispatcher:
    """Answers the requests of one server.

    Args:
        owner: the Scheduler, Worker or Nanny.
        table: routes; the first that matches answers.
        prefix: path, without slashes around it, that requests may have before them, or not.
        access: decides who may ask what.
        limits: what a request may take.
        logger: for faults of handlers.
    """

    def __init__(
        self,
        owner: Node,
        table: Sequence[Route],
        prefix: str,
        access: HttpAccess,
        limits: HttpLimits,
        logger: logging.Logger,
    ) -> None:
        self.owner = owner
        self.table = list(table)
        self.prefix = prefix
        self.access = access
        self.limits = limits
        self.complaints = Complaints(logger)
        #: connections that have become WebSockets
        self.sockets: dict[Any, web.WebSocketResponse] = {}

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request of aiohttp's server."""
        response = await self._answer_or_error(request)
        if getattr(request.protocol, "is_at_last_request", False):
            response.force_close()
        return response

    async def _answer_or_error(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except HttpError as error:
            return _error(request, error.status, error.reason, error.headers)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except BaseException as raised:
            raised = contained(raised, awaited=True)
            self._complain(request, raised)
            return _error(request, 500, self._of_fault(raised))

    @property
    def _kind(self) -> str:
        return str(getattr(self.owner, "kind", "server")).lower()

    def _complain(self, request: web.BaseRequest, error: BaseException) -> None:
        where = request.remote or "?"
        text = "HTTP: %s %.200s from %s failed"
        self.complaints.say(
            "a request", where, text, request.method, request.raw_path, where, level=logging.ERROR, error=error
        )

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        raw_path, _, query = request.raw_path.partition("?")
        if "://" in raw_path[:8]:  # as proxies are asked
            raw_path = "/" + raw_path.split("/", 3)[3] if raw_path.count("/") >= 3 else "/"
        if not raw_path.startswith("/"):
            raise HttpError(400, f"a path begins with a slash, not like {raw_path[:100]!r}")
        found = self._route_of(raw_path)
        open_to = MEMBERS if found is None else found[0].handler.open_to
        rights = "" if self.access.asks else FULL
        if not self.access.is_open(open_to):
            asking = _asking(request)
            shown = await self.access.rights_of(asking)
            redirect = self._logged_in(asking, shown, raw_path, query)
            if redirect is not None:
                return redirect
            rights = self._some_rights(shown, asking, raw_path, request)
        if found is None:
            raise HttpError(404, f"there is nothing at {raw_path[:200]}; /sitemap.json lists what there is")
        route, groups, named = found
        verbs = list(route.handler.verbs())
        if issubclass(route.handler, SocketHandler):
            verbs.append("GET")
        if request.method not in verbs:
            allowed = ", ".join(dict.fromkeys(verbs))
            known = request.method in VERBS
            raise HttpError(
                405 if known else 501, f"{request.method[:20]} is not answered here, but {allowed}", {"Allow": allowed}
            )
        headers = request.headers
        acts = issubclass(route.handler, SocketHandler) and not route.handler.only_tells
        if rights and not may_do(rights, request.method, acts):
            raise HttpError(403, READ_ONLY)
        changes = request.method not in READING
        if changes and not route.handler.accepts_cross_site and is_cross_site(headers, request.host):
            raise HttpError(403, "pages of other web sites may not do this")
        seconds = self.limits.request_seconds
        async with _in_time(seconds, HttpError(408, f"the body was not here within {seconds:g} s")):
            body = await self._body(request)
        told = HttpRequest(
            request.method,
            raw_path,
            query,
            headers,
            body,
            request.remote or "",
            request.scheme,
            request.host,
            request,
            rights,
        )
        handler = route.handler(self.owner, told, f"/{self.prefix}" if self.prefix else "")
        if isinstance(handler, SocketHandler):
            _initialize(handler, route.keywords)
            return await self._talk(handler, request)
        handler.path_args, handler.path_kwargs = ([], named) if named else (groups, {})
        try:
            seconds = handler_seconds(handler, self.limits)
            async with _in_time(seconds, HttpError(504, f"this could not be answered within {seconds:g} s")):
                _initialize(handler, route.keywords)
                await self._call(handler)
        except BaseException as raised:
            if not _ends_the_answer(raised):
                self._send_failure(handler, request, raised)
        finally:
            handler.on_finish()
        if handler.stream is not None:
            async with contextlib.aclosing(handler.stream):
                return await self._streamed(handler, request, handler.stream)
        return self._response(handler)

    def _logged_in(self, asking: Asking, rights: str | None, raw_path: str, query: str) -> web.StreamResponse | None:
        """Where a page is asked for with a code to log in: a cookie for it, and the way to the page without it.

        A code that is of no use stops only those who have no other rights: people click on old links. What has not the
        form of a code is an argument of some user's page, for those who may see it.

        Raises:
            HttpError: there are no rights, and the code gives none.
        """
        code, rest = split_code(query)
        if code is None or asking.method != "GET" or (rights is not None and not looks_signed(code)):
            return None
        below = f"/{self.prefix}" if self.prefix and f"{raw_path}/".startswith(f"/{self.prefix}/") else "/"
        headers = {"Location": "./" + raw_path.rpartition("/")[2] + (f"?{rest}" if rest else "")}
        try:
            headers["Set-Cookie"] = self.access.log_in(code, asking, below)
        except LoginRefusedError as refused:
            if rights is None:
                raise HttpError(403, f"{refused}; open a new one") from None
        no_traces = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return web.Response(status=302, headers={**COMMON_HEADERS, **no_traces, **headers})

    def _some_rights(self, rights: str | None, asking: Asking, raw_path: str, request: web.BaseRequest) -> str:
        """The rights, if there are any.

        Raises:
            HttpError: there are none.
        """
        if rights is not None:
            return rights
        where = request.remote or "?"
        text = "HTTP: %s %.200s from %s is not admitted"
        self.complaints.say("a request without rights", where, text, request.method, raw_path, where)
        raise HttpError(401, self.access.refusal(asking), CHALLENGE)

    def _send_failure(self, handler: RequestHandler, request: web.BaseRequest, raised: BaseException) -> None:
        """Answer with what a handler raised, in the way of its class."""
        status = _status_of(raised)
        headers: Mapping[str, str] = {}
        if status is not None:
            reason, headers = str(getattr(raised, "reason", None) or ""), getattr(raised, "headers", None) or {}
        else:
            raised = contained(raised, awaited=True)
            self._complain(request, raised)
            status, reason = 500, self._of_fault(raised)
        handler.send_error(status, _CONTROL.sub(" ", reason), exc_info=(type(raised), raised, traceback_of(raised)))
        for name, value in headers.items():
            handler.set_header(name, value)

    def _of_fault(self, error: Exception) -> str:
        return f"{type(error).__name__} while answering; the log of the {self._kind} has it"

    async def _streamed(
        self, handler: RequestHandler, request: web.BaseRequest, stream: BodyStream
    ) -> web.StreamResponse:
        """Send an answer piece by piece, as its handler gives them and the caller takes them."""
        response = web.StreamResponse(status=handler.status, reason=handler.reason, headers=CIMultiDict(COMMON_HEADERS))
        _set_headers(response, handler.headers)
        await response.prepare(request)
        if request.method != "HEAD":
            async for piece in stream:
                await response.write(piece)
        await response.write_eof()
        return response

    def _route_of(self, raw_path: str) -> tuple[Route, list[Any], dict[str, Any]] | None:
        """The first route that matches a path, with or without the prefix; what its groups hold, all and those named.

        Groups hold text, and None where they have no part in the match.
        """
        path = raw_path.lstrip("/")
        candidates = [path]
        if self.prefix and (path == self.prefix or path.startswith(self.prefix + "/")):
            candidates.insert(0, path.removeprefix(self.prefix).lstrip("/"))
        for candidate in candidates:
            plain = unquote(candidate)
            for route in self.table:
                # patterns are written for plain characters, and groups may hold quoted slashes
                match = route.pattern.fullmatch(candidate)
                quoted = match is not None
                match = match or route.pattern.fullmatch(plain)
                if match is None:
                    continue
                groups = [unquote(group) if group and quoted else group for group in match.groups()]
                named = {name: groups[number - 1] for name, number in route.pattern.groupindex.items()}
                return route, groups, named
        return None

    async def _body(self, request: web.BaseRequest) -> bytes:
        if request.method in READING:
            return b""
        most = self.limits.body_bytes
        length = request.content_length
        if length is not None and length > most:
            raise HttpError(413, f"a body may have {most} bytes, not {length}", {"Connection": "close"})
        pieces, size = [], 0
        async for piece in request.content.iter_chunked(1 << 16):
            size += len(piece)
            if size > most:
                raise HttpError(413, f"a body may have {most} bytes", {"Connection": "close"})
            pieces.append(piece)
        return b"".join(pieces)

    async def _call(self, handler: RequestHandler) -> None:
        verb = handler.request.method.lower()
        function = getattr(handler, verb, None) or (handler.get if verb == "head" else None)  # type: ignore[attr-defined]
        result = handler.prepare()
        if inspect.isawaitable(result):
            await result
        if handler.finished or function is None:
            return
        result = function(*handler.path_args, **handler.path_kwargs)
        if inspect.isawaitable(result):
            result = await result
        if not handler.finished and not handler.chunks and isinstance(result, str | bytes | dict):
            handler.write(result)

    def _response(self, handler: RequestHandler) -> web.Response:
        response = web.Response(status=handler.status, reason=handler.reason, body=b"".join(handler.chunks))
        for name, value in COMMON_HEADERS.items():
            response.headers[name] = value
        has_type = any(name.lower() == "content-type" for name, _ in handler.headers)
        if not has_type:
            response.headers["Content-Type"] = "text/html; charset=utf-8"
        _set_headers(response, handler.headers)
        if len(handler.chunks) and sum(map(len, handler.chunks)) > self.limits.compress_from:
            response.enable_compression()
        return response

    async def _talk(self, handler: SocketHandler, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            heartbeat=self.limits.socket_ping_seconds, max_msg_size=self.limits.body_bytes, timeout=5.0
        )
        if not socket.can_prepare(request).ok:
            raise HttpError(426, "this is a WebSocket: connect by ws://", {"Upgrade": "websocket"})
        if not handler.accepts_cross_site and is_cross_site(request.headers, request.host):
            raise HttpError(403, "pages of other web sites may not connect here")
        if len(self.sockets) >= self.limits.sockets:
            raise HttpError(503, f"there are {self.limits.sockets} WebSockets already, and no more at once")
        await socket.prepare(request)
        self.sockets[request.protocol] = socket
        try:
            await handler.talk(socket)
        finally:
            self.sockets.pop(request.protocol, None)
            if not socket.closed:
                await socket.close()
        return socket


def _asking(request: web.BaseRequest) -> Asking:
    connection: Any = request.protocol
    headers = request.headers
    return Asking(
        request.method,
        request.raw_path,
        headers.get("Host"),
        request.scheme,
        connection.own_port,
        headers.get("Authorization", ""),
        tuple(headers.getall("Cookie", ())),
        headers.get(PASS_HEADER, ""),
        connection.is_same_user,
    )


@contextlib.asynccontextmanager
async def _in_time(seconds: float, failure: HttpError) -> AsyncIterator[None]:
    """Do what is inside within some seconds, or raise the error."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise failure from None
        raise


def _status_of(raised: BaseException) -> int | None:
    """The status for an error that has one: ours, and those of web frameworks that users' handlers may raise."""
    if isinstance(raised, HttpError):
        return raised.status
    status = getattr(raised, "status_code", None) if isinstance(raised, Exception) else None
    return status if isinstance(status, int) and 400 <= status <= 599 else None


def _ends_the_answer(raised: BaseException) -> bool:
    """Whether a handler raised tornado's way to end an answer as it is."""
    return any((kind.__module__, kind.__name__) == ("tornado.web", "Finish") for kind in type(raised).__mro__)


def handler_seconds(handler: RequestHandler, limits: HttpLimits) -> float:
    """Seconds that a handler may take; its class may say so by `seconds`."""
    return float(getattr(handler, "seconds", limits.request_seconds))


def _set_headers(response: web.StreamResponse, headers: Sequence[tuple[str, str]]) -> None:
    """Set an answer's headers in place of those that it has by these names."""
    for name in {name.lower() for name, _ in headers}:
        response.headers.popall(name, None)
    for name, value in headers:
        response.headers.add(name, value)


def _initialize(handler: RequestHandler, keywords: dict[str, Any]) -> None:
    """Call a handler's `initialize`; users' classes need not take the server, and routes may give one themselves."""
    try:
        parameters = inspect.signature(handler.initialize).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    takes = any(each.name == "dask_server" or each.kind is each.VAR_KEYWORD for each in parameters)
    handler.initialize(**({"dask_server": handler.server, **keywords} if takes else keywords))


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _error(request: web.BaseRequest, status: int, reason: str, headers: dict[str, str] | None = None) -> web.Response:
    text = _CONTROL.sub(" ", reason) or "error"
    response = web.Response(status=status, text=f"{status}: {text}\n", headers={**COMMON_HEADERS, **(headers or {})})
    if status in (408, 413) or (headers or {}).get("Connection") == "close":
        response.force_close()
    return response
