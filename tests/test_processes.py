"""The table of docs/processes.md, line by line; and what a machine may do to a batch."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

import tts_infer

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "examples" / "english.wav"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

START = """
import multiprocessing, sys, torch, tts_infer
torch.set_num_threads(2)
def work(vocoder, mel, queue):
    queue.put(vocoder.decode(mel).numpy())
if __name__ == "__main__":
    vocoder, mel = tts_infer.load_vocoder(device="cpu"), torch.full((1, 100, 200), -5.0)
    expected = vocoder.decode(mel)
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    child = context.Process(target=work, args=(vocoder, mel, queue))
    child.start()
    made = torch.from_numpy(queue.get(timeout=100))
    child.join(20)
    assert child.exitcode == 0 and (made - expected).abs().max() < 1e-4  # the number of threads changes the last bits
"""
LOADER = """
import torch, tts_infer
from torch.utils.data import DataLoader, Dataset
class Mels(Dataset):
    def __init__(self):
        self.vocoder = tts_infer.load_vocoder(device="cpu")
    def __len__(self):
        return 4
    def __getitem__(self, i):
        return self.vocoder.decode(torch.full((1, 100, 50 + i), -5.0)).shape[1]
if __name__ == "__main__":
    data = Mels()
    data[0]
    assert [int(n) for n in DataLoader(data, batch_size=None, num_workers=2)] == [data[i] for i in range(4)]
"""
ASYNCIO = """
import asyncio, torch, tts_infer
async def main():
    vocoder, mels = tts_infer.load_vocoder(device="cpu"), [torch.full((1, 100, 60 + i), -5.0) for i in range(6)]
    made = await asyncio.gather(*(asyncio.to_thread(vocoder.decode, mel) for mel in mels))
    assert all((audio - vocoder.decode(mel)).abs().max() < 1e-4 for audio, mel in zip(made, mels))
asyncio.run(main())
"""
THREADS = """
import threading
failed = []
def load():
    try:
        import tts_infer
        tts_infer.load_vocoder(device="cpu")
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=load) for _ in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not failed, failed
"""
FORKED = """
import os, pickle, signal, sys, threading
import torch, tts_infer
from tts_infer.dsp import passes
from tts_infer.runtime import workers
workers._others.are_busy = lambda: False  # torch's own threads compute
torch.set_num_threads(2)
begun, forked, when = threading.Event(), threading.Event(), sys.argv[1]
refine = 0 if when == "graph" else 4
def held(function):
    def call(*given, **named):
        if not begun.is_set():
            begun.set()
            assert forked.wait(60)
        return function(*given, **named)
    return call
passes.passed_at_once.compiled = held(passes.passed_at_once.compiled)
torch.onnx.export = held(torch.onnx.export)
with open("vocoder", "rb") as file:
    vocoder = pickle.load(file)
def decode():
    assert vocoder.decode(torch.full((1, 100, 8), -5.0), refine=refine).isfinite().all()
if when == "unpickled":
    begun.set()
    vocoder.decode(torch.full((4, 100, 200), -5.0))
else:  # a thread makes what the child needs, too
    thread = threading.Thread(target=decode)
    thread.start()
    assert begun.wait(60)
child = os.fork()
if child == 0:
    signal.alarm(20)  # who waits without end is killed
    try:
        vocoder.decode(torch.full((4, 100, 200), -5.0)) if when == "unpickled" else decode()
    except BaseException:
        os._exit(1)
    os._exit(0)
forked.set()
assert os.waitpid(child, 0)[1] == 0
"""
SERVED = """
import os, torch, tts_infer
torch.set_num_threads(2)
vocoder, mel = tts_infer.load_vocoder(device="cpu"), torch.full((1, 100, 200), -5.0)
vocoder.decode(mel)  # so that threads are there before the fork
def app(environ, start_response):
    body = vocoder.decode(mel).numpy().tobytes()
    start_response("200 OK", [("content-length", str(len(body))), ("x-process", f"{os.getppid()} {os.getpid()}")])
    return [body]
"""
EXIT = """
import threading, torch, tts_infer
vocoder = tts_infer.load_vocoder(device="cpu")
threading.Thread(target=vocoder.decode, args=[torch.full((1, 100, 5000), -5.0)]).start()
"""


def run(folder: Path, script: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script)
    env = os.environ | {"PYTHONPATH": str(ROOT)} | more.pop("env", {})
    command = [sys.executable, str(folder / "script.py"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False, **more)


def command(*arguments: object, shell: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own; `shell` comes before it."""
    env = more.pop("env", os.environ) | {"PYTHONPATH": str(ROOT)}
    line = f'{shell} exec "$0" -m tts_infer "$@"'
    words = ["bash", "-c", line, sys.executable, *map(str, arguments)]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT, **more)


@pytest.mark.slow
@pytest.mark.parametrize("method", [pytest.param("fork", marks=needs_fork), "spawn", "forkserver"])
def test_a_child_decodes(method: str, tmp_path: Path) -> None:
    done = run(tmp_path, START, method)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("script", [LOADER, ASYNCIO, THREADS, EXIT], ids=["DataLoader", "asyncio", "imports", "exit"])
