"""What makes copies: vocoders at several settings, the baseline, and files of any rate and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import tts_infer
from tts_infer.evaluation.systems import System, copy_file, systems_of


def test_the_copy_is_that_of_the_vocoder(vocoder: tts_infer.Vocoder, tmp_path: Path, speech: torch.Tensor) -> None:
    speech = speech[:, 12000:36000]
    tts_infer.write_audio(tmp_path / "a.wav", speech[0], 24000, "float32")
    ours, baseline = systems_of([vocoder])[0]
    made = list(copy_file(tmp_path / "a.wav", [ours, baseline]))
    assert [copy.system.label for copy in made] == ["vocos-mini-24khz", "griffin-lim"]
    assert np.array_equal(made[0].original, speech[0].numpy()) and not made[0].shortened
    assert np.array_equal(made[0].samples, vocoder(speech)[0].numpy())
    assert made[0].mels is not None and torch.equal(made[0].mels[0], vocoder.mel(speech))
    assert torch.equal(made[0].mels[1], vocoder.mel(made[0].samples))
    assert made[1].mels is not None and torch.allclose(made[1].mels[0], made[0].mels[0], atol=1e-2)
    assert len(made[1].samples) == len(made[0].samples) and made[0].decode_s > 0


def test_each_has_the_original_at_its_own_rate(tmp_path: Path, echo: Callable[..., System]) -> None:
    samples = 0.1 * np.sin(np.arange(32000) * 0.1, dtype=np.float32)
    tts_infer.write_audio(tmp_path / "a.wav", samples, 32000, "float32")
    first, second = copy_file(tmp_path / "a.wav", [echo(16000), echo(32000)])
    assert np.array_equal(second.original, samples)
    clip = tts_infer.AudioClip(samples, 32000)
    assert np.allclose(first.original, tts_infer.resample(clip, 16000).samples, atol=1e-6)


def test_thirty_seconds_and_no_more(tmp_path: Path, echo: Callable[..., System]) -> None:
    for seconds, shortened in ((30.0, False), (30.001, True), (61.0, True)):
        tts_infer.write_audio(tmp_path / "a.wav", np.zeros(round(8000 * seconds), np.float32), 8000)
        (copy,) = copy_file(tmp_path / "a.wav", [echo(16000)])
        assert (len(copy.original), copy.shortened) == (480000, shortened), seconds


def test_labels_and_conventions(vocoder: tts_infer.Vocoder, echo: Callable[..., System]) -> None:
    other = echo(16000, vocoder.name)
    found, missing = systems_of([vocoder, vocoder, other])
    name = vocoder.name
    assert [one.label for one in found] == [
        name,
        f"{name} (2)",
        f"{name} (3)",
        f"griffin-lim for {name}",
        f"griffin-lim for {name} (2)",
    ]
    assert not missing and found[4].config == other.config
    assert [one.label for one in systems_of([vocoder], baseline=False)[0]] == [name]


def test_a_refinement_that_there_is_not(vocoder: tts_infer.Vocoder) -> None:
    with pytest.raises(tts_infer.InputError, match="refine is -1"):
        systems_of([vocoder], [None, -1])


def test_one_frame_gives_an_empty_copy(vocoder: tts_infer.Vocoder, tmp_path: Path) -> None:
    tts_infer.write_audio(tmp_path / "a.wav", np.ones(100, np.float32) * 0.1, 24000)
    for copy in copy_file(tmp_path / "a.wav", systems_of([vocoder])[0]):
        assert len(copy.samples) == 0 and copy.mels is None
