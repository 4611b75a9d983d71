"""`compare`: who takes part, whose turn it is, and what the figures are of."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import tts_infer
from tests.helpers import small_vocoder
from tests.test_page import Structure
from tts_infer import Synthesis, System
from tts_infer.cli import main
from tts_infer.evaluation.systems import system_of
from tts_infer.report.comparison import draw_comparison
from tts_infer.runtime import memory

LOAD = partial(tts_infer.load_vocoder, device="cpu")


@pytest.fixture
def clip(tmp_path: Path, speech: Tensor, monkeypatch: pytest.MonkeyPatch) -> Path:
    tts_infer.write_audio(tmp_path / "clip.wav", speech[0, 12000:36000], 24000, "float32")
    monkeypatch.chdir(tmp_path)
    return Path("clip.wav")


def copier(label: str, original: Tensor, gain: float, rate: int = 24000) -> System:
    """Gives the original, louder."""
    config = tts_infer.MelConfig(rate, n_fft=512, hop_length=128, n_mels=20)
    return System(label, config, tts_infer.LogMel(config, "fft"), lambda mel: gain * original)


def test_every_combination_takes_part() -> None:
    engines, placements = ["torch", "griffin-lim"], [None, "istft=cpu/matmul"]
    found = tts_infer.contestants(engines=engines, placements=placements, refine=[0, 2], load=LOAD)
    assert [one.label for one in found] == [
        *("torch auto refine=0", "torch auto refine=2"),
        *("torch istft=cpu/matmul refine=0", "torch istft=cpu/matmul refine=2"),
        "griffin-lim",  # once: it has no such stages
    ]
    mel = torch.zeros(1, 100, 5) - 5
    stages = [{row["stage"]: row for row in one.synthesize(mel).stages} for one in found]
    assert ["refine" in report for report in stages] == [False, True, False, True, False]
    assert [report["istft"]["method"] for report in stages[:4]] == ["fft", "fft", "matmul", "matmul"]
    assert [report["backbone"]["engine"] for report in stages[:4]] == ["torch"] * 4
    assert [one.label for one in tts_infer.contestants(["vocos-mini-24khz"] * 2, load=LOAD)] == [
        *("vocos-mini-24khz", "vocos-mini-24khz (2)")
    ]


def test_methods_and_formats_are_combined_too(vocoder: tts_infer.Vocoder) -> None:
    asked: list[tuple[str, str, str, str]] = []

    def load(name: str, *, engine: str, placement: str | None, istft: str, dtype: str) -> tts_infer.Vocoder:
        asked.append((engine, str(placement), istft, dtype))
        return vocoder

    formats: list[tts_infer.DTypeChoice] = ["float32", "bfloat16"]
    found = tts_infer.contestants(
        engines=["torch", "vocos"], refine=[0, 2], istft=["fft", "matmul"], dtypes=formats, load=load
    )
    ours = [f"torch {method} {dtype}" for method in ("fft", "matmul") for dtype in formats]
    assert [one.label for one in found] == [f"{one} refine={n}" for one in ours for n in (0, 2)] + ["vocos"]
    assert asked == [
        *(("torch", "None", method, dtype) for method in ("fft", "matmul") for dtype in formats),
        ("vocos", "None", "auto", "float32"),
    ]
    assert [one.vocoder.refine for one in found[:2] if one.vocoder] == [0, 2]
    with pytest.raises(tts_infer.PlacementError, match="^nope: method of 'istft' is 'nope'"):
        tts_infer.contestants(istft=["fft", "nope"], load=LOAD)  # type: ignore[list-item]


def test_who_cannot_take_part_is_named() -> None:
    with pytest.raises(tts_infer.PlacementError, match="^cuda_graphs: engine 'cuda_graphs' can run no stage"):
        tts_infer.contestants(engines=["torch", "cuda_graphs"], load=LOAD)
    with pytest.raises(tts_infer.PlacementError, match="^engine is 'nope'"):
        tts_infer.contestants(engines=["nope"], load=LOAD)
    with pytest.raises(tts_infer.InputError, match="refine is -1"):
        tts_infer.contestants(refine=[0, -1], load=LOAD)


def test_they_take_turns_and_the_first_run_is_not_timed(clip: Path, echo: Callable[..., System]) -> None:
    order: list[str] = []
    times = {"a": itertools.chain([1000.0], [5.0, 1.0, 3.0, 2.0, 4.0]), "b": itertools.repeat(8.0)}

    def timed(name: str, features: Tensor | None = None, *, audio: Tensor) -> Synthesis:
        order.append(name)
        made, ms = echo(24000).synthesize(audio=audio), next(times[name])
        return replace(made, total_ms=ms, stages=[{**made.stages[0], "ms": ms}])

    found = tts_infer.compare(clip, [replace(echo(label=name), timed=partial(timed, name)) for name in "ab"])
    assert order == ["a", "b"] * 6
    one, other = found.results
    assert (one.ms.median, one.ms.low, one.ms.high) == (3.0, 1.0, 5.0) and one.stages[0]["ms"] == 3.0
    assert one.rtfx.median == pytest.approx(1 / 3e-3) and one.rtfx.high == pytest.approx(1 / 1e-3)
    assert (other.ms.low, other.ms.high, found.runs, found.copied) == (8.0, 8.0, 5, True)


def test_the_errors_are_those_of_known_gains(clip: Path, speech: Tensor) -> None:
    original = speech[:, 12000:36000]
    found = tts_infer.compare(clip, [copier(f"{gain}", original, gain) for gain in (0.5, 2.0)], runs=1)
    errors = [(one.error_to_input_db, one.error_to_first_db, one.difference_from_first) for one in found.results]
    assert errors[0] == (pytest.approx(6.02, abs=0.01), 0.0, 0.0)
    # four times as loud is 12.04 dB
    assert errors[1] == (pytest.approx(6.02, abs=0.01), pytest.approx(12.04, abs=0.02), pytest.approx(3.0))


def test_of_other_rates_the_first_ones_convention_counts(clip: Path, speech: Tensor) -> None:
    original = speech[:, 12000:36000]
    half = torch.from_numpy(tts_infer.resample(tts_infer.AudioClip(original[0].numpy(), 24000), 12000).samples)[None]
    found = tts_infer.compare(clip, [copier("half", half, 1.0, 12000), copier("whole", original, 2.0)], runs=1)
    assert found.results[1].difference_from_first is None and found.results[1].sample_rate == 24000
    # resampling at the upper edge costs the rest
    assert found.results[1].error_to_first_db == pytest.approx(6.02, abs=0.3)
    assert found.results[0].error_to_input_db == pytest.approx(0.0, abs=1e-3)


def test_audio_of_another_rate_than_the_mel_is_compared(clip: Path, speech: Tensor) -> None:
    """As of vocoders that make more bandwidth than their mels have."""
    one = copier("one", speech[:, 12000:36000], 1.0)

    def upsampled(features: Tensor | None = None, *, audio: Tensor) -> Synthesis:
        made = one.synthesize(audio=audio)
        doubled = tts_infer.resample(tts_infer.AudioClip(made.audio[0].numpy(), 24000), 48000).samples
        return replace(made, audio=torch.from_numpy(doubled)[None], sample_rate=48000)

    found = tts_infer.compare(clip, [one, replace(one, label="two", timed=upsampled)], runs=1)
    assert [(result.sample_rate, result.seconds) for result in found.results] == [(24000, 1.0), (48000, 1.0)]
    for error in (found.results[1].error_to_input_db, found.results[1].error_to_first_db):
        assert error == pytest.approx(0.0, abs=0.3)  # resampling at the upper edge
    assert found.results[1].difference_from_first is None
    assert len(found.sounds[1].at(24000)) == 24000 and len(found.sounds[0].at(48000)) == 48000


def test_what_is_odd_about_the_input_is_noted(tmp_path: Path, echo: Callable[..., System]) -> None:
    clipped = np.sign(np.sin(np.arange(8000) * 0.1)).astype(np.float32)
    tts_infer.write_audio(tmp_path / "a.wav", clipped, 8000)
    found = tts_infer.compare(tmp_path / "a.wav", [echo(8000), echo(16000)], runs=1)
    assert [note.code for note in found.input_notes] == ["clipped-input"]
    assert found.notes[0] == found.input_notes[0].text


def test_a_mel_is_decoded(clip: Path, vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    mel = vocoder.mel(speech[:, 12000:36000])
    np.save("mel.npy", mel[0])
    for source in ("mel.npy", mel, mel[0].numpy()):
        found = tts_infer.compare(source, [vocoder], runs=1)
        assert not found.copied and [row["stage"] for row in found.results[0].stages] == ["backbone", "head", "istft"]
        assert np.array_equal(found.sounds[0].audio, vocoder.decode(mel)[0].numpy())
        expected = tts_infer.log_mel_error_db(mel, vocoder.mel(vocoder.decode(mel)))
        assert found.results[0].error_to_input_db == pytest.approx(expected, abs=1e-5)
    with pytest.raises(tts_infer.InputError, match=r"^input: mel has shape .*expected .*100"):
        tts_infer.compare(torch.zeros(80, 5), [vocoder])
    with pytest.raises(tts_infer.InputError, match="batch of 2"):
        tts_infer.compare(mel.repeat(2, 1, 1), [vocoder])
    with pytest.raises(tts_infer.InputError, match=r"^other: mel has shape .* takes 40 mel bins"):
        tts_infer.compare(mel, [vocoder, system_of(small_vocoder(), "other")])


def test_thirty_seconds_and_no_more(tmp_path: Path, echo: Callable[..., System]) -> None:
    tts_infer.write_audio(tmp_path / "a.wav", np.zeros(31 * 8000, np.float32), 8000)
    found = tts_infer.compare(tmp_path / "a.wav", [echo(8000)], runs=1)
    assert found.shortened and found.results[0].seconds == 30.0
    assert [note.code for note in found.input_notes] == ["first-seconds", "silent-input"]
    assert found.notes[0] == "Only the first 30 s were used."


def test_nothing_to_compare(clip: Path, echo: Callable[..., System]) -> None:
    for systems, runs in (([], 5), ([echo()], 0)):
        with pytest.raises(tts_infer.InputError, match="nothing to compare"):
            tts_infer.compare(clip, systems, runs=runs)


def test_the_peak_is_what_was_allocated() -> None:
    size = 96 << 20

    def allocate() -> float:
        return float(torch.ones(size, dtype=torch.uint8)[::4096].sum())

    for _ in range(2):  # memory of before does not hide it
        result, peak = memory.with_peak(allocate)
        if peak is None:
            pytest.skip(memory.NO_PEAK)
        # Linux adds pages up in batches for each thread, so the counts are some of them off
        assert result == size // 4096 and 0.98 * size <= peak < 1.2 * size
    assert memory.with_peak(lambda: None)[1] < size / 8  # type: ignore[operator]


def test_where_the_peak_is_not_known(clip: Path, echo: Callable[..., System], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PROCESS", Path("nowhere"))
    found = tts_infer.compare(clip, [echo()], runs=1)
    assert found.results[0].peak_bytes is None and found.results[0].cells[4] == "-"
    assert found.notes == [f"Not measured: peak_bytes: {memory.NO_PEAK}."]


FOUR = [word for name in ("onednn", "torch", "vocos", "griffin-lim") for word in ("--engine", name)]


def test_the_command(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*FOUR, "--refine", "0", "--device", "cpu", "--runs", "2"]
    assert main(["compare", str(clip), *arguments, "--output", "made/here", "--report", "r.html"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("clip.wav: 0.99 s, copied, mel included; 2 runs of each, in turns, on ")
    labels = ["onednn refine=0", "torch refine=0", "vocos", "griffin-lim"]
    rows = [next(line for line in said.splitlines() if line.startswith(f"{label}  ")) for label in labels]
    assert rows[0].endswith("0.00   0.0e+00") and float(rows[1].split()[-1]) < 1e-4 < float(rows[3].split()[-1])
    assert "  vocos: mel " in said and "griffin-lim" in said.split("what runs them:")[1]
    files = sorted(path.name for path in Path("made/here").iterdir())
    assert files == [f"{i} {label}.wav" for i, label in enumerate(labels, start=1)]
    samples, rate = soundfile.read(f"made/here/{files[0]}", dtype="int16")
    expected = LOAD(engine="onednn", refine=0)(tts_infer.read_audio(clip, 24000).samples)[0]
    assert rate == 24000 and np.array_equal(samples, tts_infer.to_int16(expected)[0])
    page = Path("r.html").read_text()
    structure = Structure()
    structure.feed(page)
    assert not structure.open and page.count("<audio") == 5 and page.count("<img") == 5  # with the original
    assert all(address.startswith(("data:image/png;", "data:audio/flac;")) for address in structure.addresses)
    assert all(page.count(f"<h3>{label}</h3>") == 1 for label in labels)


def test_json(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(clip), "--engine", "torch", "--device", "cpu", "--runs", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (one,) = document["results"]
    assert (one["label"], document["copied"], document["runs"]) == ("vocos-mini-24khz", True, 1)
    assert set(one["ms"]) == {"median", "low", "high"} and one["stages"][1]["engine"] == "torch"
    assert one["error_to_first_db"] == 0.0 and one["error_to_input_db"] > 0.1


def test_a_mel_has_no_original(vocoder: tts_infer.Vocoder, echo: Callable[..., System]) -> None:
    one_frame = tts_infer.compare(torch.zeros(100, 1), [vocoder], runs=1)
    assert one_frame.results[0].error_to_input_db is None and one_frame.results[0].difference_from_first is None
    page = draw_comparison(one_frame)
    assert page.count("<audio") == 1 and "Original" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.wav"], "no such file: nowhere.wav"),
        (["."], ". is a folder; give a file"),
        (["clip.wav", "--report", "r.pdf"], "extension '.pdf'"),
        (["clip.wav", "--runs", "0"], "nothing to compare"),
        (["clip.wav", "--engine", "nope"], "engine is 'nope'; allowed: auto"),
        (["clip.wav", "--refine", "-1"], "refine is -1"),
        (["clip.wav", "--vocoder", "a", "--vocoder", "b", "--config", "c"], "--config goes with one --vocoder"),
        (["clip.wav", "--device", "cpu", "--runs", "1", "--output", "clip.wav"], "cannot make clip.wav"),
        (["text.wav", "--device", "cpu"], "cannot read text.wav as audio"),
    ],
)
def test_mistakes_are_one_line(
    clip: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("text.wav").write_text("no audio")
    assert main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
