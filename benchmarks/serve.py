"""The server: time to first audio against the first stage chain, sentences per second of 1, 4 and 16 clients, and how
long streams hold up an event loop.

`python -m benchmarks.serve` starts `tts-infer serve` as a process of its own, and measures it over loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import torch

import tts_infer
from benchmarks.common import environment, finish, table

SENTENCE = "A vocoder turns a mel spectrogram into a waveform."
ASKED = {"input": SENTENCE, "response_format": "pcm"}
CLIENTS = (1, 4, 16)
TICK_S = 0.001


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """The address of a server of this machine, and its process."""
    command = [sys.executable, "-m", "tts_infer", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield process.stderr.readline().rpartition(" ")[2].strip(), process.pid
        finally:
            process.terminate()


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


async def ask(client: httpx.AsyncClient, model: str) -> tuple[float, float]:
    """Milliseconds until the first audio and until the last."""
    start, first = time.perf_counter(), 0.0
    async with client.stream("POST", "/v1/audio/speech", json={**ASKED, "model": model}) as answer:
        answer.raise_for_status()
        async for _ in answer.aiter_raw():
            first = first or time.perf_counter() - start
    return first * 1e3, (time.perf_counter() - start) * 1e3


async def load(url: str, model: str, clients: int, seconds: float) -> dict[str, Any]:
    """Clients that ask again as soon as they have an answer."""
    found: list[tuple[float, float]] = []
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        await ask(client, model)
        begin = time.perf_counter()

        async def keep_asking() -> None:
            while time.perf_counter() - begin < seconds:
                found.append(await ask(client, model))

        await asyncio.gather(*(keep_asking() for _ in range(clients)))
        spent = time.perf_counter() - begin
    first, whole = zip(*found, strict=True)
    row = {"model": model, "clients": clients, "sentences/s": len(found) / spent}
    row |= {"first audio p50 ms": percentile(first, 0.5), "first audio p95 ms": percentile(first, 0.95)}
    return row | {"whole p50 ms": percentile(whole, 0.5), "whole p95 ms": percentile(whole, 0.95)}


async def first_audio(url: str, speaker: tts_infer.Speaker, model: str, rounds: int) -> dict[str, Any]:
    """One client against the speaker in this process, in turns."""
    served, chain = [], []
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        for i in range(rounds + 2):
            first, _ = await ask(client, model)
            alone = speaker.speak(SENTENCE).first_audio_ms
            if i >= 2:  # warm
                served.append(first)
                chain.append(alone)
    medians = statistics.median(served), statistics.median(chain)
    row = {"model": model, "served ms": medians[0], "stage chain ms": medians[1], "ratio": medians[0] / medians[1]}
    return row | {"served p95 ms": percentile(served, 0.95), "chain p95 ms": percentile(chain, 0.95)}


async def loop_lag(vocoder: tts_infer.Vocoder, streams: int, seconds: float) -> dict[str, Any]:
    """How late a task of the event loop is that wants to run each millisecond, while streams are decoded, and how long
    the loop itself computes meanwhile. The rest is waiting for a core, or for Python's lock.
    """
    mel = vocoder.mel(torch.from_numpy(tts_infer.read_audio("examples/english.wav", vocoder.sample_rate).samples)[None])
    late: list[float] = []
    own: list[float] = []
    end = time.perf_counter() + seconds

    async def listen() -> None:
        while time.perf_counter() < end:
            async for _ in vocoder.astream(mel.split(10, dim=2), frame_ms=20):
                if time.perf_counter() > end:
                    break

    async def watch() -> None:
        while time.perf_counter() < end:
            due, before = time.perf_counter() + TICK_S, time.thread_time()
            await asyncio.sleep(TICK_S)
            late.append((time.perf_counter() - due) * 1e3)
            own.append((time.thread_time() - before) * 1e3)

    await asyncio.gather(watch(), *(listen() for _ in range(streams)))
    row = {"streams": streams, "late p50 ms": percentile(late, 0.5), "late p95 ms": percentile(late, 0.95)}
    return row | {"late p99 ms": percentile(late, 0.99), "late most ms": max(late), "loop computes most ms": max(own)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="measuring time of one row (default: 6)")
    parser.add_argument("--rounds", type=int, default=20, help="of the time to first audio (default: 20)")
    args = parser.parse_args()
    setting = environment("hibari-tts", "onnxruntime", "uvicorn")
    print(setting)
    vocoder = tts_infer.load_vocoder()
    with serving() as (url, _):
        names = ["hibari", vocoder.name]
        speakers = zip(names, tts_infer.load_speakers([vocoder]), strict=True)
        firsts = [asyncio.run(first_audio(url, speaker, name, args.rounds)) for name, speaker in speakers]
        table("first audio of one sentence, one client", firsts)
        rows = [asyncio.run(load(url, name, clients, args.seconds)) for name in names for clients in CLIENTS]
        table("clients that ask again and again", rows)
    lags = [asyncio.run(loop_lag(vocoder, streams, args.seconds)) for streams in (0, 1, 4)]
    table("how late a task of the event loop is beside streams", lags)
    finish("serve", setting, [{"first audio": firsts, "load": rows, "event loop": lags}])


if __name__ == "__main__":
    main()
