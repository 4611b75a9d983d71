"""Memory of servers: kernels are compiled for each length of clips, and few of them are kept."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file

import app
import tts_infer
from benchmarks import page, serve
from benchmarks.memory import resident_mb

CLIP = Path(app.__file__).parent / "examples" / "english.wav"
MOST_MB = 100  # by which a server may grow from the fifth result to the fiftieth
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="memory is known on Linux only")]


# Threads one after the other, which all stay. Each frees what it took last, in small pieces, and a matrix product.
THREADS = """
import threading, torch, tts_infer
from tts_infer.devices import keep_memory
tts_infer.limit_memory()
keep_memory()  # as every vocoder does
def held():
    tts_infer.trim_memory()
    return int(open("/proc/self/statm").read().split()[1]) // 256
stay, freed = threading.Event(), []
def work(done):
    taken = [torch.ones(25_000) for _ in range(300)]
    torch.randn(400, 400) @ torch.randn(400, 400)
    torch.fft.rfft(torch.randn(300, 1024))
    del taken
    done.set()
    stay.wait()
for i in range(50):
    done = threading.Event()
    threading.Thread(target=work, args=[done], daemon=True).start()
    done.wait()
    freed.append(held())
print(freed[-1] - freed[0])
"""


def test_threads_give_their_memory_back() -> None:
    env = os.environ | {"PYTHONPATH": str(CLIP.parent.parent)}
    grown = int(subprocess.check_output([sys.executable, "-c", THREADS], env=env, text=True))
    assert grown < 13  # MB; 8 with helpers of torch, 18 with a pool and 53 with buffers for each thread


def test_the_page_after_fifty_results(tmp_path: Path) -> None:
    samples, rate = soundfile.read(CLIP, dtype="int16")
    with page.serving() as (address, process):
        client, after = Client(address, verbose=False), {}
        for i in range(1, 51):
            soundfile.write(tmp_path / "clip.wav", np.resize(samples, 2 * rate + 1000 * i), rate)
            given = {"audio": handle_file(str(tmp_path / "clip.wav")), "vocoder": tts_infer.DEFAULT_VOCODER}
            client.predict(**given, refine="0", api_name="/synthesize")
            after[i] = resident_mb(process)
    assert after[50] - after[5] < MOST_MB


def test_the_speech_server_after_fifty_results() -> None:
    with serve.serving() as (address, process), httpx.Client(base_url=address, timeout=60) as client:
        after = {}
        for i in range(1, 51):
            mel = io.BytesIO()
            np.save(mel, np.full((100, 200 + 7 * i), -5.0, np.float32))
            client.post("/v1/audio/decode", content=mel.getvalue()).raise_for_status()
            after[i] = resident_mb(process)
    assert after[50] - after[5] < MOST_MB
