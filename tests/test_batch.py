"""Batches: the same outputs as one by one, whatever interrupts them."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import tts_infer
from tts_infer import buckets
from tts_infer.cli import main

ROOT = Path(__file__).parent.parent
CLIPS = sorted((ROOT / "examples").glob("*.wav"))


@pytest.fixture
def inputs(tmp_path: Path, vocoder: tts_infer.Vocoder) -> Path:
    """Pieces of speech of many lengths, in folders, as audio and as features."""
    random.seed(0)
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for i in range(24):
        samples = tts_infer.read_audio(CLIPS[i % len(CLIPS)]).samples
        start = random.randrange(len(samples) // 2)
        piece = samples[start : start + random.randrange(3000, len(samples) // 2)]
        where = folder / ("deep" if i % 2 else "") / f"{i:02}"
        if i % 5:
            soundfile.write(where.with_suffix(".wav"), piece, 24000)
        else:
            np.save(where.with_suffix(".npy"), vocoder.mel(piece).numpy())
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_outputs_equal_single_decodes(inputs: Path, tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    seen: list[tuple[int, int, float]] = []
    report = tts_infer.synthesize_batch(
        vocoder, [inputs], tmp_path / "out", sample_format="float32", progress=lambda *state: seen.append(state)
    )
    assert report.made == len(report.outputs) == 24 and not report.failed
    assert seen[-1] == (24, 24, report.seconds) and report.seconds == pytest.approx(sum(report.outputs.values()))
    for source in inputs.rglob("*.*"):
        output = tmp_path / "out" / source.relative_to(inputs).with_suffix(".wav")
        if source.suffix == ".npy":
            expected = vocoder.decode(np.load(source))[0].numpy()
        else:
            expected = vocoder(tts_infer.read_audio(source, 24000).samples)[0].numpy()
        made = soundfile.read(output, dtype="float32")[0]
        assert made.shape == expected.shape
        # exact ragged batches; matrices of other sizes may sum in another order where products are not packed
        assert np.abs(made - expected).max() <= 5e-5 * np.abs(expected).max()


def test_a_second_run_has_nothing_to_do(
    inputs: Path, tmp_path: Path, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "CPU_FRAMES", 512)  # several buckets
    first = tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "out", container="flac")
    before = contents(tmp_path / "out")
    again = tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "out", container="flac")
    assert (first.made, again.made) == (24, 0) and again.outputs == first.outputs
    # what is missing or has changed is made again, and nothing else
    (tmp_path / "out" / "deep" / "01.flac").unlink()
    soundfile.write(inputs / "02.wav", np.zeros(9000), 24000)
    third = tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "out", container="flac")
    after = contents(tmp_path / "out")
    assert 2 <= third.made < 24
    assert {name for name in before if before[name] != after[name]} == {"02.flac"}


def test_it_can_be_ended_early_and_continued(
    inputs: Path, tmp_path: Path, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "CPU_FRAMES", 512)  # several buckets
    calm = tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "calm")
    ended = tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "out", progress=lambda *_: False)
    assert 0 < ended.made == len(ended.outputs) < 24 and not ended.failed
    assert all(calm.outputs[name] == seconds for name, seconds in ended.outputs.items())
    assert not list((tmp_path / "out").rglob("*.part"))
    rest = tts_infer.synthesize_batch(vocoder, [inputs], tmp_path / "out")
    assert rest.made == 24 - ended.made and rest.outputs == calm.outputs
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


def test_broken_inputs_are_recorded(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], vocoder: tts_infer.Vocoder
) -> None:
    (inputs / "text.wav").write_text("no audio")
    np.save(inputs / "turned.npy", np.zeros((5, 100), dtype=np.float32))
    np.save(inputs / "nan.npy", np.full((100, 5), np.nan, dtype=np.float32))
    np.save(inputs / "two.npy", np.zeros((2, 100, 5), dtype=np.float32))
    for _ in range(2):  # failures are remembered
        assert main(["batch", str(inputs), "--out", str(tmp_path / "out"), "--device", "cpu", "--json"]) == 1
        report = json.loads(capsys.readouterr().out)
        assert len(report["outputs"]) == 24 and set(report["failed"]) == {
            "text.wav",
            "turned.wav",
            "nan.wav",
            "two.wav",
        }
    assert report["made"] == 0
    assert "as audio" in report["failed"]["text.wav"] and "transpose" in report["failed"]["turned.wav"]
    assert "NaN" in report["failed"]["nan.wav"] and "holds a batch of 2" in report["failed"]["two.wav"]
    assert not (tmp_path / "out" / "text.wav").exists()
    assert main(["batch", str(inputs), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
    text = capsys.readouterr().out
    assert "failed           4 files" in text and "text.wav: cannot read" in text


def command(inputs: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "tts_infer", "batch", str(inputs), "--out", str(out), "--json"]


def test_killed_at_any_moment_it_continues(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(2):  # enough work to be killed in
        shutil.copytree(inputs, inputs / f"more{i}")
    assert main(["batch", str(inputs), "--out", str(tmp_path / "calm"), "--json"]) == 0
    calm = contents(tmp_path / "calm")
    random.seed(1)
    killed = 0
    for attempt in range(3):
        out = tmp_path / f"out{attempt}"
        with subprocess.Popen(command(inputs, out), cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 60
            while process.poll() is None and len(list(out.rglob("*.wav"))) < attempt and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(random.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
        (out / f".{next(iter(calm))}.0badcafe.part").write_bytes(b"half") if out.is_dir() else None
        subprocess.run(command(inputs, out), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        assert contents(out) == calm  # every file, with the same bytes, and nothing half written
    assert killed >= 2


def test_a_full_disk_stops_it_and_keeps_what_is_done(inputs: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the longest outputs do not fit."""
    assert main(["batch", str(inputs), "--out", str(tmp_path / "calm"), "--json"]) == 0
    sizes = sorted(len(data) for data in contents(tmp_path / "calm").values())
    limit = sizes[len(sizes) // 2]

    def shrink() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    out = tmp_path / "out"
    done = subprocess.run(command(inputs, out), cwd=ROOT, capture_output=True, text=True, preexec_fn=shrink)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "File too large" in done.stderr
    kept = contents(out)
    assert 0 < len(kept) < 24 and all(contents(tmp_path / "calm")[name] == data for name, data in kept.items())
    subprocess.run(command(inputs, out), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert contents(out) == contents(tmp_path / "calm")


def test_other_settings_need_another_folder(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], vocoder: tts_infer.Vocoder
) -> None:
    tts_infer.synthesize_batch(
        vocoder, [inputs / "01.wav" if (inputs / "01.wav").exists() else inputs], tmp_path / "out"
    )
    arguments = ["batch", str(inputs), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "begun with refine '0', now it is '8'" in capsys.readouterr().err
    arguments += ["--sample-format", "float32", "--refine", "0"]
    assert main(arguments) == 2
    assert "begun with sample_format 'pcm16'" in capsys.readouterr().err
    assert main([*arguments, "--container", "flac"]) == 2
    assert "FLAC holds integers only" in capsys.readouterr().err


def test_bad_names_are_refused_before_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = str(CLIPS[0])
    assert main(["batch", clip, clip, "--out", str(tmp_path / "out")]) == 2
    assert "output names are taken twice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.journal").exists()
