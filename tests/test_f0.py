"""The fundamental frequency: of tones that are known, of silence, of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tts_infer

RATE = 24000


@pytest.mark.parametrize("hz", [70.0, 110.0, 220.5, 441.0, 590.0])
def test_a_voice_of_known_pitch(hz: float) -> None:
    t = np.arange(RATE) / RATE
    harmonics = np.arange(1, 8)[:, None]
    voice = 0.2 * (np.sin(2 * np.pi * hz * harmonics * t) / harmonics).sum(axis=0).astype(np.float32)
    f0 = tts_infer.estimate_f0(voice, RATE)
    assert f0.shape == (101,)
    inner = f0[5:-5]  # at the ends, half of a frame is silent
    assert np.isfinite(inner).all()
    np.testing.assert_allclose(inner, hz, rtol=2e-3)  # a parabola through three lags is no finer at 24 kHz


def test_a_gliding_voice_is_followed() -> None:
    hz = np.linspace(100, 300, 2 * RATE)
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    voice = (np.sin(phase) + 0.5 * np.sin(2 * phase)).astype(np.float32)
    f0 = tts_infer.estimate_f0(voice, RATE)[10:-10]
    expected = np.interp(np.arange(10, 191) / 100, np.arange(2 * RATE) / RATE, hz)
    np.testing.assert_allclose(f0, expected, rtol=0.03)  # a frame is up to 33 ms, in which the voice rises 3 Hz


def test_no_voice() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert np.isnan(tts_infer.estimate_f0(noise, RATE)).mean() > 0.95
    assert np.isnan(tts_infer.estimate_f0(np.zeros(RATE, np.float32), RATE)).all()
    assert tts_infer.estimate_f0(np.zeros(0, np.float32), RATE).shape == (1,)


def test_speech_is_voiced_in_part() -> None:
    clip = tts_infer.read_audio(Path(__file__).parent.parent / "examples" / "english.wav", RATE)
    f0 = tts_infer.estimate_f0(clip.samples, RATE)
    voiced = f0[np.isfinite(f0)]
    assert 0.3 < len(voiced) / len(f0) < 0.9
    assert 70 < np.median(voiced) < 250  # of a male voice of espeak-ng


def test_too_low_a_rate_is_refused() -> None:
    with pytest.raises(tts_infer.InputError, match="2000 Hz; a fundamental frequency needs 2400"):
        tts_infer.estimate_f0(np.zeros(100, np.float32), 2000)
