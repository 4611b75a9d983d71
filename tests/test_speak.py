"""Speech: the voice of hibari through our stages, and what follows it."""

from __future__ import annotations

import json
import shutil
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tts_infer
from tts_infer.diagnose.audit import audit, installed_table, shipped_tables
from tts_infer.engines import unusable_reason
from tts_infer.frontends.hibari import (
    MOST_PHONEMES,
    AcousticStage,
    HarmonicSource,
    SentenceISTFT,
    SentenceISTFTStage,
    SourceStage,
    _phrases,
)
from tts_infer.io.audio import read_audio
from tts_infer.speech import StreamingResampler
from tts_infer.stages import GraphFile, relative_error

hibari = pytest.importorskip("hibari")

TEXT = "Hello there! On the 3rd of March, 1,250 people paid $9.99 each; Dr. Smith didn't. What is a vocoder?"
STORY = "Once upon a time, there was a mel. It had no phase! Who could bring it back? A vocoder could."


@pytest.fixture(scope="module")
def speaker() -> tts_infer.Speaker:
    return tts_infer.load_speaker(device="cpu")


@pytest.mark.parametrize("method", ["fft", "matmul"])
def test_it_is_the_audio_of_the_package(method: str) -> None:
    placed = tts_infer.load_speaker(device="cpu", placement=f"source=cpu/{method},istft=cpu/{method}")
    got = placed.speak(TEXT, seed=3, speed=1.1).audio[0]
    expected = torch.from_numpy(hibari.Hibari()(TEXT, seed=3, speed=1.1))
    assert relative_error(got, expected) <= 1e-4  # the package rounds the phase of its pulses near 2 pi by 2e-7


def test_a_seed_gives_the_same_audio_and_another_seed_does_not(speaker: tts_infer.Speaker) -> None:
    one, same, other = (speaker.speak("Hello.", seed=seed).audio for seed in (5, 5, 6))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_pieces_are_the_whole_and_begin_early(speaker: tts_infer.Speaker) -> None:
    stream = speaker.stream(STORY, seed=1)
    pieces = list(stream)
    whole = speaker.speak(STORY, seed=1)
    assert len(pieces) == 4 and torch.equal(torch.cat(pieces, dim=1), whole.audio)
    assert 0 < stream.first_audio_ms < stream.total_ms
    assert [row["stage"] for row in whole.stages] == ["phonemes", "acoustic", "source", "istft"]
    assert whole.audio.abs().max() < 1 and whole.seconds == pytest.approx(whole.audio.shape[1] / 24000)


@pytest.mark.parametrize("vocoder", [None, "vocos-mini-24khz"])
def test_seams_do_not_click(vocoder: str | None) -> None:
    """A step at a seam is what no smooth signal has there: the difference from the line through both neighbours."""
    speaker = tts_infer.load_speaker(vocoder=vocoder, device="cpu")
    pieces = list(speaker.stream(STORY, seed=1))
    audio, ends = torch.cat(pieces, dim=1)[0], np.cumsum([piece.shape[1] for piece in pieces])[:-1]
    second = audio[2:] - 2 * audio[1:-1] + audio[:-2]
    for end in ends:
        here = second[end - 2 : end + 1].abs().max()
        around = second[end - 300 : end + 300].abs().max()
        # -60 dBFS where the sentences are joined; with a vocoder, pieces end within words, where speech itself moves
        assert here <= (1e-3 if vocoder is None else max(1e-3, float(around)))


def test_a_vocoder_decodes_the_mel_of_the_voice(speaker: tts_infer.Speaker) -> None:
    vocoder = tts_infer.load_vocoder(device="cpu", refine=0)
    through = tts_infer.load_speaker(vocoder=vocoder, device="cpu").speak(STORY, seed=1)
    own = speaker.speak(STORY, seed=1)
    assert relative_error(through.audio, vocoder(own.audio)) <= 1e-5  # pieces: products summed in another order
    assert [row["stage"] for row in through.stages][4:] == ["mel", "backbone", "head", "istft"]
    assert (own.vocoder, through.vocoder) == (None, "vocos-mini-24khz")


