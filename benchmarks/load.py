"""The page and the server under load: good and bad requests, cancelled and dropped ones, and those of strangers.

`python -m benchmarks.load` starts `app.py` and `tts-infer serve` as processes of their own. Every good answer must
equal the samples of the API, every bad one must say what is wrong, and afterwards memory, files and calls are gone.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import re
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import tts_infer
from benchmarks import load_borders
from benchmarks.common import environment, finish, table
from benchmarks.load_client import API, PLACEMENT, SETTINGS, Client, RefusedError, page, server
from benchmarks.load_files import BAD, CLIP, made, npy, zip_of

KEY = "an-api-key"
DECODE = "/v1/audio/decode"
MOST_GROWTH_MB = 100.0
MOST_UPLOAD = 200_000_000


@dataclass
class Tally:
    """What came of the requests, by kind."""

    right: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    wrong: dict[str, list[str]] = field(default_factory=dict)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def count(self, kind: str, work: Awaitable[str]) -> None:
        """Count a request; it gives what was wrong, or nothing."""
        start = time.perf_counter()
        try:
            fault = await work
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        self.seconds[kind].append(time.perf_counter() - start)
        if fault:
            self.wrong.setdefault(kind, []).append(fault)
        else:
            self.right[kind] += 1

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "requests": kind,
                "right": self.right[kind],
                "wrong": len(self.wrong.get(kind, ())),
                "median s": float(np.median(spent)),
                "most s": max(spent),
            }
            for kind, spent in sorted(self.seconds.items())
        ]


class Truth:
    """What the API makes of the good inputs."""

    def __init__(self) -> None:
        vocoder = tts_infer.load_vocoder(placement=PLACEMENT)
        clip = tts_infer.read_audio(CLIP, vocoder.sample_rate).samples
        self.mel = vocoder.mel(clip[: 2 * vocoder.sample_rate])[0].numpy()
        self.copy = tts_infer.to_int16(vocoder(clip)[0])[0]
        self.decoded = {
            passes: tts_infer.to_int16(vocoder.decode(self.mel, refine=passes)[0])[0] for passes in (None, 0, 2)
        }

    def differs(self, content: bytes, expected: Any, whole: bool = True) -> str:
        """Why a WAV is not what the API makes; empty if it is.

        Args:
            content: the file.
            expected: of the API.
            whole: whether it was decoded at once; pieces differ by 1e-4 of the peak, and by rounding.
        """
        samples, _ = soundfile.read(io.BytesIO(content), dtype="int16")
        if samples.shape != expected.shape:
            return f"{samples.shape} instead of {expected.shape}"
        most = np.abs(samples.astype(int) - expected).max()
        return "" if most <= (0 if whole else 1e-4 * np.abs(expected).max() + 1) else f"differs by {most}"


class Campaign:
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
        given = await client.result("stream", await client.begin("stream", [file, *SETTINGS]))
        pieces = [
            soundfile.read(io.BytesIO(await client.fetch(one[0]["file"])), dtype="int16")[0] for one in given[:-1]
        ]
        joined = np.concatenate([piece for i, piece in enumerate(pieces) if i == 0 or given[i][0] != given[i - 1][0]])
        content = await client.fetch(given[-1][1])
        if not np.array_equal(joined, soundfile.read(io.BytesIO(content), dtype="int16")[0]):
            return "the pieces do not join to the whole"
        return self._truth.differs(content, self._truth.copy, whole=False)

    async def _batch(self, client: Client) -> str:
        (file,) = await client.upload(self._zip)
        output, report = (await client.call("batch", [[file], *SETTINGS]))[:2]
        if [row.get("error") for row in report["files"]] != [None, None]:
            return str(report["files"])
        with zipfile.ZipFile(io.BytesIO(await client.fetch(output))) as archive:
            copy, mel = archive.read("clip.wav"), archive.read("mel.wav")
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


def held(pid: int) -> float:
    """Megabytes in memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


async def of_page(truth: Truth, folder: Path, args: argparse.Namespace, borders: list[Any], leaks: list[str]) -> Tally:
    """The campaign against the page."""
    files = folder / "page"
    with page(files, "--keep", str(args.keep)) as (process, url):
        clients = [Client(url, leaks) for _ in range(args.clients)]
        one = clients[0]
        campaign = Campaign(truth, folder, clients, args.bad)
        await campaign.run(args.warm, seed=1)
        await asyncio.sleep(args.keep / 4 + 2)  # the page gives back what it no longer needs
        before = held(process.pid)
        await campaign.run(args.requests)

        async def next_visitor() -> float:
            start = time.perf_counter()
            (file,) = await one.upload(CLIP)
            output, *_ = await one.call("synthesize", [file, *SETTINGS])
            assert not truth.differs(await one.fetch(output), truth.copy)
            return time.perf_counter() - start

        told = [f"{API}/upload", f"{API}/queue/join", f"{API}/cancel"]
        await load_borders.tried(borders, "origins", load_borders.origins(one, told))
        await load_borders.tried(
            borders, "paths", load_borders.paths(Client(url, []))
        )  # whose answers say the paths again
        await load_borders.tried(borders, "sizes", load_borders.sizes(url, f"{API}/upload", MOST_UPLOAD))
        await load_borders.tried(borders, "unread calls", load_borders.bounded(clients, next_visitor))
        await asyncio.sleep(args.keep * 1.75 + 5)
        left = [str(path) for path in files.rglob("*") if path.is_file() and path.parent.name != "shared"]
        borders.append(load_borders.row(f"no file is left {args.keep} s after the last request", not left, left[:9]))
        grown = held(process.pid) - before
        name = f"memory grew by {grown:.0f} MB from {before:.0f} MB, {MOST_GROWTH_MB:.0f} are allowed"
        borders.append(load_borders.row(name, grown <= MOST_GROWTH_MB))
        status = (await one.ask("GET", f"{API}/queue/status")).json()
        borders.append(load_borders.row("the queue is empty", status["queue_size"] == 0, status))
    with page(folder / "login", "--auth", "u:p", "--api-key", KEY) as (_, url):
        stranger = Client(url, leaks)
        await load_borders.tried(borders, "login", load_borders.login(stranger))
        refused = await stranger.ask("POST", DECODE, content=npy(truth.mel))
        borders.append(load_borders.row("the mounted server wants its key", refused.status_code == 401, refused.text))
        known = {"authorization": f"Bearer {KEY}"}
        answer = await stranger.http.post(DECODE, content=npy(truth.mel), headers=known)
        fault = truth.differs(answer.content, truth.decoded[None], whole=False)
        borders.append(load_borders.row("the mounted server decodes", not fault, fault))
    return campaign.tally


