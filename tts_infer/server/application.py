"""The server as an ASGI application: which request gets which answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from tts_infer.arguments import checked
from tts_infer.errors import InputError
from tts_infer.server.admission import Admission
from tts_infer.server.audio import decoded_audio, send_audio, spoken_audio
from tts_infer.server.bodies import decode_request, speech_request
from tts_infer.server.catalogue import Catalogue
from tts_infer.server.exchange import Exchange, ReaderGoneError, Receive, Scope, Send
from tts_infer.server.guard import cross_origin_headers, require_allowed
from tts_infer.server.metrics import Metrics
from tts_infer.server.problems import problem, status_of
from tts_infer.server.settings import ServerSettings
from tts_infer.speaker import Speaker
from tts_infer.vocoder import Vocoder

_GONE = 499  # in the metrics: who went away before the answer began
_log = logging.getLogger("tts_infer.server")


class ServerApp:
    """Everything that the server answers.

    Args:
        vocoders, speakers: what it decodes and speaks with, see `Catalogue`.
        settings: limits and rights.
    """

    @checked()
    def __init__(self, vocoders: Sequence[Vocoder], settings: ServerSettings, speakers: Sequence[Speaker] = ()) -> None:
        self._catalogue = Catalogue(vocoders, speakers)
        self._settings, self._metrics = settings, Metrics()
        self._admission = Admission(settings.streams, settings.queue)
        self._began_s = int(time.time())
        self._endpoints: dict[str, dict[str, Callable[[Exchange], Awaitable[None]]]] = {
            "/v1/audio/speech": {"POST": self._speech},
            "/v1/audio/decode": {"POST": self._decode},
            "/v1/models": {"GET": self._models},
            "/health": {"GET": self._health},
            "/metrics": {"GET": self._tell_metrics},
        }

    @property
    def paths(self) -> list[str]:
        """Where its answers are."""
        return list(self._endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await _begin_and_end(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._answer(Exchange(scope, receive, send, self._settings))

    async def _answer(self, exchange: Exchange) -> None:
        try:
            require_allowed(exchange, self._settings)
            exchange.answer_headers = cross_origin_headers(exchange)
            if exchange.is_preflight:
                await exchange.answer(204, b"", "")
            else:
                await self._endpoint(exchange)(exchange)
        except ReaderGoneError:
            self._metrics.gone += 1
        except Exception as error:  # of whatever kind: the client gets an answer, and the log the rest
            await self._fail(exchange, error)
        path = exchange.path if exchange.path in self._endpoints else "other"
        self._metrics.requests[path, exchange.status or _GONE] += 1

    async def _fail(self, exchange: Exchange, error: Exception) -> None:
        """Tell an error. Once audio was sent, only the connection can tell: it ends before the answer does."""
        status = status_of(error)
        if status == 500 or exchange.status:
            _log.error("%s: %s", exchange.path, error, exc_info=error if status == 500 else None)
        if exchange.status:
            return
        try:
            await exchange.discard()
            await exchange.answer_json(status, problem(error), self._remedy(exchange, status))
        except ReaderGoneError:
            self._metrics.gone += 1

    def _remedy(self, exchange: Exchange, status: int) -> dict[str, str]:
        """The headers that say what a client can do about a status."""
        return {
            401: {"www-authenticate": "Bearer"},
            405: {"allow": ", ".join(self._endpoints.get(exchange.path, ()))},
            429: {"retry-after": str(self._admission.retry_after_s)},
        }.get(status, {})

    def _endpoint(self, exchange: Exchange) -> Callable[[Exchange], Awaitable[None]]:
        methods = self._endpoints.get(exchange.path)
        if methods is None:
            text = "there is nothing at {path}; allowed: {allowed}"
            named = {"path": exchange.path[:100], "allowed": ", ".join(self._endpoints)}
            raise InputError(text, code="server-path", **named)
        if exchange.method not in methods:
            text = "{path} takes {allowed}, not {method}"
            named = {"path": exchange.path, "allowed": ", ".join(methods), "method": exchange.method[:20]}
            raise InputError(text, code="server-method", **named)
        return methods[exchange.method]

    async def _models(self, exchange: Exchange) -> None:
        await exchange.answer_json(200, {"object": "list", "data": self._catalogue.models(self._began_s)})

    async def _health(self, exchange: Exchange) -> None:
        now = {"active": self._admission.active, "waiting": self._admission.waiting}
        await exchange.answer_json(200, {"status": "ok", **now})

    async def _tell_metrics(self, exchange: Exchange) -> None:
        text = self._metrics.text(self._admission.active, self._admission.waiting)
        await exchange.answer(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    async def _decode(self, exchange: Exchange) -> None:
        asked = decode_request(exchange.query)
        vocoder = self._catalogue.vocoder(asked.model)
        self._admission.require_room()
        body = await exchange.body(self._settings.max_bytes)

        async def work() -> None:
            audio = await decoded_audio(vocoder, body, asked)
            await send_audio(exchange, audio, asked.response_format, asked.stream, self._admission, self._metrics)

        await exchange.unless_gone(work())

    async def _speech(self, exchange: Exchange) -> None:
        self._admission.require_room()
        # a character takes 12 bytes at most, as two escapes
        body = await exchange.body(min(self._settings.max_bytes, 12 * self._settings.max_characters + 4096))
        kind = exchange.headers.get("content-type", "")
        asked = speech_request(body, kind, self._settings.max_characters)
        audio = spoken_audio(self._catalogue.speaker(asked.model, asked.voice), asked)
        await exchange.unless_gone(
            send_audio(exchange, audio, asked.response_format, asked.stream, self._admission, self._metrics)
        )


async def _begin_and_end(receive: Receive, send: Send) -> None:
    """Say that nothing is to be begun, and nothing to be ended."""
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
