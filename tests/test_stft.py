"""STFT and ISTFT against float64, against torch, and against physics."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tts_infer.config import MelConfig, Padding, SpectralMethod
from tts_infer.dsp.frames import frame, overlap_add, reflect_pad
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mel import LogMel
from tts_infer.dsp.stft import STFT
from tts_infer.errors import ConfigError, InputError

METHODS = get_args(SpectralMethod)
PADDINGS = get_args(Padding)
# n_fft, hop_length, win_length: Vocos, HiFi-GAN at 44.1 kHz, hop of half a window, short window, hop that does not
# divide n_fft, tiny
SIZES = [(1024, 256, 1024), (2048, 512, 2048), (2048, 1024, 2048), (1024, 256, 800), (1000, 300, 1000), (8, 2, 6)]


def spectrum(batch: int, n_fft: int, frames: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(frames)
    real, imag = torch.randn(2, batch, n_fft // 2 + 1, frames, generator=generator)
    return real, imag


def istft_float64(real: Tensor, imag: Tensor, istft: ISTFT) -> Tensor:
    """The formula of spectral.py, term by term, in float64."""
    n_fft, hop = istft.n_fft, istft.hop_length
    bins = torch.complex(real.double(), imag.double()).transpose(1, 2)
    frames = torch.fft.irfft(bins, n_fft, dim=-1) * istft.window.double()
    length = frames.shape[1]
    audio = torch.zeros(real.shape[0], (length - 1) * hop + n_fft, dtype=torch.float64)
    envelope = torch.zeros(audio.shape[1], dtype=torch.float64)
    for i in range(length):
        audio[:, i * hop : i * hop + n_fft] += frames[:, i]
        envelope[i * hop : i * hop + n_fft] += istft.window.double().square()
    left, samples = istft.pad[0], istft.n_samples(length)
    return audio[:, left : left + samples] / envelope[left : left + samples]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("frames", [2, 3, 10, 94])
def test_istft_is_torch_istft(method: SpectralMethod, frames: int) -> None:
    real, imag = spectrum(3, 1024, frames)
    expected = torch.istft(
        torch.complex(real.double(), imag.double()), 1024, 256, window=torch.hann_window(1024, dtype=torch.float64)
    )
    audio = ISTFT(1024, 256, method=method)(real, imag)
    assert audio.shape == expected.shape
    # float32 sums of 1026 products; torch.istft in float32 is off by 2e-7 of the peak
    assert (audio - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 11])
def test_istft_is_its_formula(
    method: SpectralMethod, padding: Padding, sizes: tuple[int, int, int], frames: int
) -> None:
    istft = ISTFT(*sizes, padding=padding, method=method)
    real, imag = spectrum(2, sizes[0], frames)
    audio, expected = istft(real, imag), istft_float64(real, imag, istft)
    assert audio.shape == expected.shape == (2, istft.n_samples(frames))
    if expected.numel():
        # float32 against float64: the error of a sum grows with its number of terms, n_fft + 2
        assert (audio - expected).abs().max() <= 1e-6 * max(1, sizes[0] / 1024) * expected.abs().max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("block", [1, 2, 6, 21])
def test_blocks_do_not_show(
    method: SpectralMethod, sizes: tuple[int, int, int], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    istft, (real, imag) = ISTFT(*sizes, method=method), spectrum(2, sizes[0], 11)
    lengths = torch.tensor([[7], [11]])
    valid = (torch.arange(11) < lengths).float().unsqueeze(2)
    whole = istft(real, imag), istft(real, imag, valid)
    monkeypatch.setattr("tts_infer.dsp.tiles.TILE_FRAMES", block)
    for got, want in zip((istft(real, imag), istft(real, imag, valid)), whole, strict=True):
        if method == "fft":
            assert torch.equal(got, want)
        # products of fewer rows may be summed in another order
        assert (got - want).abs().max() <= 1e-6 * max(1, sizes[0] / 1024) * want.abs().max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", SIZES[:5])
def test_stft_is_torch_stft(method: SpectralMethod, sizes: tuple[int, int, int]) -> None:
    n_fft, hop, win = sizes
    audio = torch.randn(2, 7000, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(win, dtype=torch.float64)
    expected = torch.stft(audio.double(), n_fft, hop, win, window, pad_mode="reflect", return_complex=True)
    stft = STFT(n_fft, hop, win, method=method)
    real, imag = stft(audio)
    assert real.shape == expected.shape and real.shape[-1] == stft.n_frames(7000)
    # float32 sums of n_fft products, against the largest of them
    assert (torch.complex(real.double(), imag.double()) - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("sizes", SIZES)
def test_round_trip(method: SpectralMethod, padding: Padding, sizes: tuple[int, int, int]) -> None:
    n_fft, hop, _ = sizes
    audio = torch.randn(2, 12 * n_fft // hop * hop, generator=torch.Generator().manual_seed(1))
    back = ISTFT(*sizes, padding=padding, method=method)(*STFT(*sizes, padding=padding, method=method)(audio))
    assert back.shape == audio.shape
    # two float32 transforms; where a short window leaves a small envelope, dividing by it raises the error
    assert (back - audio).abs().max() <= 1e-5 * audio.abs().max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_tone_keeps_its_level(method: SpectralMethod, padding: Padding) -> None:
    tone = torch.sin(2 * torch.pi * 1000 / 24000 * torch.arange(24064, dtype=torch.float64)).float()[None]
    back = ISTFT(1024, 256, padding=padding, method=method)(*STFT(1024, 256, padding=padding, method=method)(tone))
    gain_db = 20 * torch.log10(back.square().mean().sqrt() / tone.square().mean().sqrt())
    assert abs(gain_db) < 0.01  # shipped faults were -2.5 dB (envelope of w) and 1.5 times (first item only)


@pytest.mark.parametrize("method", METHODS)
def test_one_bin_is_one_cosine(method: SpectralMethod) -> None:
    real, imag = torch.zeros(1, 513, 12), torch.zeros(1, 513, 12)
    real[:, 32] = 512.0  # half of n_fft: the mirrored bin holds the other half
    audio = ISTFT(1024, 256, padding="same", method=method)(real, imag)
    # 8 periods fit a hop, so all frames agree. Hann windows at a quarter hop sum to 2 and their squares to 1.5, which
    # is the gain of frames that no analysis window has shaped; the first and last windows have fewer neighbours.
    phase = 2 * torch.pi * 32 / 1024 * (torch.arange(12 * 256, dtype=torch.float64) + 384)
    expected = phase.cos() * 2 / 1.5
    assert (audio[0] - expected)[640:-640].abs().max() <= 2e-6  # float32 at an amplitude of 4/3


@pytest.mark.parametrize("method", METHODS)
def test_batch_items_equal_singles(method: SpectralMethod) -> None:
    real, imag = spectrum(4, 1024, 12)
    istft, stft = ISTFT(1024, 256, method=method), STFT(1024, 256, method=method)
    batch = istft(real, imag)
    for i in range(4):
        single = istft(real[i : i + 1], imag[i : i + 1])
        # a matrix product may sum in another order for another number of rows
        assert (batch[i] - single[0]).abs().max() <= 1e-6 * single.abs().max()
    again = stft(batch)[0]
    assert (again[2] - stft(batch[2:3])[0][0]).abs().max() <= 1e-6 * again.abs().max()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("samples", [1, 255, 256, 257, 1023, 1024])
def test_short_audio(padding: Padding, samples: int) -> None:
    stft = STFT(1024, 256, padding=padding)
    audio = torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))
    if padding == "same" and samples < 256:
        with pytest.raises(InputError, match=f"audio has {samples} samples; at least 256"):
            stft(audio)
        return
    real, imag = stft(audio)
    padded = np.pad(audio[0].double().numpy(), stft.pad, mode="reflect")
    frames = [padded[i * 256 : i * 256 + 1024] * stft.window.double().numpy() for i in range(stft.n_frames(samples))]
    expected = torch.from_numpy(np.fft.rfft(np.stack(frames), axis=-1).T)
    assert (torch.complex(real[0].double(), imag[0].double()) - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_no_audio_is_an_error() -> None:
    with pytest.raises(InputError, match="audio has 0 samples"):
        STFT(1024, 256)(torch.zeros(1, 0))


def test_one_frame_centred_is_empty() -> None:
    assert ISTFT(1024, 256)(*spectrum(2, 1024, 1)).shape == (2, 0)


@pytest.mark.parametrize(("samples", "left", "right"), [(1, 3, 2), (2, 5, 0), (3, 7, 9), (10, 4, 9), (10, 25, 31)])
def test_reflect_pad_is_numpy_reflect(samples: int, left: int, right: int) -> None:
    x = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    expected = np.pad(x.numpy(), ((0, 0), (left, right)), mode="reflect")
    assert np.array_equal(reflect_pad(x, left, right).numpy(), expected)


@pytest.mark.parametrize(("n_fft", "hop"), [(8, 2), (8, 3), (8, 8), (6, 4)])
def test_overlap_add_is_the_adjoint_of_frame(n_fft: int, hop: int) -> None:
    x = torch.randn(1, n_fft + 5 * hop, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    frames = frame(x, n_fft, hop)
    assert torch.equal(frames, x.unfold(1, n_fft, hop))
    other = torch.randn(frames.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    window = torch.linspace(1, 2, n_fft, dtype=torch.float64)
    rows = torch.zeros(1, frames.shape[1] + -(-n_fft // hop) - 1, hop, dtype=torch.float64)
    overlap_add(rows, other, window)
    added = rows.reshape(1, -1)[:, : x.shape[1]]
    # <wFx, y> = <x, F'wy> in float64
    assert torch.allclose((frames * window * other).sum(), (x * added).sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("sizes", "padding", "message"),
    [
        ((1024, 1024, 1024), "same", "is zero somewhere"),  # a Hann window begins with 0
        ((1024, 1024, 1024), "center", "is zero somewhere"),
        ((1024, 512, 400), "center", "is zero somewhere"),  # windows do not meet
        ((1023, 256, 1023), "center", "n_fft is 1023; it must be even"),
        ((1024, 256, 1025), "center", "win_length is 1025"),
        ((1024, 0, 1024), "center", "hop_length is 0"),
        ((1024, 2000, 1024), "center", "hop_length is 2000"),
        ((1024, 256, 1024), "valid", "padding is 'valid'; allowed: 'center', 'same'"),
    ],
)
def test_what_cannot_be_inverted_is_refused(sizes: tuple[int, int, int], padding: Padding, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ISTFT(*sizes, padding=padding)
    with pytest.raises(ConfigError, match="method is 'conv'"):
        STFT(8, 2, method="conv")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["matmul", "fft"])
def test_autocast_of_the_caller_changes_nothing(method: SpectralMethod) -> None:
    samples = torch.randn(1, 4000, generator=torch.Generator().manual_seed(3))
    forward, inverse = STFT(512, 128, method=method), ISTFT(512, 128, method=method)
    log_mel = LogMel(MelConfig(n_fft=512, hop_length=128, n_mels=20), method)
    with torch.no_grad():
        plain = *forward(samples), inverse(*forward(samples)), log_mel(samples)
        with torch.autocast("cpu", torch.bfloat16):
            within = *forward(samples), inverse(*forward(samples)), log_mel(samples)
    assert all(map(torch.equal, plain, within))
