"""Who may use the server: by the name that it is called by, the web page that calls, and the key."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from tts_infer.errors import InputError
from tts_infer.server.exchange import Exchange
from tts_infer.server.settings import LOCAL_NAMES, ServerSettings

OPEN_PATHS = ("/health",)  # for who has no key


def require_allowed(exchange: Exchange, settings: ServerSettings) -> None:
    """Refuse a request that is not for this server, comes from another web page, or lacks the key.

    Raises:
        InputError: it is refused.
    """
    _require_host(exchange.headers.get("host", ""), settings)
    origin = exchange.headers.get("origin")
    if origin is not None and not is_allowed_origin(origin, exchange.headers.get("host", ""), settings):
        text = "web pages of {origin} may not use this server; it allows them if it is started with --cors {origin}"
        raise InputError(text, code="server-origin", origin=origin[:100])
    if settings.api_key is not None and not exchange.is_preflight and exchange.path not in OPEN_PATHS:
        _require_key(exchange.headers.get("authorization", ""), settings.api_key)


def is_allowed_origin(origin: str, host: str, settings: ServerSettings) -> bool:
    """Whether pages of an origin may use a server that they call by `host`: their own server, or by permission."""
    return "*" in settings.cors or origin in settings.cors or urlsplit(origin).netloc.lower() == host.lower()


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
