"""What the system does not allow: folders without write permission, files that may not be read, no home to write to.

Root may read and write everything. So these commands run without those two of its rights, where root runs the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.test_faults import mels
from tests.test_processes import CLIP, ROOT, VISIBLE, digest
from tts_infer.vocoders.checkpoint import ASSETS

RIGHTS = "-dac_override,-dac_read_search,-fowner"
AS_USER = [] if getattr(os, "geteuid", lambda: 1)() else ["setpriv", "--inh-caps=-all", f"--bounding-set={RIGHTS}"]
REFUSED = "Permission denied"
# Commands one after the other, in one process: what each returns, and what it says on stderr.
COMMANDS = """
import contextlib, io, json, sys
from tts_infer.cli import main
found = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()) as shown:
        code = main(words)
    found.append([code, said.getvalue(), shown.getvalue()])
json.dump(found, sys.stdout)
"""


def as_user(words: Sequence[object], **more: Any) -> subprocess.CompletedProcess[str]:
    """A command of somebody whom permissions bind."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | more.pop("env", {})
    line = [*AS_USER, *map(str, words)]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=200, check=False, **more)


def permissions_bind() -> bool:
    if os.name != "posix" or (AS_USER and shutil.which(AS_USER[0]) is None):
        return False
    return as_user(["sh", "-c", "d=$(mktemp -d) && chmod 500 $d && ! touch $d/a 2>/dev/null"]).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not permissions_bind(), reason="permissions do not bind this user, and setpriv cannot help"),
]


def said_by(folder: Path, *commands: Sequence[object]) -> list[tuple[int, str, str]]:
    """What became of commands: exit code, stderr, stdout."""
    given = json.dumps([list(map(str, words)) for words in commands])
    done = as_user([sys.executable, "-c", COMMANDS], cwd=folder, input=given)
    assert done.returncode == 0, done.stderr[-2000:]
    return [(code, said, shown) for code, said, shown in json.loads(done.stdout)]


def mel() -> np.ndarray:
    return np.full((100, 50), -5.0, np.float32)


def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    """The reason is told, and no advice that has nothing to do with it."""
    shutil.copy(CLIP, tmp_path / "a.wav")
    np.save(tmp_path / "a.npy", mel())
    np.savez(tmp_path / "a.npz", mel=mel())
    torch.save(torch.from_numpy(mel()), tmp_path / "a.pt")
    save_file({"mel": torch.from_numpy(mel())}, tmp_path / "a.safetensors")
    (tmp_path / "a.jsonl").write_text('{"input": "a.wav"}')
    (tmp_path / "a.txt").write_text("Hello.")
    names = [path.name for path in tmp_path.iterdir()]
    for name in names:
        (tmp_path / name).chmod(0)
    sounds = [name for name in names if not name.endswith((".jsonl", ".txt"))]
    commands: list[list[str]] = [["decode", name, "-o", "out.wav"] for name in sounds]
    commands += [["compare", "a.wav"], ["batch", "a.jsonl", "--out", "out"], ["speak", "a.txt", "-o", "out.wav"]]
    for words, (code, said, _) in zip(commands, said_by(tmp_path, *commands), strict=True):
        name = next(name for name in words if name in names)
        kind = "manifest " if name == "a.jsonl" else ""
        assert (code, said) == (2, f"tts-infer: cannot read {kind}{name}: {REFUSED}\n")


@pytest.mark.parametrize("closed", ["model.safetensors", "config.yaml", "."])
def test_vocoders_that_may_not_be_read(closed: str, tmp_path: Path) -> None:
    shutil.copytree(ASSETS / "vocos-mini-24khz", tmp_path / "voc")
    shutil.copy(CLIP, tmp_path / "a.wav")
    (tmp_path / "voc" / closed).chmod(0)
    decode = ["decode", "a.wav", "-o", "out.wav", "--vocoder"]
    found = said_by(tmp_path, [*decode, "voc"], [*decode, "voc/model.safetensors"], ["vocoders", "voc"])
    (tmp_path / "voc" / closed).chmod(0o700)
    for code, said, _ in found:
        assert code == 2 and said.startswith("tts-infer: cannot read voc/") and said.count("\n") == 1, said
        assert said.endswith(f": {REFUSED}\n")


