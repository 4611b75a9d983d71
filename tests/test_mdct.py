"""The inverse MDCT: it inverts the textbook's MDCT, on whole signals and in pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal.windows import cosine

import tts_infer
from tts_infer.dsp.mdct import IMDCT, cosine_window, dct4_basis
from tts_infer.stages import State, relative_error


def mdct(audio: np.ndarray, half: int) -> np.ndarray:
    """The MDCT as its definition says it, in float64. Shape: (T,) -> (L, N), L = T / N - 1"""
    n, k = np.arange(2 * half)[:, None], np.arange(half)
    basis = np.sqrt(2 / half) * np.cos(np.pi / half * (n + (half + 1) / 2) * (k + 0.5))
    frames = np.stack([audio[i : i + 2 * half] for i in range(0, len(audio) - half, half)])
    return (frames * cosine(2 * half)) @ basis


def test_window_and_basis() -> None:
    np.testing.assert_allclose(cosine_window(64), cosine(64), atol=1e-15)
    basis = dct4_basis(48)
    np.testing.assert_allclose(basis @ basis, np.eye(48), atol=1e-13)  # float64: it is its own inverse


@pytest.mark.parametrize("frame_length", [4, 64, 1024])
@pytest.mark.parametrize("padding", ["center", "same"])
def test_it_inverts_the_mdct(frame_length: int, padding: str) -> None:
    half = frame_length // 2
    audio = np.random.default_rng(0).standard_normal(9 * half)
    coefficients = torch.from_numpy(mdct(audio, half)).float()[None]
    imdct = IMDCT(frame_length, padding)  # type: ignore[arg-type]
    got = imdct(coefficients)[0].numpy()
    frames, trim = coefficients.shape[1], imdct.pad[0]
    assert len(got) == imdct.n_samples(frames) == (frames - 1 if padding == "center" else frames) * half
    # the first and last half frames are reached by one window only
    inside = slice(half - trim, half - trim + (frames - 1) * half)
    np.testing.assert_allclose(got[inside], audio[half : frames * half], atol=1e-5 * np.abs(audio).max())  # float32


def test_pieces_join_and_padding_is_silent() -> None:
    imdct, coefficients = IMDCT(64, "same"), torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(0))
    whole, hops = imdct(coefficients), []
    state: State = {}
    for i, piece in enumerate(coefficients.split([1, 0, 5, 6], dim=1)):
        hop, state = imdct.advance(piece, state, final=i == 3)
        hops.append(hop)
    left = imdct.pad[0]
    joined = torch.cat(hops, dim=1).flatten(1)[:, left : left + whole.shape[1]]
    assert relative_error(joined, whole) <= 1e-6  # the same sums
    valid = torch.ones(2, 12, 1)
    valid[1, 7:] = 0
    ragged = imdct(coefficients, valid)
    assert relative_error(ragged[1, : 7 * 32], imdct(coefficients[1:, :7])[0]) <= 1e-6  # the same sums
    assert not ragged[1, 8 * 32 :].any()


def test_clipping_limits_the_audio() -> None:
    coefficients = 3 * torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0))
    plain, clipped = IMDCT(64)(coefficients), IMDCT(64, clip=True)(coefficients)
    assert plain.abs().max() > 1.5
    assert torch.equal(clipped, plain.clamp(-1, 1))


@pytest.mark.parametrize("size", [0, 2, 6, -4, 1023])
def test_sizes_that_have_no_quarters_are_refused(size: int) -> None:
    with pytest.raises(tts_infer.ConfigError, match=f"mdct_frame_len is {size}; it must be a multiple of 4"):
        IMDCT(size)
