"""Who may use a server: by the name that it is called by, the web page that calls, and the key."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

from tts_infer.arguments import checked
from tts_infer.errors import InputError, TTSInferError
from tts_infer.server.exchange import Exchange, ReaderGoneError, Receive, Scope, Send
from tts_infer.server.problems import problem, status_of
from tts_infer.server.settings import LOCAL_NAMES, ServerSettings

OPEN_PATHS = ("/health",)  # for who has no key


class GuardedApp:
    """An ASGI application behind a guard: other web pages and names of others do not reach it, nor do large requests.

    What it raises of this package before it answers is told as JSON.

    Args:
        app: the application.
        settings: whom to let in, and how many bytes; the key is the application's affair.
    """

    @checked("settings")
    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], settings: ServerSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._settings)
        try:
            require_own(exchange, self._settings)
            exchange.require_length(self._settings.max_bytes)
            await self._app(scope, receive, send)
        except TTSInferError as error:
            with suppress(ReaderGoneError):
                await exchange.discard()
                await exchange.answer_json(status_of(error), problem(error))


def require_allowed(exchange: Exchange, settings: ServerSettings) -> None:
    """Refuse a request that is not for this server, comes from another web page, or lacks the key.

    Raises:
        InputError: it is refused.
    """
    require_own(exchange, settings)
    if settings.api_key is not None and not exchange.is_preflight and exchange.path not in OPEN_PATHS:
        _require_key(exchange.headers.get("authorization", ""), settings.api_key)


def require_own(exchange: Exchange, settings: ServerSettings) -> None:
    """Refuse a request that is not for this server, or comes from another web page.

    Raises:
        InputError: it is refused.
    """
    headers = exchange.headers
    _require_host(headers.get("host", ""), settings)
    origin = headers.get("origin")
    if origin is None and not settings.cors and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        # a page may lead to this one, but not load parts of it
        origin = None if exchange.method == "GET" and headers.get("sec-fetch-mode") == "navigate" else "other servers"
    if origin is not None and not is_allowed_origin(origin, headers.get("host", ""), settings):
        text = "web pages of {origin} may not use this server; it allows them if it is started with --cors {origin}"
        raise InputError(text, code="server-origin", origin=origin[:100])


def is_allowed_origin(origin: str, host: str, settings: ServerSettings) -> bool:
    """Whether pages of an origin may use a server that they call by `host`: their own server, or by permission."""
    if "*" in settings.cors or origin in settings.cors:
        return True
    try:
        page = urlsplit(origin)
        # a proxy in front may have changed the name, but not to one of others
        return page.netloc.lower() == host.lower() or (page.hostname or "") in map(str.lower, settings.hosts)
    except ValueError:  # brackets that hold no address
        return False


def cross_origin_headers(exchange: Exchange) -> dict[str, str]:
    """What tells a browser that a page, which was allowed, may read the answer."""
    origin = exchange.headers.get("origin")
    if origin is None:
        return {}
    readable = "x-sample-rate, x-tts-infer-warning, retry-after"
    headers = {"access-control-allow-origin": origin, "vary": "Origin", "access-control-expose-headers": readable}
    if exchange.is_preflight:
        headers["access-control-allow-methods"] = "GET, POST"
        headers["access-control-allow-headers"] = "authorization, content-type"
        headers["access-control-max-age"] = "600"
    return headers


def _require_host(host: str, settings: ServerSettings) -> None:
    """Refuse names of others.

    A web page can let its own name point at this machine (DNS rebinding), and the browser then takes this server for
    the page's own. An address written in numbers is no such name.
    """
    name = _hostname(host)
    if "*" in settings.hosts:
        return
    if name is not None and (name in (*LOCAL_NAMES, *map(str.lower, settings.hosts)) or _is_address(name)):
        return
    text = "this server is not called {host!r}; call it by its address, or start it with --allow-host NAME"
    raise InputError(text, code="server-host", host=host[:100])


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # brackets that hold no address
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _require_key(authorization: str, key: str) -> None:
    kind, _, given = authorization.partition(" ")
    # compared in constant time, so that the time tells nothing about the key
    same = hmac.compare_digest(given.strip().encode("latin-1"), key.encode())
    if not same or kind.lower() != "bearer":
        text = "the API key is missing or wrong; send it as the header: Authorization: Bearer KEY"
        raise InputError(text, code="server-key")