def test_a_batch_goes_on_without_what_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(CLIP, tmp_path / "in" / "a.wav")
    for name in ("b.wav", "c.npy"):
        shutil.copy(CLIP, tmp_path / "in" / name)
        (tmp_path / "in" / name).chmod(0)
    (tmp_path / "in" / "deep").chmod(0)
    closed, made, of_folder = said_by(
        tmp_path,
        ["batch", "in", "--out", "out"],
        ["batch", *(f"in/{name}" for name in ("a.wav", "b.wav", "c.npy")), "--out", "out", "--json"],
        ["batch", "in/deep/*.wav", "--out", "out"],
    )
    (tmp_path / "in" / "deep").chmod(0o700)
    assert closed[:2] == (2, f"tts-infer: cannot read in/deep: {REFUSED}\n")  # nobody knows what it holds
    assert of_folder[0] == 2 and of_folder[1].endswith(f"in/deep/*.wav: {REFUSED}\n")
    report = json.loads(made[2])
    assert made[0] == 1 and list(report["outputs"]) == ["a.wav"]
    assert report["failed"] == {
        "b.wav": f"cannot read in/b.wav: {REFUSED}",
        "c.wav": f"cannot read in/c.npy: {REFUSED}",
    }


def test_places_that_may_not_be_written(tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "a.wav")
    (tmp_path / "closed" / "out").mkdir(parents=True)
    shutil.copy(CLIP, tmp_path / "closed" / "old.wav")
    (tmp_path / "closed").chmod(0o500)
    before = digest(tmp_path / "closed" / "out"), (tmp_path / "closed" / "old.wav").read_bytes()
    found = said_by(
        tmp_path,
        ["decode", "a.wav", "-o", "closed/new.wav"],
        ["decode", "a.wav", "-o", "closed/old.wav"],
        ["decode", "a.wav", "-o", "closed/new.flac"],
        ["batch", "a.wav", "--out", "closed"],
        ["batch", "a.wav", "--out", "closed/new"],
        ["batch", "a.wav", "--out", "closed/out"],  # its journal would be beside it
        ["batch", "a.wav", "--out", "closed/out", "--journal", "here.journal"],
        ["compare", "a.wav", "--runs", "1", "--report", "closed/report.html"],
        ["export", "vocos-mini-24khz", "-o", "closed/v.onnx"],
    )
    *refused, journal, allowed, report, export = [(code, said) for code, said, _ in found]
    names = ["new.wav", "old.wav", "new.flac", "a.wav"]
    assert refused[:-1] == [(2, f"tts-infer: cannot write closed/{name}: {REFUSED}\n") for name in names]
    assert refused[-1] == (2, f"tts-infer: cannot make closed/new: {REFUSED}\n")
    assert journal[0] == 2 and "closed/out.journal as a journal: unable to open" in journal[1]
    assert "name another file for it (--journal)" in journal[1] and journal[1].count("\n") == 1
    assert allowed == (0, "") and (tmp_path / "closed" / "out" / "a.wav").is_file()
    for name, (code, said) in {"report.html": report, "v.onnx": export}.items():
        assert code == 2 and said.endswith(f"cannot write closed/{name}: {REFUSED}\n"), said
    (tmp_path / "closed" / "out" / "a.wav").unlink()
    assert (digest(tmp_path / "closed" / "out"), (tmp_path / "closed" / "old.wav").read_bytes()) == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of mels, and a whole batch of them."""
    folder = tmp_path_factory.mktemp("whole")
    mels(folder / "mels", 32)
    ((code, _, _),) = said_by(folder, ["batch", "mels", "--out", "out"])
    assert code == 0
    return folder


@pytest.mark.parametrize(("closed", "ends"), [("out", 2), (".", 0), ("mels", 1)])
def test_permissions_that_go_while_a_batch_runs(closed: str, ends: int, whole: Path, tmp_path: Path) -> None:
    """Of outputs: one line. Of the folder around them: the journal is open already. Of inputs: these fail.

    Once they are back, the same command makes what is missing.
    """
    shutil.copytree(whole / "mels", tmp_path / "here" / "mels")
    words = [sys.executable, "-m", "tts_infer", "batch", "mels", "--out", "out"]
    env, here = os.environ | {"PYTHONPATH": str(ROOT)}, tmp_path / "here"
    with subprocess.Popen([*AS_USER, *words], cwd=here, env=env, stderr=subprocess.PIPE, text=True) as batch:
        deadline = time.monotonic() + 100
        while not list(here.glob("out/*.wav")) and time.monotonic() < deadline:
            time.sleep(0.01)
        (here / closed).chmod(0 if closed == "mels" else 0o500)
        said = batch.communicate(timeout=200)[1]
    (here / closed).chmod(0o700)
    assert batch.returncode == ends, said
    assert said.count("\n") == (ends == 2) and said.startswith("tts-infer: cannot write out/") == (ends == 2), said
    kept, right = digest(here / "out", VISIBLE), digest(whole / "out")
    assert kept and kept.items() <= right.items()
    assert said_by(here, ["batch", "mels", "--out", "out"])[0][0] == 0 and digest(here / "out") == right


def test_homes_and_caches_that_may_not_be_written(tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "a.wav")
    (tmp_path / "home").mkdir(mode=0o500)
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": "", "HF_HOME": ""}
    words = [sys.executable, "-m", "tts_infer"]
    done = as_user([*words, "decode", "a.wav", "-o", "out.wav"], cwd=tmp_path, env=home)
    assert (done.returncode, done.stderr) == (0, "") and (tmp_path / "out.wav").is_file()
    hub = {**home, "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = as_user([*words, "decode", "a.wav", "-o", "out.wav", "--vocoder", "some/one"], cwd=tmp_path, env=hub)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "some/one" in done.stderr
    assert list((tmp_path / "home").iterdir()) == []


def test_a_page_without_a_folder_for_uploads(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    env = {"GRADIO_TEMP_DIR": str(tmp_path / "closed" / "page")}
    done = as_user([sys.executable, ROOT / "app.py", "--port", "0"], env=env)
    assert done.returncode == 2 and done.stderr.startswith("app.py: cannot make a folder for uploads"), done.stderr
    assert done.stderr.count("\n") == 1 and "set GRADIO_TEMP_DIR" in done.stderr


def test_the_api_raises_errors_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    shutil.copy(CLIP, tmp_path / "closed" / "a.wav")
    (tmp_path / "closed").chmod(0)
    script = """
import sys, tts_infer
vocoder = tts_infer.load_vocoder(device="cpu")
place = "closed/a"
for call in (
    lambda: tts_infer.read_audio(place), lambda: tts_infer.read_mel(place + ".npy", 100),
    lambda: tts_infer.check_writable(place + ".wav"),
    lambda: tts_infer.load_vocoder("closed/voc"), lambda: tts_infer.load_vocoder(config=place),
    lambda: tts_infer.require_file(place), lambda: tts_infer.require_input(place),
    lambda: tts_infer.synthesize_file(vocoder, place, "out.wav"),
    lambda: tts_infer.synthesize_batch(vocoder, "closed", "out"),
    lambda: tts_infer.check_report(place + ".html"), lambda: tts_infer.describe_vocoder("closed/voc"),
):
    try:
        call()
    except tts_infer.TTSInferError as error:
        assert "Permission denied" in str(error), error
    else:
        raise AssertionError("it was taken")
"""
    done = as_user([sys.executable, "-c", script], cwd=tmp_path)
    (tmp_path / "closed").chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
