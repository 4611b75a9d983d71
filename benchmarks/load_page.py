"""The page under load: what its visitors ask for, and what they must get."""

from __future__ import annotations

import asyncio
import io
import random
import time
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks import load_borders
from benchmarks.load_client import API, SETTINGS, Client, RefusedError, page
from benchmarks.load_files import BAD, CLIP, made, npy, zip_of
from benchmarks.load_findings import MOST_GROWTH_MB, Run, Tally, Truth, held
from benchmarks.load_server import DECODE

KEY = "an-api-key"
MOST_UPLOAD = 200_000_000


class Visitors:
    """The requests of the page's visitors.

    Args:
        truth: what good answers are.
        folder: for the files that are sent.
        clients: as many visitors.
        bad: names of bad files.
    """

    def __init__(self, truth: Truth, folder: Path, clients: list[Client], bad: list[str]) -> None:
        self._truth, self._clients, self._bad = truth, clients, made(folder, bad)
        self._mel, self._zip = folder / "mel.npy", folder / "good.zip"
        np.save(self._mel, truth.mel)
        self._zip.write_bytes(zip_of([("../../clip.wav", CLIP.read_bytes()), ("mel.npy", npy(truth.mel))]))
        self.tally = Tally()

    async def run(self, requests: int, seed: int = 0) -> None:
        """Send requests of all kinds, each visitor one after the other."""
        kinds: list[tuple[str, Callable[[Client], Awaitable[str]]]] = [
            ("audio", self._audio),
            ("mel", self._decode),
            ("mel, refine 2", lambda client: self._decode(client, 2)),
            ("stream", self._stream),
            ("batch", self._batch),
            ("cancelled", self._cancelled),
            ("dropped", self._dropped),
            ("dropped upload", self._dropped_upload),
            ("wrong arguments", self._arguments),
            *[(name, lambda client, name=name: self._refused(client, name)) for name in self._bad],
        ]
        chosen = [kinds[i % len(kinds)] for i in range(requests)]
        random.Random(seed).shuffle(chosen)

        async def visit(client: Client, share: list[Any]) -> None:
            for kind, work in share:
                await self.tally.count(kind, work(client))

        await asyncio.gather(*(visit(one, chosen[i :: len(self._clients)]) for i, one in enumerate(self._clients)))

    async def _audio(self, client: Client) -> str:
        (file,) = await client.upload(CLIP)
        output, *_ = await client.call("synthesize", [file, *SETTINGS])
        return self._truth.differs(await client.fetch(output), self._truth.copy)

    async def _decode(self, client: Client, passes: int | None = None) -> str:
        (file,) = await client.upload(self._mel)
        refine = "auto" if passes is None else str(passes)
        output, *_ = await client.call("decode", [file, *SETTINGS[:4], refine, SETTINGS[5]], session=f"s{id(client)}")
        return self._truth.differs(await client.fetch(output), self._truth.decoded[passes])

    async def _stream(self, client: Client) -> str:
        (file,) = await client.upload(CLIP)
        heard, before, content = [], None, b""
        async for piece, whole, *_ in client.pieces("stream", await client.begin("stream", [file, *SETTINGS])):
            if piece != before:  # the last one comes twice
                heard.append(_samples(await client.fetch(piece["file"])))
            if whole is not None:
                content = await client.fetch(whole)
            before = piece
        if not np.array_equal(np.concatenate(heard), _samples(content)):
            return "the pieces do not join to the whole"
        return self._truth.differs(content, self._truth.copy, whole=False)

    async def _batch(self, client: Client) -> str:
        (file,) = await client.upload(self._zip)
        output, report = (await client.call("batch", [[file], *SETTINGS]))[:2]
        if [row.get("error") for row in report["files"]] != [None, None]:
            return str(report["files"])
        with zipfile.ZipFile(io.BytesIO(await client.fetch(output))) as archive:
            copy, mel = (archive.read(name) for name in archive.namelist() if name.endswith(".wav"))  # in order
        return self._truth.differs(copy, self._truth.copy) or self._truth.differs(mel, self._truth.decoded[None])

    async def _cancelled(self, client: Client) -> str:
        (file,) = await client.upload(CLIP)
        session = f"c{random.getrandbits(60)}"
        event = await client.begin("synthesize", [file, *SETTINGS], session)
        body = {"session_hash": session, "fn_index": 0, "event_id": event}
        answer = await client.ask("POST", f"{API}/cancel", json=body)
        return "" if answer.json() == {"success": True} else answer.text

    async def _dropped(self, client: Client) -> str:
        (file,) = await client.upload(CLIP)
        event = await client.begin("stream", [file, *SETTINGS])
        async with client.http.stream("GET", f"{API}/call/stream/{event}") as answer:
            async for _ in answer.aiter_lines():
                return ""
        return "nothing came"

    async def _dropped_upload(self, client: Client) -> str:
        await asyncio.to_thread(load_borders.drop_upload, str(client.http.base_url))
        return ""

    async def _arguments(self, client: Client) -> str:
        for data in ([], [5], [{"path": 5}, *SETTINGS], [None, "x", *SETTINGS[1:]], [[[]], *SETTINGS]):
            said = await load_borders.refusal(client, "synthesize", list(data))
            if not said or said == "None":
                return f"{data}: {said!r}"
        return ""

    async def _refused(self, client: Client, name: str) -> str:
        api, _, message = BAD[name]
        (file,) = await client.upload(self._bad[name])
        try:
            told = await client.call(api, [[file] if api == "batch" else file, *SETTINGS])
        except RefusedError as error:
            return "" if str(error).startswith(message) or message in str(error) else str(error)
        refused = api == "batch" and [message in row.get("error", "") for row in told[1]["files"]] == [True]
        return "" if refused else "it was taken"


