"""Faults of the machine, each in a process of its own: disks, memory, clocks; and ten minutes of streams."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.test_checkpoint import hub_cache, load_elsewhere  # noqa: F401  a fixture
from tests.test_processes import ROOT, VISIBLE, command, digest
from tts_infer.cli import _NO_MEMORY

HOUR = 337_500  # frames
# The page's own file system: only a process with this right may make one.
MAY_MOUNT = shutil.which("unshare") and not subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode
needs_mount = pytest.mark.skipif(not MAY_MOUNT, reason="file systems cannot be made here")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and ulimit -v are of Linux")

STREAMS = """
import json, os, re, torch, tts_infer
def now():
    status = open("/proc/self/status").read()
    facts = {name: int(re.search(name + r":\\s+(\\d+)", status)[1]) for name in ("VmRSS", "Threads")}
    return {**facts, "files": len(os.listdir("/proc/self/fd"))}
vocoder = tts_infer.load_vocoder(device="cpu")
streams = [vocoder.stream(refine=2), vocoder.stream(refine=0)]
mel, mels = torch.randn(1, 100, 10) * 2 - 5, vocoder.mel_stream()
for i in range(56_250 // 10):
    for stream in streams:
        audio = stream.push(mel)
    mels.push(audio)
    if i == 560:
        begin = now()
print(json.dumps([begin, now()]))
"""
# A clock that shows another time whenever somebody looks, over sixty years; the monotonic ones stay.
JUMPS = """
import random, time
time.time = lambda: random.uniform(0, 2e9)
time.time_ns = lambda: random.randrange(2 * 10**18)
"""


def mels(folder: Path, count: int, frames: int = 800) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(count):
        np.save(folder / f"{i}.npy", draw.uniform(-9, 0, (100, frames)).astype(np.float32))
    return folder


@needs_linux
@pytest.mark.slow
@pytest.mark.timeout(900)  # 12 s on a quiet machine
def test_an_hour_in_little_address_space(tmp_path: Path) -> None:
    """As much as a second needs, and 512 MB: at once, the spectra alone would need 1.4 GB."""
    np.save(tmp_path / "second.npy", np.full((100, 94), -5.0, np.float16))
    np.save(tmp_path / "hour.npy", np.full((100, HOUR), -5.0, np.float16))
    peak = (
        "import re, tts_infer; tts_infer.synthesize_file(tts_infer.load_vocoder(refine=0), 'second.npy', 'second.wav');"
        "print(re.search(r'VmPeak:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    kilobytes = int(subprocess.check_output([sys.executable, "-c", peak], cwd=tmp_path, env=env)) + 512 * 1024
    words = ("decode", tmp_path / "hour.npy", "-o", tmp_path / "hour.wav", "--refine", "0")
    done = command(*words, shell=f"ulimit -v {kilobytes};")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "hour.wav").stat().st_size == 44 + 2 * 256 * (HOUR - 1)


@needs_linux
@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [1100, 1250, 1350])
def test_too_little_memory_is_one_line(megabytes: int, tmp_path: Path) -> None:
    """Whoever asks for it: at loading, or in a stage. Less, and Python's own libraries cannot be loaded."""
    np.save(tmp_path / "mel.npy", np.full((100, 20_000), -5.0, np.float32))
    words = ("decode", tmp_path / "mel.npy", "-o", tmp_path / "out.wav", "--refine", "0")
    done = command(*words, shell=f"ulimit -v {megabytes * 1000};")
    assert (done.returncode, done.stderr) in ((0, ""), (2, f"tts-infer: {_NO_MEMORY}\n")), done.stderr[-2000:]
    assert (tmp_path / "out.wav").exists() == (done.returncode == 0)


@needs_linux
@pytest.mark.slow
def test_ten_minutes_of_streams() -> None:
    """As many pushes as in ten minutes of live audio, one after the other."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", STREAMS], env=env, capture_output=True, text=True, timeout=280)
    found = re.findall(r'"(\w+)": (\d+)', done.stdout)
    (begin, end) = dict(found[:3]), dict(found[3:])
    assert int(end["VmRSS"]) - int(begin["VmRSS"]) < 10 * 1024, done.stderr
    assert (end["Threads"], end["files"]) == (begin["Threads"], begin["files"])


@pytest.mark.slow
def test_clocks_that_jump(tmp_path: Path) -> None:
    given, env = mels(tmp_path / "mels", 6, 200), dict(os.environ)
    (tmp_path / "jumps").mkdir()
    (tmp_path / "jumps" / "sitecustomize.py").write_text(JUMPS)
    assert command("batch", given, "--out", tmp_path / "calm").returncode == 0
    for i, path in enumerate(given.iterdir()):
        os.utime(path, (i * 10**9, i * 10**9))  # from 1970 to 2128
    shell = f'export PYTHONPATH="{tmp_path / "jumps"}:$PYTHONPATH";'
    for made in (6, 0):
        done = command("batch", given, "--out", tmp_path / "out", "--json", shell=shell, env=env)
        assert done.returncode == 0 and f'"made": {made}' in done.stdout, done.stdout[-500:] + done.stderr[-500:]
    assert digest(tmp_path / "out") == digest(tmp_path / "calm")


@needs_mount
@pytest.mark.slow
@pytest.mark.parametrize(
    ("then", "said"), [("mount -o remount,ro out", "Read-only file system"), ("true", "No space left on device")]
)
def test_a_disk_that_is_full_or_may_not_be_written_any_more(then: str, said: str, tmp_path: Path) -> None:
    """A file system of its own for the outputs: one line, and every file that is there is whole."""
    given = mels(tmp_path / "mels", 40)
    assert command("batch", given, "--out", tmp_path / "whole").returncode == 0
    (tmp_path / "out").mkdir()
    size = 2_000_000 if said.startswith("No space") else 10**8
    script = f"""cd {tmp_path} && mount -t tmpfs -o size={size} tmpfs out || exit 99
    {sys.executable} -m tts_infer batch mels --out out & batch=$!
    until ls out/*.wav >/dev/null 2>&1; do sleep 0.01; done
    until {then} 2>/dev/null; do :; done  # busy while a file is open
    wait $batch; code=$?; cp -r out kept; exit $code"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr[-2000:]
    whole, kept = digest(tmp_path / "whole"), digest(tmp_path / "kept", VISIBLE)
    assert kept and kept.items() <= whole.items()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["half", "none", "corrupted"])
def test_a_download_that_broke_off(damage: str, hub_cache: Path) -> None:  # noqa: F811
    """Without a network, one line says what to do."""
    repository = hub_cache / "hub" / "models--someone--a-vocoder"
    weights = next(repository.rglob("pytorch_model.bin"))
    content = weights.read_bytes()
    weights.unlink()
    if damage == "half":  # as the client leaves it
        (repository / "blobs").mkdir()
        (repository / "blobs" / f"{'a' * 64}.incomplete").write_bytes(content[: len(content) // 2])
    if damage == "corrupted":
        weights.write_bytes(content[: len(content) // 2] + bytes(1000) + content[len(content) // 2 + 1000 :][:-500])
    done = load_elsewhere("someone/a-vocoder", HF_HOME=str(hub_cache), HF_ENDPOINT="http://127.0.0.1:9")
    last = done.stderr.strip().split("\n")[-1]
    assert done.returncode != 0 and last.startswith("tts_infer.errors."), done.stderr[-1500:]
    assert "someone/a-vocoder" in last or "a--vocoder" in last or "a-vocoder" in last
    assert "pytorch_model.bin" in last or "not whole in the Hub cache" in last
