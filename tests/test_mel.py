"""Log-mel spectrograms against librosa's and torchaudio's filterbanks, and against the official extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch

from tts_infer.config import MelConfig, SpectralMethod
from tts_infer.dsp.mel import LogMel, hz_to_mel, mel_filterbank, mel_to_hz
from tts_infer.errors import ConfigError, InputError
from tts_infer.io.audio import read_audio

EXAMPLES = Path(__file__).parent.parent / "examples"
VOCOS = MelConfig()
HIFIGAN = MelConfig(
    sample_rate=22050, n_mels=80, f_max=8000.0, mel_scale="slaney", norm="slaney", power_eps=1e-9, padding="same",
    log_floor=1e-5,
)  # fmt: skip
SIMLI = MelConfig(  # window 50 ms, hop 12.5 ms: neither divides n_fft
    sample_rate=22050, n_fft=2048, hop_length=276, win_length=1102, n_mels=80, f_min=55.0, f_max=7600.0,
    mel_scale="slaney", norm="slaney", power=2,
)  # fmt: skip
CONVENTIONS = {"vocos": VOCOS, "hifigan": HIFIGAN, "simli": SIMLI}


def reference(config: MelConfig, audio: np.ndarray) -> np.ndarray:
    """The formula of MelConfig in float64, with librosa's filterbank."""
    win = config.win_length or config.n_fft
    pad = config.n_fft // 2 if config.padding == "center" else (config.n_fft - config.hop_length) // 2
    extra = (config.n_fft - config.hop_length) % 2 if config.padding == "same" else 0
    padded = np.pad(audio.astype(np.float64), (pad, pad + extra), mode="reflect")
    stft = librosa.stft(padded, n_fft=config.n_fft, hop_length=config.hop_length, win_length=win, center=False)
    filters = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.f_min, fmax=config.f_max,
        htk=config.mel_scale == "htk", norm=config.norm, dtype=np.float64,
    )  # fmt: skip
    mel = filters @ (np.abs(stft) ** 2 + config.power_eps) ** (config.power / 2)
    return np.log(np.maximum(mel, config.log_floor))


@pytest.mark.parametrize("method", ["matmul", "fft"])
@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("clip", sorted(EXAMPLES.glob("*.wav")), ids=lambda p: p.stem)
def test_log_mel_is_its_formula(name: str, method: SpectralMethod, clip: Path) -> None:
    config = CONVENTIONS[name]
    audio = read_audio(clip, config.sample_rate).samples
    mel, expected = LogMel(config, method)(torch.from_numpy(audio)[None])[0].double().numpy(), reference(config, audio)
    assert mel.shape == expected.shape
    magnitude, expected_magnitude = np.exp(mel), np.exp(expected)
    loudest = expected_magnitude.max(axis=0, keepdims=True)
    # float32 transforms err by 1e-6 of the largest bin, and summing a filter adds a few of them
    assert (np.abs(magnitude - expected_magnitude) / loudest).max() <= 1e-5
    # 60 dB below the frame's loudest bin, 1e-6 of that has become 1e-3
    audible = expected_magnitude > loudest * 10 ** (-60 / 20 * config.power)
    assert np.abs(mel - expected)[audible].max() <= 1e-3


@pytest.mark.parametrize("method", ["matmul", "fft"])
@pytest.mark.parametrize("padding", ["center", "same"])
def test_parity_with_the_official_extractor(official: Any, method: SpectralMethod, padding: Any) -> None:
    extractor = official.feature_extractors.MelSpectrogramFeatures(padding=padding)
    audio = torch.from_numpy(read_audio(EXAMPLES / "english.wav", 24000).samples)[None]
    mel, expected = LogMel(MelConfig(padding=padding), method)(audio), extractor(audio)
    assert mel.shape == expected.shape
    loudest = expected.exp().amax(dim=1, keepdim=True)
    assert ((mel.exp() - expected.exp()).abs() / loudest).max() <= 1e-5  # both float32, see above
    assert (mel - expected)[expected.exp() > loudest * 1e-3].abs().max() <= 1e-3


@pytest.mark.parametrize("config", CONVENTIONS.values(), ids=CONVENTIONS)
def test_filterbank_is_librosas(config: MelConfig) -> None:
    expected = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.f_min, fmax=config.f_max,
        htk=config.mel_scale == "htk", norm=config.norm, dtype=np.float64,
    ).T  # fmt: skip
    assert np.allclose(mel_filterbank(config), expected, atol=1e-12)  # the same float64 formula in another order


def test_filters_of_an_htk_bank_cover_the_band() -> None:
    bank = mel_filterbank(MelConfig(n_fft=4096))
    centres = bank.sum(axis=1)[20:-200]
    assert np.allclose(centres, 1.0, atol=1e-9)  # neighbouring triangles add up to one between the outer centres


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_scales_invert(scale: Any) -> None:
    for hz in (0.0, 55.0, 999.0, 1000.0, 7600.0, 12000.0):
        assert float(mel_to_hz(np.array(hz_to_mel(hz, scale)), scale)) == pytest.approx(hz, abs=1e-6)
    assert hz_to_mel(1000.0, "slaney") == pytest.approx(15.0)
    assert hz_to_mel(1000.0, "htk") == pytest.approx(999.99, abs=0.01)  # HTK's scale is normed to about 1000 there


def test_a_tone_lands_in_its_band() -> None:
    tone = torch.sin(2 * torch.pi * 1000 / 24000 * torch.arange(24000, dtype=torch.float64)).float()[None]
    mel = LogMel(VOCOS)(tone)[0, :, 50]
    edges = mel_to_hz(np.linspace(0, hz_to_mel(12000.0, "htk"), 102), "htk")
    assert abs(edges[int(mel.argmax()) + 1] - 1000) < 60  # the band's centre, to half a bandwidth


@pytest.mark.parametrize("samples", [1, 255, 256, 257, 1023, 1024])
def test_short_audio_has_the_frames_it_should(samples: int) -> None:
    audio = torch.full((2, samples), 0.1)
    assert LogMel(VOCOS)(audio).shape == (2, 100, samples // 256 + 1)
    if samples >= 256:
        assert LogMel(HIFIGAN)(audio).shape == (2, 80, samples // 256)
    else:
        with pytest.raises(InputError, match="at least 256 are needed"):
            LogMel(HIFIGAN)(audio)


def test_silence_is_the_log_floor() -> None:
    mel = LogMel(VOCOS)(torch.zeros(1, 4000))
    assert torch.equal(mel, torch.full_like(mel, 1e-7).log())


def test_impossible_bands_are_refused() -> None:
    with pytest.raises(ConfigError, match="must lie within 0 to 12000"):
        MelConfig(f_max=13000.0)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_what_is_traced_holds_for_other_lengths(speech: torch.Tensor) -> None:
    mel = LogMel(VOCOS, "fft")
    traced = torch.jit.trace(mel, speech.repeat(1, 5))  # as long as takes several pieces
    assert torch.allclose(traced(speech), mel(speech), atol=1e-5)  # products of other sizes


def test_filters_without_a_frequency_are_refused() -> None:
    """Every mel would be silence. A single filter may be empty, as in librosa."""
    config = MelConfig(n_fft=64, hop_length=16, n_mels=12, f_max=1.0)
    with pytest.raises(ConfigError, match="the mel filters from 0 to 1 Hz hold no frequency of an FFT of 64"):
        LogMel(config, "fft")
