"""Who and what is refused by the page and the server: other origins, names of others, paths, sizes, no login."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from benchmarks.load_client import API, ROOT, SETTINGS, Client
from benchmarks.load_findings import row

EVIL = {"origin": "http://evil.example"}
SECRET = "/etc/hostname"
# Every route that does, gives or watches something.
ROUTES = [
    *[("GET", path) for path in ("/config", f"{API}/info", f"{API}/openapi.json", f"{API}/queue/status")],
    *[("GET", f"{API}/{path}") for path in ("queue/data?session_hash=a", "heartbeat/a", "call/decode/a")],
    *[("GET", f"{API}/{path}") for path in ("stream/a/b/1/playlist.m3u8", "upload_progress?upload_id=a", "app_id")],
    *[("GET", f"{API}/{path}") for path in ("deep_link?session_hash=a", "token", "user")],
    *[("GET", path) for path in (f"{API}/file={ROOT}/examples/english.wav", "/monitoring", "/monitoring/a")],
    *[("POST", f"{API}/{path}") for path in ("queue/join", "call/decode", "run/decode", "cancel", "reset", "upload")],
    *[("POST", f"{API}/{path}") for path in ("component_server", "stream/a", "process_recording", "vibe-edit")],
]
Row = dict[str, Any]


async def origins(client: Client, paths: list[str]) -> list[Row]:
    """Pages of others, whatever they send; and names that others let point here."""
    kinds: dict[str, dict[str, Any]] = {
        "a form": {"data": {"session_hash": "a"}},
        "text/plain": {"content": b'{"data": []}', "headers": {"content-type": "text/plain"}},
        "an upload": {"files": {"files": ("a.wav", b"a")}},
        "JSON": {"json": {"data": []}},
    }
    rows = []
    for path in paths:
        for kind, sent in kinds.items():
            headers = {**sent.get("headers", {}), **EVIL}
            answers = [
                await client.ask("POST", path, **{**sent, "headers": headers}),
                await client.ask("POST", path, **{**sent, "headers": {**headers, "origin": "null"}}),
                await client.ask("POST", path, **{**sent, "headers": {**headers, "host": "evil.example"}}),
                await client.ask("OPTIONS", path, headers={**EVIL, "access-control-request-method": "POST"}),
            ]
            refused = all(answer.status_code == 403 for answer in answers)
            free = any("access-control-allow-origin" in answer.headers for answer in answers)
            said = [answer.status_code for answer in answers]
            rows.append(row(f"{kind} of another page to {path}", refused and not free, said))
    image = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    answer = await client.ask("GET", paths[0], headers=image)
    return [*rows, row("a picture of another page", answer.status_code == 403, answer.status_code)]


def disguised(path: str) -> Iterator[str]:
    """A path as one might write it to slip through."""
    yield path
    yield quote(path, safe="")
    yield quote(quote(path, safe=""), safe="")
    yield f"{ROOT}/examples/../../..{path}"
    yield f"/proc/self/root{path}"
    yield f"//{path}"
    yield f"{ROOT}/examples/..%2f..%2f..{path}"
    yield f"\\..\\..{path}"
    yield f"file://{path}"
    yield path + "%00.wav"


async def paths(client: Client) -> list[Row]:
    """Files of the server by any route."""
    rows, secrets = [], [SECRET, f"{ROOT}/app.py", "/proc/self/environ", f"{ROOT}/examples/make.sh"]
    routes = (f"{API}/file=", f"{API}/file/", "/static/", "/assets/", "/svelte/", f"{API}/proxy=", "/theme/")
    for secret in secrets:
        told = []
        for route in routes:
            for path in disguised(secret):
                answer = await client.plain("GET", route + path)  # which may say the path again
                # without a file, nothing may be told but a refusal
                if answer.status_code == 200:
                    told.append((route + path, answer.text[:40]))
        rows.append(row(f"{secret} by its path", not told, told[:2]))
        file = {"path": secret, "orig_name": "a.wav", "meta": {"_type": "gradio.FileData"}}
        calls: dict[str, tuple[str, list[Any]]] = {
            "audio": ("synthesize", [file, *SETTINGS]),
            "mel": ("decode", [{**file, "url": f"file://{secret}"}, *SETTINGS]),
            "placement": ("synthesize", [None, "vocos-mini-24khz", "auto", secret, "auto", "auto"]),
            "vocoder": ("doctor", [secret]),
        }
        for name, (api, data) in calls.items():
            said = await refusal(client, api, data)
            rows.append(row(f"{secret} as {name}", bool(said) and "root:" not in said and said != "None", said))
    return rows


async def refusal(client: Client, api: str, data: list[Any]) -> str:
    """What is said of a call; empty if it is answered."""
    try:
        await client.call(api, data)
    except Exception as error:
        return str(error)
    return ""


async def raw(url: str, head: str, body: bytes = b"") -> bytes:
    """The beginning of the answer to a request that is not finished."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        await writer.drain()
        return await asyncio.wait_for(reader.read(200), 10)
    finally:
        writer.close()


