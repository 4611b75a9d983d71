"""Measures of closeness, on differences that are known."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tts_infer import InputError, MelConfig, MissingPackageError, log_mel_error_db, resample
from tts_infer.evaluation import metrics
from tts_infer.io.audio import AudioClip

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def clip(speech: torch.Tensor) -> Samples:
    """At 24 kHz."""
    return speech[0].numpy()


@pytest.fixture(scope="module")
def clip_16k(clip: Samples) -> Samples:
    return resample(AudioClip(clip, 24000), 16000).samples


def noise(samples: int, seed: int = 0, level: float = 0.1) -> Samples:
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def test_known_differences() -> None:
    mel = torch.randn(1, 100, 9, generator=torch.Generator().manual_seed(0))
    assert log_mel_error_db(mel, mel) == 0.0
    # half the magnitude is 6.02 dB less; half the power 3.01 dB
    assert log_mel_error_db(mel, mel - torch.log(torch.tensor(2.0))) == pytest.approx(6.0206, abs=1e-3)
    power = MelConfig(power=2)
    assert log_mel_error_db(mel, mel - torch.log(torch.tensor(2.0)), power) == pytest.approx(3.0103, abs=1e-3)
    assert log_mel_error_db(mel, mel[..., :5]) == 0.0


def test_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match=r"shape \(1, 100, 9\) and \(1, 80, 9\)"):
        log_mel_error_db(torch.zeros(1, 100, 9), torch.zeros(1, 80, 9))
    with pytest.raises(InputError, match="cannot compare"):
        log_mel_error_db(torch.zeros(1, 100, 9), torch.zeros(1, 100, 0))


def test_a_copy_that_is_the_original(clip: Samples, clip_16k: Samples) -> None:
    assert metrics.mr_stft_db(clip, clip) == 0.0
    assert metrics.short_stft_db(clip, clip, 24000) == 0.0
    assert metrics.mel_cepstral_distortion_db(clip_16k, clip_16k) == 0.0
    assert metrics.pulse_ratio(clip, clip, 24000) == 1.0
    assert metrics.level_difference_db(clip, clip) == 0.0
    assert metrics.pesq_wb(clip_16k, clip_16k) == pytest.approx(4.644, abs=1e-3)  # the scale's end
    assert metrics.stoi(clip_16k, clip_16k) == pytest.approx(1.0, abs=1e-6)


def test_twice_the_amplitude() -> None:
    quiet = noise(24000)  # white, so that no bin is at the floor
    loud = 2 * quiet
    gain = 20 * math.log10(2)
    assert metrics.level_difference_db(quiet, loud) == pytest.approx(gain, abs=1e-5)
    assert metrics.level_difference_db(loud, quiet) == pytest.approx(-gain, abs=1e-5)
    assert metrics.mr_stft_db(quiet, loud) == pytest.approx(gain, abs=0.01)
    assert metrics.short_stft_db(quiet, loud, 24000) == pytest.approx(gain, abs=0.01)
    assert metrics.pulse_ratio(quiet, loud, 24000) == pytest.approx(1.0, abs=1e-3)
    assert metrics.mel_cepstral_distortion_db(quiet, loud) == pytest.approx(0.0, abs=1e-4)  # c0 alone has changed


def test_what_is_below_the_floor_does_not_count() -> None:
    assert metrics.mr_stft_db(noise(24000, 0, 1e-7), noise(24000, 1, 1e-6)) == 0.0


def test_cepstral_distortion_of_a_known_ripple(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cosine of amplitude a over the bands, of whatever quefrency up to 13, has a root mean square of a / sqrt(2)."""
    bands = (np.arange(80) + 0.5) / 80
    for quefrency, counted in ((1, 1), (13, 1), (14, 0), (0, 0)):
        ripple = 0.3 * np.cos(np.pi * quefrency * bands)

        def log_mel(pair: torch.Tensor, ripple: NDArray[np.float64] = ripple) -> torch.Tensor:
            flat = torch.zeros(80, 5)
            return torch.stack([flat, flat + torch.from_numpy(ripple)[:, None]])

        monkeypatch.setattr(metrics, "_cepstral_mel", lambda log_mel=log_mel: log_mel)
        expected = counted * 0.3 / math.sqrt(2) * 20 / math.log(10)
        found = metrics.mel_cepstral_distortion_db(noise(100), noise(100))
        assert found == pytest.approx(expected, abs=1e-6), quefrency


