"""One request and its answer, over ASGI: the body within bounds, the answer piece by piece, and who went away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from tts_infer.errors import InputError
from tts_infer.server.settings import ServerSettings

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


DISCARD_S = 2.0


class ReaderGoneError(Exception):
    """The client went away, or does not read. Nobody is there to be told."""


class Exchange:
    """A request, and what is answered.

    Args:
        scope, receive, send: as ASGI gives them.
        settings: the limits.

    Attributes:
        headers: of the request; names in small letters, the last of equal ones.
        status: of the answer; 0 before it begins.
        answer_headers: what every answer to this request states.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: ServerSettings) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self.query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
        self.status = 0
        self.answer_headers: dict[str, str] = {}
        self._receive, self._send, self._settings = receive, send, settings
        self._is_read = self._has_ended = False
        self._left: int | None = None  # bytes of the answer, where its length was stated

    @property
    def is_preflight(self) -> bool:
        """Whether a browser asks on behalf of a web page what that may do."""
        return self.method == "OPTIONS" and "origin" in self.headers

    async def body(self, most: int) -> bytes:
        """The body of the request, of `most` bytes.

        Raises:
            InputError: it is too large, or it does not arrive.
            ReaderGoneError: the client goes away meanwhile.
        """
        self._require_bytes(most)
        try:
            return await asyncio.wait_for(self._whole(most), self._settings.receive_s)
        except asyncio.TimeoutError:
            self._is_read = True  # as far as anybody waits for it
            text = "the request did not arrive within {seconds:g} s"
            raise InputError(text, code="server-slow", seconds=self._settings.receive_s) from None

    def require_length(self, most: int) -> None:
        """Refuse a request by what it says of its length, before a byte of it is read.

        Raises:
            InputError: it is too large, or it does not say.
        """
        if "transfer-encoding" in self.headers:
            raise InputError("the request does not state its length; send content-length", code="server-length")
        self._require_bytes(most)

    def _require_bytes(self, most: int) -> None:
        stated = self.headers.get("content-length", "0")
        if stated.isdecimal() and int(stated) > most:
            raise _too_large(most)

    async def _whole(self, most: int) -> bytes:
        content = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ReaderGoneError
            content += message.get("body", b"")
            self._is_read = not message.get("more_body", False)
            if len(content) > most:
                raise _too_large(most)
            if self._is_read:
                return bytes(content)

    async def discard(self) -> None:
        """Let the rest of the body pass, for a while: who still sends would not read the answer."""
        if self._is_read or self.method == "GET" or "expect" in self.headers:
            return
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._passed(), DISCARD_S)

    async def _passed(self) -> None:
        while (message := await self._receive()).get("more_body", False):
            pass
        if message["type"] == "http.disconnect":
            raise ReaderGoneError

    async def unless_gone(self, work: Coroutine[Any, Any, None]) -> None:
        """Work on an answer, once the body has been read. If the client goes away, the work is cancelled.

        Raises:
            ReaderGoneError: it went away. And what the work raises.
        """
        working, leaving = asyncio.create_task(work), asyncio.create_task(self._departure())
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not (working.done() or self._has_ended):
                raise ReaderGoneError
            await working
        finally:
            for task in (working, leaving):
                task.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)

    async def _departure(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        """Send the status and the headers."""
        self.status = status
        self._left = int(headers["content-length"]) if "content-length" in headers else None
        every = {"cache-control": "no-store", "x-content-type-options": "nosniff"} | self.answer_headers | headers
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in every.items()]
        await self._sent({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, content: bytes, last: bool = False) -> None:
        """Send a piece of the answer, and wait until the reader has room for more.

        A reader that has all the bytes that were stated may leave, so nothing is sent after them.

        Raises:
            ReaderGoneError: it has none for too long.
        """
        if self._has_ended:
            assert not content
            return
        if self._left is not None:
            self._left -= len(content)
        self._has_ended = last = last or self._left == 0
        await self._sent({"type": "http.response.body", "body": content, "more_body": not last})

    async def answer(self, status: int, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer of a content type."""
        sizes = {"content-type": kind, "content-length": str(len(content))} if content or kind else {}
        await self.begin(status, sizes | (headers or {}))
        await self.write(b"" if self.method == "HEAD" else content, last=True)

    async def answer_json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        await self.answer(status, json.dumps(document).encode(), "application/json", headers)

    async def _sent(self, message: Message) -> None:
        try:
            await asyncio.wait_for(self._send(message), self._settings.stall_s)
        except (asyncio.TimeoutError, OSError):
            raise ReaderGoneError from None


def _too_large(most: int) -> InputError:
    return InputError("the request is larger than {most} bytes, which is the limit", code="server-large", most=most)
