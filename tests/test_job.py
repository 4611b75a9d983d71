"""Batches: the same outputs as one by one, whatever interrupts them."""

from __future__ import annotations

import copy
import errno
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tts_infer
from tts_infer.batch import buckets, local
from tts_infer.batch import job as batch
from tts_infer.cli import main
from tts_infer.io.targets import SampleFormat, part_stem

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


def test_a_relative_path_may_mean_another_file(
    tmp_path: Path, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same size and time, as archives that are unpacked have them."""
    made = []
    for name, level in (("a", -5.0), ("b", -3.0)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", np.full((100, 20), level, np.float32))
        os.utime(tmp_path / name / "x.npy", (1, 1))
        monkeypatch.chdir(tmp_path / name)
        made.append(tts_infer.synthesize_batch(vocoder, ["x.npy"], tmp_path / "out").made)
    assert made == [1, 1]


def test_a_link_in_a_path_is_followed(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    (tmp_path / "other" / "dir").mkdir(parents=True)
    np.save(tmp_path / "other" / "x.npy", np.full((100, 20), -5.0, np.float32))
    (tmp_path / "link").symlink_to(tmp_path / "other" / "dir")
    assert tts_infer.synthesize_batch(vocoder, [tmp_path / "link" / ".." / "x.npy"], tmp_path / "out").made == 1


def test_mels_of_another_convention_are_named(
    tmp_path: Path, vocoder: tts_infer.Vocoder, speech: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    mel = vocoder.mel(speech)[0]
    wrong = {"right": mel, "log10": mel / math.log(10), "range": (mel - mel.min()) / (mel.max() - mel.min())}
    for name, values in wrong.items():
        np.save(tmp_path / f"{name}.npy", values.numpy())
    names = [str(tmp_path / f"{name}.npy") for name in wrong]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = tts_infer.synthesize_batch(vocoder, [*names, CLIPS[0]], tmp_path / "out")
    assert sorted(report.outputs) == sorted([*(f"{name}.wav" for name in wrong), f"{CLIPS[0].stem}.wav"])
    assert sorted(report.noted) == ["log10.wav", "range.wav"]
    assert "looks like a log10" in report.noted["log10.wav"] and "0..1" in report.noted["range.wav"]
    assert not tts_infer.synthesize_batch(vocoder, [*names, CLIPS[0]], tmp_path / "out").noted  # nothing was made
    assert main(["batch", *names, "--out", str(tmp_path / "other")]) == 0
    assert "noted            2 files\n  log10.wav: mel looks like" in capsys.readouterr().out
    quiet = tts_infer.load_vocoder(device="cpu", refine=0, check_convention=False)
    assert not tts_infer.synthesize_batch(quiet, names, tmp_path / "quiet").noted


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
    for _ in range(2):  # tried again, they fail again
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


def test_the_old_option_works_and_says_so(mels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "in", "--out", "out", "--device", "cpu", "--json", "--engine", "local"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert len(report["outputs"]) == 4 and report["xrt"] == report["rtfx"] > 0
    assert captured.err == "tts-infer: --engine is now --executor; the old name goes with the next release\n"
    assert main(["batch", "in", "--out", "new", "--engine", "ray", "--ray-address", "127.0.0.1:1"]) == 2
    assert "ray" in (said := capsys.readouterr().err.lower()) and "executor is 'local'" not in said
    with pytest.raises(SystemExit):
        main(["batch", "--help"])
    assert "--executor" in (text := capsys.readouterr().out) and "--engine" not in text


# Stated, so that every process computes by the same means.
PLACEMENT = "backbone=cpu/torch,head=cpu/torch"


def command(inputs: Path, out: Path) -> list[str]:
    arguments = ["batch", str(inputs), "--out", str(out), "--placement", PLACEMENT, "--json"]
    return [sys.executable, "-m", "tts_infer", *arguments]


def test_killed_at_any_moment_it_continues(inputs: Path, tmp_path: Path) -> None:
    for i in range(2):  # enough work to be killed in
        shutil.copytree(inputs, inputs / f"more{i}")
    vocoder = tts_infer.load_vocoder(placement=PLACEMENT)
    tts_infer.synthesize_batch(vocoder, inputs, tmp_path / "calm")
    calm = contents(tmp_path / "calm")
    for made in (0, 30):  # while it plans, and in the middle
        out = tmp_path / f"out{made}"
        with subprocess.Popen(command(inputs, out), cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not (out.is_dir() and len(list(out.rglob("*.wav"))) >= made):
                time.sleep(0.002)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        (out / f".{next(iter(calm))}.0badcafe.part").write_bytes(b"half")
        report = tts_infer.synthesize_batch(vocoder, inputs, out)
        assert 0 < report.made <= len(calm) and (report.made < len(calm)) == (made > 0)
        assert contents(out) == calm  # every file, with the same bytes, and nothing half written


def test_a_full_disk_stops_it_and_keeps_what_is_done(inputs: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the longest outputs do not fit."""
    vocoder = tts_infer.load_vocoder(placement=PLACEMENT)
    tts_infer.synthesize_batch(vocoder, inputs, tmp_path / "calm")
    calm, out = contents(tmp_path / "calm"), tmp_path / "out"
    limit = sorted(map(len, calm.values()))[len(calm) // 2]

    def shrink() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(command(inputs, out), cwd=ROOT, capture_output=True, text=True, preexec_fn=shrink)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "File too large" in done.stderr
    kept = contents(out)
    assert 0 < len(kept) < 24 and all(calm[name] == data for name, data in kept.items())
    tts_infer.synthesize_batch(vocoder, inputs, out)
    assert contents(out) == calm


def test_other_settings_need_another_folder(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], vocoder: tts_infer.Vocoder
) -> None:
    tts_infer.synthesize_batch(
        vocoder, [inputs / "01.wav" if (inputs / "01.wav").exists() else inputs], tmp_path / "out"
    )
    arguments = ["batch", str(inputs), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "begun with refine '0', now it is '16'" in capsys.readouterr().err
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
    arguments = ["batch", clip, "--out", str(tmp_path / "out"), "--container", "flac", "--sample-format", "float32"]
    assert main(arguments) == 2
    assert "FLAC holds integers only" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.fixture
def mels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few small files, of one bucket, where the process is."""
    (tmp_path / "in").mkdir()
    generator = np.random.default_rng(0)
    for i in range(4):
        np.save(tmp_path / "in" / f"{i}.npy", generator.normal(-5, 2, (100, 20 + i)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The outputs of every bucket that was at work."""
    seen: list[list[str]] = []

    def run(vocoder: tts_infer.Vocoder, given: Sequence[buckets.Bucket], sample_format: SampleFormat) -> buckets.Work:
        seen.extend([item.name for item in bucket] for bucket in given)
        return local.run(vocoder, given, sample_format)

    monkeypatch.setattr(batch, "run_here", run)
    return seen


def with_other(vocoder: tts_infer.Vocoder, what: str) -> tts_infer.Vocoder:
    model = copy.deepcopy(vocoder.model)
    if what == "weights":
        with torch.no_grad():
            model.head.out.bias[0] += 1e-6
    if what == "mel":
        model.config = replace(model.config, mel=replace(model.config.mel, log_floor=1e-6))
    return tts_infer.Vocoder(model, vocoder.placement, f"./{vocoder.name}", vocoder.dtype, vocoder.refine)


def test_a_vocoder_is_what_it_decodes(mels: Path, vocoder: tts_infer.Vocoder) -> None:
    """Not what it is called."""
    tts_infer.synthesize_batch(vocoder, [mels], "out")
    assert tts_infer.synthesize_batch(with_other(vocoder, "name"), [mels], "out").made == 0
    for what in ("weights", "mel"):
        with pytest.raises(
            tts_infer.InputError, match="begun with weights '[0-9a-f]{8}', now it is '[0-9a-f]{8}'; use"
        ):
            tts_infer.synthesize_batch(with_other(vocoder, what), [mels], "out")


def test_names_of_any_bytes(mels: Path, vocoder: tts_infer.Vocoder) -> None:
    (mels / "0.npy").rename(mels / os.fsdecode(b"caf\xe9.npy"))
    (mels / os.fsdecode(b"broken\xe9.npy")).write_bytes(b"")
    for made in (4, 0):
        report = tts_infer.synthesize_batch(vocoder, ["in"], os.fsdecode(b"out\xe9"))
        assert (report.made, set(report.failed)) == (made, {os.fsdecode(b"broken\xe9.wav")})
        assert os.fsdecode(b"caf\xe9.wav") in report.outputs
    assert b"caf\xe9.wav" in os.listdir(b"out\xe9")


@pytest.mark.parametrize("out", [".", "./", "", "deep/.."])
def test_the_journal_is_beside_the_folder_itself(
    mels: Path, out: str, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out/deep").mkdir(parents=True)
    monkeypatch.chdir("out")
    tts_infer.synthesize_batch(vocoder, ["../in"], out)
    assert sorted(os.listdir("..")) == ["in", "out", "out.journal"]
    monkeypatch.chdir("deep")
    assert tts_infer.synthesize_batch(vocoder, [mels], "..").made == 0  # the same inputs, by another name
    assert tts_infer.synthesize_batch(vocoder, [mels], "../../out").made == 0


def test_no_folder_is_around_the_root(mels: Path, vocoder: tts_infer.Vocoder) -> None:
    with pytest.raises(tts_infer.InputError, match="'/' has no folder around it for a journal"):
        tts_infer.synthesize_batch(vocoder, [mels], "/")


def test_what_is_repaired_is_made(mels: Path, vocoder: tts_infer.Vocoder, decoded: list[list[str]]) -> None:
    """Even if size and time say nothing, as after chmod. The others keep the company they had."""
    good, when = (mels / "1.npy").read_bytes(), (mels / "1.npy").stat().st_mtime_ns
    (mels / "1.npy").write_bytes(b"?" * len(good))
    os.utime(mels / "1.npy", ns=(when, when))
    assert set(tts_infer.synthesize_batch(vocoder, ["in"], "out").failed) == {"1.wav"}
    before = contents(Path("out"))
    (mels / "1.npy").write_bytes(good)
    os.utime(mels / "1.npy", ns=(when, when))
    Path("out/2.wav").unlink()
    decoded.clear()
    report = tts_infer.synthesize_batch(vocoder, ["in"], "out")
    assert not report.failed and decoded == [["0.wav", "2.wav", "3.wav"], ["1.wav"]]
    after = contents(Path("out"))
    assert after.pop("1.wav") and after == before


def test_what_cannot_be_found_is_recorded(
    mels: Path, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"input": f"in/{name}.npy", "output": f"{i}"} for i, name in enumerate(["0", "1", "n" * 300, "gone"])]
    Path("m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    stat = os.stat

    def refusing(path: str | Path, *args: object, **kwargs: object) -> object:
        if os.fspath(path) == "in/1.npy":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return stat(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refusing)
    report = tts_infer.synthesize_batch(vocoder, ["m.jsonl"], "out")
    assert set(report.outputs) == {"0.wav"} and report.failed == {
        "1.wav": "cannot read in/1.npy: Permission denied",
        "2.wav": f"cannot read in/{'n' * 300}.npy: File name too long",
        "3.wav": "cannot read in/gone.npy: No such file or directory",
    }


def test_outputs_that_were_cut_are_made_again(mels: Path, vocoder: tts_infer.Vocoder, decoded: list[list[str]]) -> None:
    """A machine that loses power may keep a name and lose its content. What has grown is the user's work."""
    tts_infer.synthesize_batch(vocoder, ["in"], "out")
    before = contents(Path("out"))
    Path("out/0.wav").write_bytes(before["0.wav"] + b"tags")
    decoded.clear()
    assert tts_infer.synthesize_batch(vocoder, ["in"], "out").made == 0 and decoded == []
    Path("out/1.wav").write_bytes(b"")
    assert tts_infer.synthesize_batch(vocoder, ["in"], "out").made == 4
    assert contents(Path("out")) == before and decoded == [["0.wav", "1.wav", "2.wav", "3.wav"]]


def test_half_written_files_of_any_name_are_removed(mels: Path, vocoder: tts_infer.Vocoder) -> None:
    name = "n" * 250
    (mels / "0.npy").rename(mels / f"{name}.npy")
    Path("out").mkdir()
    for stem in (part_stem(f"{name}.wav"), "1.wav", "foreign"):
        Path("out", f".{stem}.0badcafe.part").touch()
    tts_infer.synthesize_batch(vocoder, ["in"], "out")
    assert [path.name for path in Path("out").glob(".*")] == [".foreign.0badcafe.part"]


def test_a_shared_folder_may_show_files_late(
    mels: Path, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their size is not known then; that they are there is enough."""

    def run(vocoder: tts_infer.Vocoder, given: Sequence[buckets.Bucket], sample_format: SampleFormat) -> buckets.Work:
        for outcomes in local.run(vocoder, given, sample_format):
            Path("out").rename("elsewhere")
            yield outcomes
            Path("elsewhere").rename("out")

    monkeypatch.setattr(batch, "run_here", run)
    assert [tts_infer.synthesize_batch(vocoder, ["in"], "out").made for _ in range(2)] == [4, 0]


def test_what_is_too_loud_is_recorded(mels: Path, vocoder: tts_infer.Vocoder) -> None:
    loud = np.sin(np.arange(12000)).astype(np.float32)
    soundfile.write(mels / "whole numbers.wav", loud * 2**30, 24000, subtype="FLOAT")
    report = tts_infer.synthesize_batch(vocoder, [mels], mels.parent / "out")
    assert "audio reaches" in report.failed["whole numbers.wav"]
    assert len(report.outputs) == len(list(mels.glob("*.npy")))


def test_one_input_needs_no_list(mels: Path, vocoder: tts_infer.Vocoder) -> None:
    for given in (mels, str(mels)):
        report = tts_infer.synthesize_batch(vocoder, given, mels.parent / "out")
        assert len(report.outputs) == len(list(mels.glob("*.npy")))
