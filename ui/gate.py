"""In front of Gradio: the login for every route, bounds of calls, and calls whose answers nobody reads.

Gradio asks for the login at most of its routes, not at all. It computes what nobody waits for, and answers arguments
that it refuses with no message.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

import tts_infer
from ui.texts import translator
from ui.work import desk

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

API = "/gradio_api"
# What a browser needs to show the login, and to log in.
OPEN = ("/", "/login", "/login/", "/logout", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/pwa_icon")
OPEN_BELOW = ("/assets/", "/static/", "/svelte/", "/pwa_icon/")
OPEN_API = (f"{API}/login_check", f"{API}/theme.css", f"{API}/startup-events")  # the last one Gradio asks itself for
MOST_CALL_BYTES = 1_000_000  # files come by uploads
MOST_CALLS = 16  # of one page or program at once
MOST_UNREAD = 24  # calls that nobody reads yet, all together
UNREAD_S = 10.0  # then such a call counts as left
YOUNG_S = 1.0  # a client reads within this time; after it, a call gives way to others
_JOIN = re.compile(rf"{API}/(queue/join|call/(v2/)?[^/]+/?)")
_READ = re.compile(rf"{API}/(queue/data|call/(v2/)?[^/]+/(?P<event>[^/]+))")
_DESCRIPTION = re.compile(rb"window\.gradio_api_info = .*?;</script>", re.DOTALL)
_NO_MESSAGE = re.compile(rb'\{"error": ?null\}')
_EVENT = re.compile(rb'"event_id": ?"(\w+)"')


@dataclass(frozen=True)
class Unread:
    """A call that nobody reads yet: whose it is, since when (monotonic), and how it came."""

    session: str
    since_s: float
    scope: MutableMapping[str, Any]


class Gate:
    """An ASGI application in front of Gradio's. What it refuses, it raises.

    Args:
        inner: Gradio's.
        login: whether everything but the login itself needs one.
        others: paths that are not Gradio's, and have rights of their own.
        forget: is told of a call without a session when nobody reads it any more. Gradio makes a session of its own for
            it, half a megabyte large, and nobody else knows its name.
    """

    def __init__(
        self,
        inner: ASGI,
        login: bool = False,
        others: Collection[str] = (),
        forget: Callable[[str], object] = lambda event: None,
    ) -> None:
        self._inner, self._login, self._others, self._forget = inner, login, others, forget
        self._calls: defaultdict[str, set[str]] = defaultdict(set)  # by session: events that are not done
        self._unread: dict[str, Unread] = {}  # by event, the oldest first
        self._joining = 0
        self._waits: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it.

        Raises:
            InputError: there is no login, or too much is asked for.
        """
        path: str = scope.get("path", "")
        if scope["type"] != "http" or path in self._others:
            await self._inner(scope, receive, send)
            return
        known = not self._login or await self._is_logged_in(scope)
        if not known and not (path in OPEN or path in OPEN_API or path.startswith(OPEN_BELOW)):
            raise tts_infer.InputError("log in first: there is a name and a password", code="server-login")
        read = _READ.fullmatch(path) if scope["method"] == "GET" else None
        if path == "/" and not known:
            await self._inner(_plain(scope), receive, _edited(send, _without_description))
        elif scope["method"] == "POST" and _JOIN.fullmatch(path):
            await self._join(scope, receive, send)
        elif read:
            event = read["event"]
            session = self._session(scope, event)
            try:
                await self._read(session, scope, receive, send)
            finally:
                if session == event:
                    self._forget(event)
        else:
            with suppress(ClientDisconnect):  # in the middle of an upload
                await self._inner(scope, receive, send)

    async def _is_logged_in(self, scope: MutableMapping[str, Any]) -> bool:
        """Ask Gradio."""
        status, _ = await self._asked({**scope, "method": "GET", "path": f"{API}/login_check", "query_string": b""})
        return status == 200

    async def _join(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a call on, and take note of who should read its answer."""
        request = Request(scope, receive)
        if int(request.headers.get("content-length", MOST_CALL_BYTES + 1)) > MOST_CALL_BYTES:
            text = "a call has {most} bytes at most; upload files, and call with what that answers"
            raise tts_infer.InputError(text, code="server-large", most=MOST_CALL_BYTES)
        body = await request.body()
        session = _session_in(body)
        if session is not None and len(self._calls.get(session, ())) >= MOST_CALLS:
            _refuse(MOST_CALLS)
        if len(self._unread) + self._joining >= MOST_UNREAD and not desk.is_read(session):
            await self._make_room()
        self._joining += 1
        try:
            event = await self._joined(scope, body, send)
        finally:
            self._joining -= 1
        if event is not None:
            self._called(session or event, event, scope)

    async def _joined(self, scope: MutableMapping[str, Any], body: bytes, send: Send) -> str | None:
        """The event that a call becomes; None: Gradio refused it."""
        answers: list[bytes] = []

        async def given() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._inner(_plain(scope), given, _edited(send, answers.append))
        found = _EVENT.search(b"".join(answers))
        return found[1].decode() if found else None

    def _called(self, session: str, event: str, scope: MutableMapping[str, Any]) -> None:
        self._calls[session].add(event)
        if not desk.is_read(session):
            self._unread[event] = Unread(session, time.monotonic(), dict(scope))
            wait = asyncio.create_task(self._wait_for_reader(event))
            self._waits.add(wait)
            wait.add_done_callback(self._waits.discard)

    async def _wait_for_reader(self, event: str) -> None:
        await asyncio.sleep(UNREAD_S)
        await self._take_back(event)

    async def _make_room(self) -> None:
        """The call that nobody has read for the longest time gives way.

        Raises:
            InputError: all are young.
        """
        event = next(iter(self._unread), None)
        if event is None or time.monotonic() - self._unread[event].since_s < YOUNG_S:
            _refuse(MOST_UNREAD)
        await self._take_back(event)

    async def _take_back(self, event: str) -> None:
        """End a call that nobody reads: as if its page had been opened, and closed at once."""
        call = self._unread.pop(event, None)
        if call is None:
            return
        query = f"session_hash={call.session}".encode()
        await self._asked({**call.scope, "method": "GET", "path": f"{API}/queue/data", "query_string": query})
        self._calls.pop(call.session, None)
        desk.stop(call.session)

    async def _read(self, session: str, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass events on to who reads them. When nobody reads any more, nobody waits for what is computed."""
        for event in [event for event, call in self._unread.items() if call.session == session]:
            del self._unread[event]
        said = json.dumps({"error": translator(Request(scope))("refused-arguments")}).encode()  # type: ignore[arg-type]

        def edited(chunk: bytes) -> bytes:
            if b"process_completed" in chunk:
                self._calls[session] -= {event.decode() for event in _EVENT.findall(chunk)}
            return _NO_MESSAGE.sub(lambda _: said, chunk)

        try:
            with desk.reading(session):
                await self._inner(_plain(scope), receive, _edited(send, edited))
        finally:
            if not desk.is_read(session):
                self._calls.pop(session, None)

    def _session(self, scope: MutableMapping[str, Any], event: str | None) -> str:
        """Whose events are read."""
        if event is None:
            return Request(scope).query_params.get("session_hash", "")
        return next((session for session, events in self._calls.items() if event in events), event)

    async def _asked(self, scope: MutableMapping[str, Any]) -> tuple[int, bytes]:
        """What Gradio answers to a request that is left as soon as it was made."""
        status, answers = 0, []

        async def gone() -> Message:
            return {"type": "http.disconnect"}

        async def heard(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            answers.append(message.get("body", b""))

        # by this version of ASGI, Gradio asks whether the client is there before it sends anything
        await self._inner({**_plain(scope), "asgi": {"version": "3.0", "spec_version": "2.4"}}, gone, heard)
        return status, b"".join(answers)


def _refuse(most: int) -> NoReturn:
    text = "{most} calls wait already; read their answers, or wait, and call again"
    raise tts_infer.InputError(text, code="server-calls", most=most)


def _plain(scope: MutableMapping[str, Any]) -> dict[str, Any]:
    """The request without leave to compress the answer, which is read here."""
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]}


def _edited(send: Send, edit: Callable[[bytes], bytes | None]) -> Send:
    """Send what `edit` makes of each chunk; None leaves it as it is."""

    async def edited(message: Message) -> None:
        if message["type"] == "http.response.body":
            made = edit(message.get("body", b""))
            await send(message if made is None else {**message, "body": made})
        else:
            await send(message)

    return edited


def _without_description(page: bytes) -> bytes:
    """The login page without the description of the API. It keeps its length, which is stated already."""

    def emptied(found: re.Match[bytes]) -> bytes:
        return b"window.gradio_api_info = {};</script>".ljust(len(found[0]))

    return _DESCRIPTION.sub(emptied, page)


def _session_in(body: bytes) -> str | None:
    """The session that a call names."""
    try:
        asked = json.loads(body)
    except ValueError:
        return None  # Gradio says so
    session = asked.get("session_hash") if isinstance(asked, dict) else None
    return session if isinstance(session, str) else None
