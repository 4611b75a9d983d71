"""Refinement is what its docstring says, reaches the wanted mel, and is the same whole, ragged, streamed and moved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import tts_infer
from tests.helpers import SPLITS, cut, small_vocoder
from tts_infer.config import MelConfig
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mel import LogMel, mel_filterbank
from tts_infer.dsp.refine import Refinement, Spectrum
from tts_infer.dsp.stft import STFT
from tts_infer.dsp.two_bands import TwoBandRefinement
from tts_infer.errors import InputError

PASSES = 4


def made(power: int = 1, method: str = "fft", hop_length: int = 256) -> Refinement:
    mel = MelConfig(power=power, hop_length=hop_length)  # type: ignore[arg-type]
    return Refinement(mel, ISTFT(mel.n_fft, mel.hop_length, method=method))  # type: ignore[arg-type]


def complex_of(spectrum: Spectrum) -> NDArray[np.complex128]:
    return spectrum[0][0].double().numpy() + 1j * spectrum[1][0].double().numpy()


def by_the_formula(
    s: NDArray[np.complex128], log_mel: Tensor, passes: int, begun: int = 0, divisor: int = 1, mels: int = 100
) -> NDArray[np.complex128]:
    """The three steps of each pass, in complex float64 and loops. Shape: (N, L)"""
    n_fft, hop = 1024 // divisor, 256 // divisor
    filters = mel_filterbank(MelConfig())[: n_fft // 2 + 1, :mels]
    total = filters.sum(1, keepdims=True)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    wanted, before = np.exp(log_mel[0, :mels].double().numpy()), None
    for i in range(passes):
        signal, weight = np.zeros((2, n_fft + hop * (s.shape[1] - 1)))
        for start, column in zip(range(0, len(signal), hop), s.T, strict=False):
            signal[start : start + n_fft] += np.fft.irfft(column) * window
            weight[start : start + n_fft] += window**2
        signal /= np.maximum(weight, 1e-11)
        frames = [signal[hop * i : hop * i + n_fft] * window for i in range(s.shape[1])]
        r = np.stack([np.fft.rfft(f) for f in frames], axis=1)
        t = r + min(0.1 + 0.15 * (begun + i), 0.8) * (r - s)
        if before is not None:
            t += 0.9 * (r - before)
        before, size = r, np.abs(r)
        ratio = np.clip(wanted / np.maximum(filters.T @ size, 1e-7), 1 / 20, 20) ** (1.0 if i + 1 == passes else 1.5)
        size *= np.divide(filters @ ratio, total, out=np.ones_like(size), where=total > 0)
        s = size * t / np.abs(t)
    return s


@pytest.mark.parametrize("method", ["matmul", "fft"])
@pytest.mark.parametrize("passes", [1, 2, 7])
def test_a_pass_is_the_formula(vocoder: tts_infer.Vocoder, speech: Tensor, method: str, passes: int) -> None:
    mel = vocoder.mel(speech)[..., 40:70]
    with torch.inference_mode():
        spectrum = vocoder.head(vocoder.backbone(mel))
        real, imag = made(method=method)(spectrum, mel, passes)
    expected = by_the_formula(complex_of(spectrum), mel, passes)
    # float32 sums of 1024 products; bins 60 dB down divide by their own rounding, pass after pass
    assert np.abs(complex_of((real, imag)) - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("method", ["matmul", "fft"])
def test_most_passes_are_over_the_lowest_band(vocoder: tts_infer.Vocoder, speech: Tensor, method: str) -> None:
    """Two of eight over all bins, then six over 1.5 kHz: those of a signal at an eighth of the rate."""
    mel = vocoder.mel(speech)[..., 40:70]
    with torch.inference_mode():
        spectrum = vocoder.head(vocoder.backbone(mel))
        refinement = TwoBandRefinement(MelConfig(), ISTFT(1024, 256, method=method))  # type: ignore[arg-type]
        refined = complex_of(refinement(spectrum, mel, 8))
    band = refinement.band
    assert band is not None and (band.divisor, band.bins, refinement.shares(8)) == (8, 65, (2, 6))
    filters = mel_filterbank(MelConfig())
    assert not filters[: band.edge, band.mels :].any()  # every bin that is taken has all its filters in the band
    assert not filters[band.bins - 1 - 4 :, : band.mels].any()
    expected = by_the_formula(complex_of(spectrum), mel, 2)
    lowest = by_the_formula(expected[: band.bins], mel, 6, 2, band.divisor, band.mels)
    expected[: band.edge] = lowest[: band.edge]
    assert np.abs(refined - expected).max() <= 2e-5 * np.abs(expected).max()  # as above


@pytest.mark.parametrize(
    "mel",
    [
        MelConfig(),
        MelConfig(power=2),
        MelConfig(win_length=512),
        MelConfig(n_fft=2048, win_length=1024),
        MelConfig(f_min=200.0),
        MelConfig(f_max=1200.0),  # all filters lie in the band
        MelConfig(hop_length=320, n_fft=1280, norm="slaney", mel_scale="slaney"),
    ],
)
def test_the_lowest_band_of_a_signal_with_its_own_mel_stays(mel: MelConfig) -> None:
    """But for what peaks above the band add to its last bins."""
    noise = torch.randn(1, 24000, generator=torch.Generator().manual_seed(0))
    spectrum = STFT(mel.n_fft, mel.hop_length, mel.win_length, method="fft")(noise)
    refinement = TwoBandRefinement(mel, ISTFT(mel.n_fft, mel.hop_length, mel.win_length, method="fft"))
    assert refinement.band is not None and 0 < refinement.band.edge < refinement.band.bins
    refined = refinement(spectrum, LogMel(mel)(noise), 6)
    for before, after in zip(spectrum, refined, strict=True):
        assert (after - before).abs().max() <= 1.5e-2 * before.abs().max()  # measured 0.002 to 0.009


@pytest.mark.parametrize(
    "mel",
    [
        MelConfig(n_fft=64, hop_length=16, n_mels=20),  # every bin is near the end of the band
        MelConfig(hop_length=255),  # it cannot be halved
        MelConfig(n_mels=4),  # no filter ends below 3 kHz
        MelConfig(sample_rate=4000, n_fft=64, hop_length=16, n_mels=8),  # half of it would be too low
    ],
)
def test_passes_without_a_lowest_band_are_over_all_bins(mel: MelConfig) -> None:
    istft = ISTFT(mel.n_fft, mel.hop_length, method="fft")
    spectrum = tuple(torch.randn(2, 1, mel.n_fft // 2 + 1, 20, generator=torch.Generator().manual_seed(0)))
    log_mel = torch.zeros(1, mel.n_mels, 20)
    bands, one = TwoBandRefinement(mel, istft), Refinement(mel, istft)
    assert bands.band is None
    given = (spectrum[0], spectrum[1]), log_mel, 3
    for refine, expected in ((bands, one), (bands.whole, one.whole)):
        assert all(map(torch.equal, refine(*given), expected(*given)))


@pytest.mark.parametrize("power", [1, 2])
def test_the_stft_of_a_signal_with_its_own_mel_stays(speech: Tensor, power: int) -> None:
    refinement = made(power)
    spectrum = STFT(1024, 256, method="fft")(speech)
    refined = refinement(spectrum, LogMel(refinement.config)(speech), PASSES)
    for before, after in zip(spectrum, refined, strict=True):  # float32 rounding
        assert (after - before).abs().max() <= 2e-5 * before.abs().max()


@pytest.mark.parametrize("power", [1, 2])
def test_a_wrong_level_is_put_right(speech: Tensor, power: int) -> None:
    """Every ratio is 2, and the last correction is exact: all but DC and Nyquist, which no filter sees, are doubled."""
    refinement = made(power)
    real, imag = STFT(1024, 256, method="fft")(speech)
    refined = refinement((real / 2, imag / 2), LogMel(refinement.config)(speech), 1)
    for before, after in zip((real, imag), refined, strict=True):
        seen = slice(1, -1)
        # where the mel is near its floor, the floor counts instead of the signal
        assert (after - before)[:, seen].abs().max() <= 1e-4 * before.abs().max()


def test_more_passes_come_closer_to_the_mel(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    mel = vocoder.mel(speech)
    errors = [
        tts_infer.log_mel_error_db(mel, vocoder.mel(vocoder.decode(mel, refine=passes))) for passes in (0, 3, 6, 12, 24)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.8 * errors[0]  # measured 0.66 on this synthetic voice, 0.41 on recordings


@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize(("padding", "method"), [("center", "fft"), ("same", "matmul")])
@pytest.mark.parametrize("frames", [61, 1, 2, 10])
def test_streams_equal_the_whole(sizes: list[int], padding: str, method: str, frames: int) -> None:
    vocoder = small_vocoder(padding, method)
    mel = torch.randn(2, 40, frames, generator=torch.Generator().manual_seed(frames))
    whole = vocoder.decode(mel, refine=PASSES)
    stream = vocoder.stream(refine=PASSES)
    joined = torch.cat(list(stream.decode(cut(mel, sizes))), dim=1)
    assert stream.delay_frames == vocoder.stream(refine=0).delay_frames + 3 * PASSES
    assert joined.shape == whole.shape
    if whole.numel():  # as in test_streaming, four times over
        assert (joined - whole).abs().max() <= 2e-5 * whole.abs().max()


def test_audio_comes_as_early_as_it_can(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    stream = vocoder.stream(refine=2)
    mel = vocoder.mel(speech)
    given = sum(stream.push(piece).shape[1] for piece in mel.split(10, dim=2))
    assert given == (mel.shape[2] - stream.delay_frames) * vocoder.hop_length


def test_ragged_batches_and_pieces_equal_single_decodes(
    vocoder: tts_infer.Vocoder, speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    mel = vocoder.mel(speech)
    items = [mel[0, :, :frames] for frames in (1, 2, 3, 40, mel.shape[2])]
    singles = [vocoder.decode(item, refine=PASSES)[0] for item in items]
    for item, single in zip(vocoder.decode(items, refine=PASSES), singles, strict=True):
        assert item.shape == single.shape
        if single.numel():  # the same sums in matrices of other sizes
            assert (item - single).abs().max() <= 1e-5 * single.abs().max()
    monkeypatch.setattr("tts_infer.runtime.pipeline.Pipeline.max_frames", 64)
    in_pieces = vocoder.decode(mel, refine=PASSES)[0]
    assert (in_pieces - singles[-1]).abs().max() <= 1e-5 * singles[-1].abs().max()
    for item, single in zip(vocoder.decode(items[3:], refine=PASSES), singles[3:], strict=True):  # too long for a batch
        assert (item - single).abs().max() <= 1e-5 * single.abs().max()


def test_a_stage_of_its_own(vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    stages = [record["stage"] for record in vocoder.synthesize(audio=speech, refine=1).stages]
    assert stages == ["mel", "backbone", "head", "refine", "istft"]
    assert "refine" not in [record["stage"] for record in vocoder.synthesize(audio=speech, refine=0).stages]


def test_what_cannot_be_refined(vocoder: tts_infer.Vocoder) -> None:
    mel = torch.zeros(1, 100, 5)
    for passes in (-1, 1.5, "2"):
        with pytest.raises(InputError, match=r"refine is .*; allowed: a number of passes, 0 to 1000"):
            vocoder.decode(mel, refine=passes)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="refine is"):
            tts_infer.load_vocoder(device="cpu", refine=passes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\(1024, 256, 1024\), the spectrum's \(2048, 256, 2048\); leave refine at 0"):
        Refinement(MelConfig(), ISTFT(2048, 256))