def test_short_windows_see_where_in_a_period_the_energy_is() -> None:
    """One pulse per 10 ms against the same magnitudes with phases that spread each pulse over its period."""
    pulses = np.zeros(24000, np.float32)
    pulses[::240] = 1.0
    spectrum = np.fft.rfft(pulses)
    turned = spectrum * np.exp(-1e-5j * np.pi * np.arange(len(spectrum)) ** 2)
    smeared = np.fft.irfft(turned, 24000).astype(np.float32)
    assert np.allclose(np.abs(np.fft.rfft(smeared)), np.abs(spectrum), atol=1e-2)
    assert metrics.pulse_ratio(pulses, smeared, 24000) < 0.6
    assert metrics.pulse_ratio(smeared, pulses, 24000) > 1.6
    assert metrics.short_stft_db(pulses, smeared, 24000) > metrics.mr_stft_db(pulses, smeared)


def test_noise_harms(clip: Samples, clip_16k: Samples) -> None:
    """The perceptual measures fall with added noise, and in this order."""
    little, much = (clip_16k + noise(len(clip_16k), level=level) for level in (0.003, 0.03))
    assert 4.6 > metrics.pesq_wb(clip_16k, little) > metrics.pesq_wb(clip_16k, much) > 1.0
    assert 1.0 > metrics.stoi(clip_16k, little) > metrics.stoi(clip_16k, much) > 0.0
    distortions = [metrics.mel_cepstral_distortion_db(clip_16k, other) for other in (little, much)]
    assert 0 < distortions[0] < distortions[1]


@pytest.mark.parametrize("samples", [0, 1, 100, 2047])
def test_what_is_too_short_is_not_a_number(samples: int) -> None:
    short = noise(samples)
    assert math.isnan(metrics.mr_stft_db(short, short))
    assert math.isnan(metrics.short_stft_db(short, short, 24000))
    assert math.isnan(metrics.pesq_wb(short, short))
    assert math.isnan(metrics.stoi(short, short))
    assert math.isnan(metrics.pulse_ratio(short[:479], short[:479], 24000))
    assert samples or math.isnan(metrics.level_difference_db(short, short))
    assert samples or math.isnan(metrics.mel_cepstral_distortion_db(short, short))


def test_the_longest_window_is_of_2048_samples() -> None:
    assert metrics.mr_stft_db(noise(2048), 2 * noise(2048)) == pytest.approx(6.0206, abs=0.05)
    assert metrics.short_stft_db(noise(2048), 2 * noise(2048), 24000) == pytest.approx(6.0206, abs=0.05)


def test_silence_is_not_a_number() -> None:
    silence, tone = np.zeros(24000, np.float32), noise(24000)
    for pair in ((silence, silence), (silence, tone), (tone, silence)):
        assert math.isnan(metrics.level_difference_db(*pair))
        assert math.isnan(metrics.pesq_wb(*pair))
    assert math.isnan(metrics.stoi(silence, tone))
    assert math.isnan(metrics.pulse_ratio(silence, tone, 24000))
    assert math.isnan(metrics.pulse_ratio(tone, tone, 8000))  # the band ends at half that rate
    assert metrics.mr_stft_db(silence, silence) == 0.0


def test_half_a_second_of_speech_is_too_little_for_stoi() -> None:
    """30 frames of 25.6 ms are needed; the package warns and returns 1e-5 instead of a figure."""
    assert math.isnan(metrics.stoi(noise(4900), noise(4900)))


@pytest.mark.parametrize(
    ("package", "run"),
    [
        ("pesq", lambda x: metrics.pesq_wb(x, x)),
        ("pystoi", lambda x: metrics.stoi(x, x)),
        ("scipy.signal", lambda x: metrics.pulse_ratio(x, x, 24000)),
    ],
)
def test_a_missing_package(package: str, run: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=r"needs \w+ .*; pip install 'tts-infer\[evaluate\]'"):
        run(noise(24000))  # type: ignore[operator]
