"""A client of the page that speaks Gradio's protocol over HTTP, and looks at every answer for what it must not tell."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio
import httpx

ROOT = Path(__file__).parent.parent
API = "/gradio_api"
# Not to be told: where this package and others are, whose home it is, and what went wrong inside.
SECRETS = [re.escape(place) for place in (str(ROOT), str(Path(gradio.__file__).parent.parent), str(Path.home()))]
LEAK = re.compile("|".join([r"Traceback \(most recent", r'File "/', "site-packages", *SECRETS]))
# Stated, so that the page and who checks it compute by the same means.
PLACEMENT = "mel=cpu/fft,backbone=cpu/torch,head=cpu/torch,istft=cpu/fft"
SETTINGS: list[str] = ["vocos-mini-24khz", "auto", PLACEMENT, "auto", "auto", "float32"]


class RefusedError(Exception):
    """The page answered with an error; the text is what it said."""


class Client:
    """One visitor.

    Args:
        url: of the page.
        leaks: gets what an answer must not hold.
    """

    def __init__(self, url: str, leaks: list[str]) -> None:
        self.http = httpx.AsyncClient(base_url=url, timeout=300)
        self._leaks = leaks

    def look(self, where: str, text: str) -> None:
        """Note what must not be told."""
        if found := LEAK.search(text):
            self._leaks.append(f"{where}: {text[max(0, found.start() - 60) : found.end() + 60]!r}")

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Any request."""
        answer = await self.plain(method, path, **more)
        self.look(path, answer.text if "text" in answer.headers.get("content-type", "text") else repr(answer.content))
        return answer

    async def plain(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Any request, whose answer is not looked at. A server closes the connection after an answer of 500."""
        try:
            return await self.http.request(method, path, **more)
        except (httpx.ReadError, httpx.RemoteProtocolError):
            return await self.http.request(method, path, **more)

    async def upload(self, *files: Path) -> list[dict[str, Any]]:
        """Give files; returns them as arguments of calls."""
        parts = [("files", (file.name, file.read_bytes())) for file in files]
        answer = await self.ask("POST", f"{API}/upload", files=parts)
        if answer.status_code != 200:
            raise RefusedError(answer.text)
        kind = {"_type": "gradio.FileData"}
        pairs = zip(answer.json(), files, strict=True)
        return [{"path": path, "orig_name": file.name, "meta": kind} for path, file in pairs]

    async def begin(self, api: str, data: Sequence[Any], session: str | None = None) -> str:
        """Call an endpoint; returns the event."""
        named = {"session_hash": session} if session else {}
        answer = await self.ask("POST", f"{API}/call/{api}", json={"data": list(data), **named})
        if answer.status_code != 200:
            raise RefusedError(answer.text)
        return str(answer.json()["event_id"])

    async def pieces(self, api: str, event: str) -> AsyncIterator[list[Any]]:
        """What a call gives, as it comes; the last is the result."""
        kind = ""
        async with self.http.stream("GET", f"{API}/call/{api}/{event}") as answer:
            async for line in answer.aiter_lines():
                self.look(api, line)
                name, _, value = line.partition(": ")
                kind = value if name == "event" else kind
                if name == "data" and kind == "error":
                    raise RefusedError(str((json.loads(value) or {}).get("error")))
                if name == "data" and kind in ("generating", "complete"):
                    yield json.loads(value)

    async def call(self, api: str, data: Sequence[Any], session: str | None = None) -> list[Any]:
        """Call an endpoint, and wait for its result."""
        event = await self.begin(api, data, session)
        return [piece async for piece in self.pieces(api, event)][-1]

    async def fetch(self, file: dict[str, Any]) -> bytes:
        """A file that a call gave."""
        return (await self.http.get(f"{API}/file={file['path']}")).content


@contextmanager
def process(command: Sequence[str], folder: Path, ready: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server as a process of its own, and its address.

    Args:
        command: of the server.
        folder: of its files; its log is beside it.
        ready: what it says before its address.
    """
    folder.mkdir()
    environment = os.environ | {"GRADIO_TEMP_DIR": str(folder), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    log = folder.with_suffix(".log")
    with open(log, "w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, text=True, env=environment, cwd=ROOT)
        try:
            yield server, _address(server, log, ready)
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _address(server: subprocess.Popen[str], log: Path, ready: str) -> str:
    while True:
        found = re.search(rf"{ready}\s+(http\S+)", log.read_text())
        if found:
            return found[1].rstrip("/")
        try:
            server.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"the server ended: {log.read_text()[-500:]}")


def page(folder: Path, *options: str) -> Any:
    """app.py as a process."""
    command = [sys.executable, "app.py", "--host", "127.0.0.1", *options]
    return process(command, folder, "URL:")


def server(folder: Path, *options: str) -> Any:
    """`tts_infer serve` as a process."""
    command = [sys.executable, "-m", "tts_infer", "serve", "--port", "0", *options]
    return process(command, folder, "listening on")
