"""The server alone under load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

import tts_infer
from benchmarks import load_borders
from benchmarks.load_client import Client, server
from benchmarks.load_files import npy
from benchmarks.load_findings import MOST_GROWTH_MB, Run, Tally, Truth, held

DECODE = "/v1/audio/decode"


class Callers:
    """The requests of the server's callers.

    Args:
        truth: what good answers are.
        clients: as many callers.
    """

    def __init__(self, truth: Truth, clients: list[Client]) -> None:
        self._truth, self._clients = truth, clients
        self._bodies = {
            "cut off": (npy(truth.mel)[:-7], "states"),
            "no array": (b"no array", "the body is no .npy file"),
            "80 bins": (npy(truth.mel[:80]), "mel has shape (80,"),
            "not finite": (npy(np.full((100, 9), np.nan, "f4")), "NaN"),
        }
        self.tally = Tally()

    async def run(self, requests: int) -> None:
        """Send requests of all kinds, each caller one after the other."""
        kinds: list[tuple[str, Callable[[Client], Awaitable[str]]]] = [
            ("served mel", self._decode),
            ("served mel", self._decode),
            ("served, dropped", self._dropped),
            *[(f"served, {name}", lambda client, name=name: self._refused(client, name)) for name in self._bodies],
        ]

        async def call(number: int) -> None:
            for i in range(number, requests, len(self._clients)):
                kind, work = kinds[i % len(kinds)]
                await self.tally.count(kind, work(self._clients[number]))

        await asyncio.gather(*(call(number) for number in range(len(self._clients))))

    async def _decode(self, client: Client) -> str:
        answer = await client.http.post(DECODE, content=npy(self._truth.mel))
        return self._truth.differs(answer.content, self._truth.decoded[None], whole=False)

    async def _refused(self, client: Client, name: str) -> str:
        body, message = self._bodies[name]
        answer = await client.ask("POST", DECODE, content=body)
        return "" if answer.status_code == 400 and message in answer.json()["error"]["message"] else answer.text

    async def _dropped(self, client: Client) -> str:
        long = npy(np.full((100, 20_000), -5.0, np.float32))
        async with client.http.stream("POST", DECODE, content=long) as answer:
            async for _ in answer.aiter_raw():
                return ""
        return "nothing came"


async def of_server(run: Run) -> Tally:
    """The campaign against the server alone."""
    with server(run.folder / "server") as (process, url):
        clients = [Client(url, run.leaks) for _ in range(run.args.clients)]
        callers = Callers(run.truth, clients)
        await callers.run(run.args.warm)
        before = held(process.pid)
        await callers.run(run.args.requests)
        await run.tried("origins", load_borders.origins(clients[0], [DECODE]))
        await run.tried("sizes", load_borders.sizes(url, DECODE, tts_infer.ServerSettings.max_bytes))
        run.border("the server rests", *await _rests(clients[0]))
        grown = held(process.pid) - before
        run.border(f"the server's memory grew by {grown:.0f} MB from {before:.0f} MB", grown <= MOST_GROWTH_MB)
    return callers.tally


async def _rests(client: Client) -> tuple[bool, str]:
    """Whether nothing is left to do after half a minute at most: a piece that nobody hears is computed to its end."""
    for _ in range(30):
        answer = await client.ask("GET", "/health")
        health = answer.json() if answer.status_code == 200 else {}
        if (health.get("active"), health.get("waiting")) == (0, 0):
            return True, ""
        await asyncio.sleep(1)
    return False, answer.text
