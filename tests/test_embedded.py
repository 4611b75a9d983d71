"""What the model card promises of the embedded vocoder, beyond speech: silence, full scale, tones, size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import tts_infer
from tts_infer.vocoders.checkpoint import resolve

RATE = 24000


@pytest.fixture(scope="module")
def vocoder() -> tts_infer.Vocoder:
    """As users load it."""
    return tts_infer.load_vocoder(device="cpu")


def test_refines_by_default(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    mel = vocoder.mel(speech)
    assert vocoder.refine == 16
    assert torch.equal(vocoder.decode(mel), vocoder.decode(mel, refine=16))
    assert vocoder.stream().delay_frames == vocoder.stream(refine=0).delay_frames + 48
    assert tts_infer.load_vocoder(device="cpu", refine=0).refine == 0


def test_small(vocoder: tts_infer.Vocoder) -> None:
    assert sum(parameter.numel() for parameter in vocoder.model.parameters()) <= 4_000_000
    folder = resolve(tts_infer.DEFAULT_VOCODER).weights.parent
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8_000_000


@pytest.mark.parametrize("refine", [0, None])
def test_silence_stays_silent(vocoder: tts_infer.Vocoder, refine: int | None) -> None:
    assert vocoder(torch.zeros(1, RATE), refine=refine).abs().max() < 1e-4  # -80 dBFS


@pytest.mark.parametrize("refine", [0, None])
def test_full_scale_speech_hardly_clips(vocoder: tts_infer.Vocoder, speech: Tensor, refine: int | None) -> None:
    audio = vocoder(speech / speech.abs().max(), refine=refine)
    assert (audio.abs() > 1).float().mean() <= 1e-3


@pytest.mark.parametrize("level_db", [-20, -6, -1])
@pytest.mark.parametrize("bits", [16, 24])
def test_a_tone_keeps_pitch_and_level(vocoder: tts_infer.Vocoder, bits: int, level_db: float) -> None:
    samples = 10 ** (level_db / 20) * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE)
    full = 2 ** (bits - 1) - 1
    tone = torch.from_numpy((np.rint(samples * full) / full).astype(np.float32))  # as a file holds it
    middle = slice(RATE // 4, 7 * RATE // 4)
    copy, original = vocoder(tone)[0, middle], tone[middle]
    assert abs(1200 * math.log2(pitch_hz(copy) / 1000)) < 1  # cents
    assert abs(10 * math.log10(float(copy.square().mean() / original.square().mean()))) < 0.5


def pitch_hz(audio: Tensor) -> float:
    """The strongest frequency: the top of the parabola through the logarithm of a padded, windowed spectrum."""
    size = 2**20
    spectrum = np.log(np.abs(np.fft.rfft(audio.numpy() * np.hanning(len(audio)), size)) + 1e-9)
    top = int(spectrum.argmax())
    left, middle, right = spectrum[top - 1 : top + 2]
    return (top + 0.5 * (left - right) / (left - 2 * middle + right)) * RATE / size