def _samples(content: bytes) -> NDArray[np.int16]:
    """The samples of a WAV."""
    samples: NDArray[np.int16] = soundfile.read(io.BytesIO(content), dtype="int16")[0]
    return samples


async def of_page(run: Run) -> Tally:
    """The campaign against the page."""
    files, keep_s = run.folder / "page", run.args.keep
    with page(files, "--keep", str(keep_s)) as (process, url):
        clients = [Client(url, run.leaks) for _ in range(run.args.clients)]
        visitors = Visitors(run.truth, run.folder, clients, run.args.bad)
        await visitors.run(run.args.warm, seed=1)
        await asyncio.sleep(keep_s / 4 + 2)  # the page gives back what it no longer needs
        before = held(process.pid)
        await visitors.run(run.args.requests)
        await _at_the_borders(run, url, clients)
        await asyncio.sleep(keep_s * 1.75 + 5)
        left = [str(path) for path in files.rglob("*") if path.is_file() and path.parent.name != "shared"]
        run.border(f"no file is left {keep_s} s after the last request", not left, left[:9])
        grown = held(process.pid) - before
        name = f"memory grew by {grown:.0f} MB from {before:.0f} MB, {MOST_GROWTH_MB:.0f} are allowed"
        run.border(name, grown <= MOST_GROWTH_MB)
        status = (await clients[0].ask("GET", f"{API}/queue/status")).json()
        run.border("the queue is empty", status["queue_size"] == 0, status)
    await _behind_a_login(run)
    return visitors.tally


async def _at_the_borders(run: Run, url: str, clients: list[Client]) -> None:
    """Other origins, paths, sizes, and calls that nobody reads."""
    one = clients[0]

    async def next_visitor() -> float:
        start = time.perf_counter()
        (file,) = await one.upload(CLIP)
        output, *_ = await one.call("synthesize", [file, *SETTINGS])
        assert not run.truth.differs(await one.fetch(output), run.truth.copy)
        return time.perf_counter() - start

    told = [f"{API}/upload", f"{API}/queue/join", f"{API}/cancel"]
    await run.tried("origins", load_borders.origins(one, told))
    await run.tried("paths", load_borders.paths(Client(url, [])))  # whose answers say the paths again
    await run.tried("sizes", load_borders.sizes(url, f"{API}/upload", MOST_UPLOAD))
    await run.tried("unread calls", load_borders.bounded(clients, next_visitor))


async def _behind_a_login(run: Run) -> None:
    """A page with a login and a key, for strangers and for who knows the key."""
    mel = npy(run.truth.mel)
    with page(run.folder / "login", "--auth", "u:p", "--api-key", KEY) as (_, url):
        stranger = Client(url, run.leaks)
        await run.tried("login", load_borders.login(stranger))
        refused = await stranger.ask("POST", DECODE, content=mel)
        run.border("the mounted server wants its key", refused.status_code == 401, refused.text)
        answer = await stranger.http.post(DECODE, content=mel, headers={"authorization": f"Bearer {KEY}"})
        fault = run.truth.differs(answer.content, run.truth.decoded[None], whole=False)
        run.border("the mounted server decodes", not fault, fault)