async def of_server(
    truth: Truth, folder: Path, args: argparse.Namespace, borders: list[Any], leaks: list[str]
) -> Tally:
    """The campaign against the server alone."""
    tally, bodies = (
        Tally(),
        {
            "cut off": (npy(truth.mel)[:-7], "states"),
            "no array": (b"no array", "the body is no .npy file"),
            "80 bins": (npy(truth.mel[:80]), "mel has shape (80,"),
            "not finite": (npy(np.full((100, 9), np.nan, "f4")), "NaN"),
        },
    )

    async def decode(client: Client) -> str:
        answer = await client.http.post(DECODE, content=npy(truth.mel))
        return truth.differs(answer.content, truth.decoded[None], whole=False)

    async def refused(client: Client, name: str) -> str:
        body, message = bodies[name]
        answer = await client.ask("POST", DECODE, content=body)
        return "" if answer.status_code == 400 and message in answer.json()["error"]["message"] else answer.text

    async def dropped(client: Client) -> str:
        long = npy(np.full((100, 20_000), -5.0, np.float32))
        async with client.http.stream("POST", DECODE, content=long) as answer:
            async for _ in answer.aiter_raw():
                return ""
        return "nothing came"

    kinds = [decode, decode, dropped, *[lambda client, name=name: refused(client, name) for name in bodies]]
    names = ["served mel", "served mel", "served, dropped", *[f"served, {name}" for name in bodies]]
    with server(folder / "server") as (process, url):
        clients = [Client(url, leaks) for _ in range(args.clients)]

        async def visit(number: int, count: int) -> None:
            for i in range(number, count, len(clients)):
                work = kinds[i % len(kinds)](clients[number])
                await tally.count(names[i % len(kinds)], work)

        async def all_of(count: int) -> None:
            await asyncio.gather(*(visit(number, count) for number in range(len(clients))))

        await all_of(args.warm)
        before = held(process.pid)
        await all_of(args.requests)
        await load_borders.tried(borders, "origins", load_borders.origins(clients[0], [DECODE]))
        most = tts_infer.ServerSettings.max_bytes
        await load_borders.tried(borders, "sizes", load_borders.sizes(url, DECODE, most))
        await asyncio.sleep(2)
        health = (await clients[0].ask("GET", "/health")).json()
        borders.append(load_borders.row("the server rests", (health["active"], health["waiting"]) == (0, 0), health))
        grown = held(process.pid) - before
        name = f"the server's memory grew by {grown:.0f} MB from {before:.0f} MB"
        borders.append(load_borders.row(name, grown <= MOST_GROWTH_MB))
    return tally


def campaign(args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Run everything; returns the rows of requests, the rows of borders, and every fault in words."""
    borders: list[dict[str, Any]] = []
    leaks: list[str] = []
    truth = Truth()
    with tempfile.TemporaryDirectory() as name:
        tallies = [
            asyncio.run(of_page(truth, Path(name), args, borders, leaks)),
            asyncio.run(of_server(truth, Path(name), args, borders, leaks)),
        ]
    borders.append(load_borders.row("no answer tells of files or code of the server", not leaks, leaks[:3]))
    faults = [f"{kind}: {said}" for tally in tallies for kind, all_said in tally.wrong.items() for said in all_said]
    faults += [f"{row['border']}: {row['holds']}" for row in borders if row["holds"] != "yes"]
    return [row for tally in tallies for row in tally.rows()], borders, faults


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20, help="at once (default: 20)")
    parser.add_argument("--requests", type=int, default=400, help="to each (default: 400)")
    parser.add_argument(
        "--warm",
        type=int,
        default=140,
        help="requests before memory is measured, so that every thread has computed (default: 140)",
    )
    parser.add_argument("--keep", type=int, default=120, help="seconds for which the page keeps files (default: 120)")
    parser.add_argument("--bad", nargs="*", default=list(BAD), choices=list(BAD), help="bad files (default: all)")
    return parser.parse_args(arguments)


def main() -> None:
    args, setting = options(), environment("gradio", "uvicorn", "httpx")
    print(setting)
    requests, borders, faults = campaign(args)
    table(f"{args.clients} clients", requests)
    table("borders", [{**row, "holds": row["holds"][:3]} for row in borders])  # faults are told in full below
    for fault in faults:
        print(fault[:1000])
    finish("load", setting, [{"requests": requests, "borders": borders, "faults": faults}])
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