def test_pieces_are_resampled_as_the_whole() -> None:
    audio = torch.randn(1, 30000, generator=torch.Generator().manual_seed(0))
    stream = StreamingResampler(24000, 22050)
    got = torch.cat([*(stream.push(piece) for piece in audio.split(7000, dim=1)), stream.flush()], dim=1)
    whole = tts_infer.resample(tts_infer.AudioClip(audio[0].numpy(), 24000), 22050).samples
    assert relative_error(got[0], torch.from_numpy(whole)) <= 1e-5
    assert [row["stage"] for row in stream.stages] == ["resample"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "text-empty"),
        (" \n", "text-empty"),
        ("😀", "text-mute"),
        ("你好世界", "text-mute"),
        ("\ud800", "text-mute"),
    ],
)
def test_what_cannot_be_said_is_one_clear_line(speaker: tts_infer.Speaker, text: str, code: str) -> None:
    with pytest.raises(tts_infer.InputError) as caught:
        speaker.speak(text)
    assert caught.value.code == code and "\n" not in str(caught.value)


def test_what_is_left_out_is_said(speaker: tts_infer.Speaker) -> None:
    with pytest.warns(tts_infer.TextLeftOutWarning, match="你好, 😀, नमस"):
        made = speaker.speak("Hello你好 😀 there. नमस $5, Привет!")
    assert made.left_out[:2] == ("你好", "😀") and made.seconds > 1