def test_it_ends_as_it_should(script: str, tmp_path: Path) -> None:
    done = run(tmp_path, script)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2000:]


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("when", ["passes", "graph", "unpickled"])
def test_a_child_decodes_whatever_its_parent_did(when: str, tmp_path: Path) -> None:
    """Also what got its vocoder by pickle, and what was forked while a thread made what the first calls make."""
    if when == "graph":
        pytest.importorskip("onnxruntime")
    placement = {"short": "cpu/onnxruntime/10" if when == "graph" else "none"}
    vocoder = tts_infer.load_vocoder(device="cpu", placement=placement)
    (tmp_path / "vocoder").write_bytes(pickle.dumps(vocoder))
    done = run(tmp_path, FORKED, when, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@needs_fork
def test_gunicorn_preloads(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "served.py").write_text(SERVED)
    words = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", "127.0.0.1:0", "served:app"]
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    vocoder, mel = tts_infer.load_vocoder(device="cpu"), torch.full((1, 100, 200), -5.0)
    with subprocess.Popen(words, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as master:
        assert master.stderr is not None
        try:
            url = next(found[0] for line in master.stderr if (found := re.search(r"http://[\d.:]+", line)))
            workers = set()
            for _ in range(8):
                answer = httpx.get(url, timeout=100)
                made = torch.frombuffer(bytearray(answer.content), dtype=torch.float32)
                assert (made - vocoder.decode(mel)[0]).abs().max() < 1e-4  # the number of threads changes the last bits
                parent, worker = answer.headers["x-process"].split()
                workers.add(worker)
                assert int(parent) == master.pid != int(worker)
        finally:
            master.terminate()
    assert workers and master.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "env"),
    [
        ("", {"HOME": "/nonexistent", "XDG_CACHE_HOME": ""}),
        ("", {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("ulimit -n 64;", {}),
        ("exec <&-;", {}),
    ],
    ids=["no home", "ASCII", "64 files", "stdin closed"],
)
def test_poor_machines_decode(shell: str, env: dict[str, str], tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "é.wav")
    done = command("decode", tmp_path / "é.wav", "-o", tmp_path / "ü.wav", shell=shell, env=dict(os.environ) | env)
    assert done.returncode == 0 and (tmp_path / "ü.wav").is_file(), done.stderr[-2000:]
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["the folder goes", "a second batch"])
def test_batches_end_in_one_line(fault: str, tmp_path: Path) -> None:
    mels = tmp_path / "mels"
    mels.mkdir()
    for i in range(60):
        np.save(mels / f"{i}.npy", np.full((100, 800), -5.0, np.float32))
    words = [sys.executable, "-m", "tts_infer", "batch", str(mels), "--out", str(tmp_path / "out")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(words, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not list((tmp_path / "out").glob("*.wav")) and time.monotonic() < deadline:
        time.sleep(0.01)
    if fault == "the folder goes":
        (tmp_path / "out").rename(tmp_path / "gone")
        code, said = 2, "cannot write"
    else:
        second = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
        assert second.returncode == 2 and "another batch is at work" in second.stderr
        assert second.stderr.count("\n") == 1
        code, said = 0, ""
    _, stderr = first.communicate(timeout=200)
    assert first.returncode == code and said in stderr and stderr.count("\n") == (code > 0), stderr[-2000:]


# What a batch that was stopped leaves: whole outputs, and at most a hidden part, which the next run removes.
VISIBLE = "[!.]*"


def digest(folder: Path, pattern: str = "*") -> dict[str, str]:
    """The content of files by name, hidden ones too; those of `pattern`, such as `VISIBLE`."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob(pattern))}


@pytest.mark.slow
def test_twenty_ends_at_random_moments_change_no_byte(tmp_path: Path) -> None:
    """Of four kinds. A run that was killed leaves at most a hidden part, which the next run removes."""
    mels = tmp_path / "mels"
    mels.mkdir()
    draw = np.random.default_rng(0)
    for i in range(24):
        np.save(mels / f"{i}.npy", draw.uniform(-9, 0, (100, 300 + 10 * i)).astype(np.float32))
    assert command("batch", mels, "--out", tmp_path / "whole").returncode == 0
    moments = random.Random(0)
    for _ in range(20):
        words = [sys.executable, "-m", "tts_infer", "batch", str(mels), "--out", str(tmp_path / "out")]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        child = subprocess.Popen(words, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(moments.uniform(0.6, 1.8))
        number = moments.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
        child.send_signal(number)
        child.communicate(timeout=100)
        assert digest(tmp_path / "out", VISIBLE).items() <= digest(tmp_path / "whole").items()
    assert command("batch", mels, "--out", tmp_path / "out").returncode == 0
    assert digest(tmp_path / "out") == digest(tmp_path / "whole")


@pytest.mark.parametrize(
    ("module", "command", "told"),
    [
        ("soxr", ["-m", "tts_infer", "vocoders"], (130, False)),
        ("gradio", ["app.py"], (130, False)),
        (
            "soxr",
            ["-c", "import tts_infer"],
            (-signal.SIGINT, True),
        ),  # what a program of others makes of it is its affair
    ],
)
def test_ctrl_c_while_importing(module: str, command: list[str], told: tuple[int, bool], tmp_path: Path) -> None:
    """The command ends without a traceback, as it does later. Here it comes in the middle of an import."""
    (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    ended = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (ended.returncode, "KeyboardInterrupt" in ended.stderr) == told
    assert told[1] or not ended.stderr