async def sizes(url: str, path: str, most: int) -> list[Row]:
    """What is too large is refused before it is sent; and what does not say how large it is."""
    head = f"POST {path} HTTP/1.1\nhost: localhost\ncontent-type: multipart/form-data; boundary=a\n"
    large = await raw(url, f"{head}content-length: {most + 1}\n")
    return [row(f"{path} of {most + 1} bytes", b" 413 " in large, large)]


async def login(client: Client) -> list[Row]:
    """A page with a login, for who has none."""
    rows: list[Row] = []
    open_: list[tuple[str, str, int]] = []
    for method, path in ROUTES:
        try:
            answer = await client.ask(method, path, timeout=5, **({"json": {"data": []}} if method == "POST" else {}))
        except httpx.TimeoutException:  # an endless stream, to a stranger
            open_.append((method, path, 200))
            continue
        if answer.status_code != 401:
            open_.append((method, path, answer.status_code))
    rows.append(row(f"{len(ROUTES)} routes without a login", not open_, open_))
    shown = (await client.ask("GET", "/")).text
    rows.append(row("the login page tells no endpoint", "synthesize" not in shown and "gradio_config" in shown))
    wrong = await client.ask("POST", "/login", data={"username": "u", "password": "x"})
    right = await client.ask("POST", "/login", data={"username": "u", "password": "p"})
    rows.append(row("a wrong password", wrong.status_code == 400, wrong.status_code))
    token = {"cookie": "; ".join(f"{name}={value}" for name, value in right.cookies.items())}
    inside = await client.ask("GET", "/config", headers=token)
    whole = await client.ask("GET", "/", headers=token)
    rows.append(
        row("the right one opens", inside.status_code == 200 and "synthesize" in whole.text, inside.status_code)
    )
    return rows


async def bounded(clients: list[Client], unread: Callable[[], Awaitable[float]]) -> list[Row]:
    """Calls that nobody reads: how many are taken, and how long the next visitor waits."""
    data = [None, *SETTINGS]

    async def join(client: Client, number: int) -> int:
        body = {"data": data, "session_hash": f"nobody{number}"}
        return (await client.ask("POST", f"{API}/call/synthesize", json=body)).status_code

    codes = await asyncio.gather(*(join(clients[i % len(clients)], i) for i in range(300)))
    taken, waited_s = codes.count(200), await unread()
    return [
        row(f"300 unread calls: {taken} taken, the others told to wait", taken + codes.count(429) == 300, codes),
        row(f"the next visitor waits {waited_s:.1f} s", waited_s < 10, waited_s),
    ]


def drop_upload(url: str) -> None:
    """Begin an upload, and go away."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 80)) as connection:
        connection.sendall(
            f"POST {API}/upload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n"
            "content-type: multipart/form-data; boundary=a\r\n\r\n--a\r\n"
            'content-disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'.encode()
            + bytes(100_000)
        )