@pytest.mark.parametrize(
    "text", ["pneumono" * 20, "1234567890" * 30, "A [b](/c/) {d} \\ \x00 _e_", "xqzvk brfl", "cafe\u0301", "..."]
)
def test_odd_texts_are_spoken(speaker: tts_infer.Speaker, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert speaker.speak(text).seconds > 0.2


def test_long_words_and_numbers_are_not_cut(speaker: tts_infer.Speaker) -> None:
    """The package reads the first 24 letters of an unknown word, and fails on a long number."""
    one, ten = (speaker.speak("blorptastic" * n).seconds for n in (1, 10))
    assert ten > 4 * one
    assert speaker.speak("7" * 400).seconds > 60


def test_a_part_is_bounded(speaker: tts_infer.Speaker) -> None:
    """10,000 characters in one sentence: no piece is longer than its phonemes allow, and no word is lost."""
    sentence = "word " * 2000
    pieces = [piece.shape[1] / 24000 for piece in speaker.stream(sentence[:2000])]
    assert len(pieces) > 3 and max(pieces) < 40
    phonemes = "wˈɜɹd " * 1999 + "wˈɜɹd"
    phrases = list(_phrases(phonemes))
    assert " ".join(phrases) == phonemes and max(map(len, phrases)) <= MOST_PHONEMES
    assert "".join(_phrases("a" * 1000)) == "a" * 1000


@pytest.mark.parametrize(("given", "code"), [({"speed": 0.2}, "speed-range"), ({"seed": -1}, "seed-range")])
def test_ranges(speaker: tts_infer.Speaker, given: dict[str, float], code: str) -> None:
    with pytest.raises(tts_infer.InputError) as caught:
        speaker.stream("Hi.", **given)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_speed(speaker: tts_infer.Speaker) -> None:
    slow, fast = (speaker.speak(STORY, speed=speed).seconds for speed in (0.5, 2.0))
    assert 3 < slow / fast < 5


def test_a_voice_that_is_not_there_says_its_size_and_licence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HIBARI_HOME", str(tmp_path))
    with pytest.raises(tts_infer.VoiceNotFoundError, match=r"'emma' must be downloaded first \(7.9 MB, Apache-2.0\)"):
        tts_infer.load_speaker("emma")
    with pytest.raises(tts_infer.VoiceNotFoundError, match="'bob' is unknown; allowed: heart, emma"):
        tts_infer.load_speaker("bob")
    # a file in its place is used, with the pronunciation of the voice
    shutil.copy(Path(hibari.__file__).parent / "assets" / "hibari.onnx", tmp_path / "bf_emma.int8.onnx")
    british = tts_infer.load_speaker("hibari/emma", device="cpu").speak("A tomato in the bath.", seed=0)
    assert (
        relative_error(british.audio[0], torch.from_numpy(hibari.Hibari("emma")("A tomato in the bath.", seed=0)))
        <= 1e-4
    )


def test_the_voices_are_those_of_the_package() -> None:
    from hibari.voices import VOICES

    ours = {voice["name"]: voice for voice in tts_infer.list_voices() if voice["front_end"] == "hibari"}
    assert list(ours) == list(VOICES)
    for name, about in VOICES.items():
        size = 0 if about["bundled"] else round(about["bytes"] / 1e6, 1)
        assert (ours[name]["language"], ours[name]["download_mb"]) == (about["language"], size)


def test_a_graph_runs_where_its_engine_runs(speaker: tts_infer.Speaker) -> None:
    acoustic = AcousticStage("acoustic", GraphFile(Path("x.onnx")), (), ())
    assert unusable_reason("torch", acoustic, torch.device("cpu"), "float32") == "acoustic is run by onnxruntime only"
    assert "ONNX Runtime computes on the CPU" in str(
        unusable_reason("onnxruntime", acoustic, torch.device("meta"), "float32")
    )
    assert str(speaker.placement).startswith("acoustic=cpu/onnxruntime,source=cpu")
    with pytest.raises(tts_infer.PlacementError, match="'acoustic' is 'torch', but acoustic is run by"):
        tts_infer.load_speaker(placement="acoustic=cpu/torch")


@pytest.mark.parametrize("method", ["matmul", "fft"])
def test_the_stages_run_on_apple_gpus(method: str) -> None:
    """By real products, on every release that we have a table of; FFTs only where there are some."""

    def run(audio: torch.Tensor, around: object) -> None:
        values = source.probe()
        with around("source"):  # type: ignore[operator]
            spectrum, _ = source(values)
        with around("istft"):  # type: ignore[operator]
            istft(spectrum)

    source = SourceStage.of(HarmonicSource("matmul")).by(method)
    istft = SentenceISTFTStage.of(SentenceISTFT(1200, 300)).by(method)
    assert isinstance(istft.module, SentenceISTFT)
    rows = audit({method: partial(run)}, torch.zeros(1, 1), [*shipped_tables().values(), installed_table()])
    assert {row.stage for row in rows} == {"source", "istft"}
    assert [row for row in rows if not row.clean] == [] if method == "matmul" else any(row.complex for row in rows)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_files_say_that_the_voice_is_synthetic(speaker: tts_infer.Speaker, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"speech{suffix}"
    report = speaker.save(STORY, path, seed=1)
    with soundfile.SoundFile(path) as file:
        said = file.copy_metadata()
        assert file.frames == round(report.seconds * 24000) and file.subtype == "PCM_16"
    assert said["artist"] == "hibari/heart (synthetic voice)" and said["software"].startswith("tts-infer")
    assert said["comment"] == "Synthetic speech. Voice: hibari/heart. Vocoder: the voice's own stages."
    expected = tts_infer.to_int16(speaker.speak(STORY, seed=1).audio[0])[0]
    assert np.array_equal((read_audio(path).samples * 32768).round(), expected)
    assert report.clipped_samples == 0


def test_one_line_api() -> None:
    made = tts_infer.speak("Hello.", voice="heart", seed=1, device="cpu")
    pieces = tts_infer.speak_stream("Hello.", seed=1, device="cpu")
    assert torch.equal(torch.cat(list(pieces), dim=1), made.audio)
    assert json.dumps(made.stages)
