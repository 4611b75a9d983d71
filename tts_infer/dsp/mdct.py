"""The inverse modified discrete cosine transform by one real matrix product per frame.

With N coefficients X[k] of a frame of 2 N samples and n0 = (N + 1) / 2,

    y[n] = w[n] sqrt(2 / N) sum_k X[k] cos(pi / N (n + n0) (k + 1 / 2)),      w[n] = sin(pi / (2 N) (n + 1 / 2))

The sum has only N different values: those of a DCT-IV, u[m] with m = n + N / 2, because u[2 N - 1 - m] = -u[m] and
u[m + 2 N] = -u[m]. So one symmetric matrix of N x N is enough, and the frame is unfolded from u:

    y = w * (u[N/2 : N], -u reversed, -u[0 : N/2])

The squares of the two windows over a sample add up to 1, so overlapping frames are added and nothing is divided.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.config import Padding
from tts_infer.dsp import register_constant
from tts_infer.dsp.frames import added_blocks, n_samples, overlap_add
from tts_infer.dsp.tiles import is_traced
from tts_infer.errors import ConfigError
from tts_infer.stages import State


def cosine_window(size: int) -> NDArray[np.float64]:
    """Half a period of a sine. Shape: (size,). Source: scipy.signal.windows.cosine."""
    return np.sin(np.pi / size * (np.arange(size) + 0.5))


def dct4_basis(size: int) -> NDArray[np.float64]:
    """The orthonormal, symmetric DCT-IV. Angles are reduced as integers, so none is large. Shape: (N, N)"""
    odd = 2 * np.arange(size) + 1
    turns = np.outer(odd, odd) % (8 * size)  # cos(pi / (4 N) odd odd) has a period of 8 N
    return np.sqrt(2 / size) * np.cos(np.pi / (4 * size) * turns)


class IMDCT(nn.Module):
    """Coefficients to audio. Frame l begins at sample l N of the padded signal.

    Args:
        frame_length: samples of a frame, 2 N; a multiple of 4.
        padding: "center" trims N samples on each side, "same" N / 2.
        clip: limit the audio to -1 to 1.

    Shape: (B, L, N) -> (B, T); T = (L - 1) N for "center" (one frame gives no samples), L N for "same"
    Raises:
        ConfigError: `frame_length` is no positive multiple of 4.
    Source: vocos/spectral_ops.py IMDCT, which computes a complex FFT of twice the size. `clip` limits the audio, where
        vocos/heads.py returns the clipped coefficients by mistake.
    """

    basis: Tensor
    window: Tensor
    overlap = 2  # frames that reach into a hop

    def __init__(self, frame_length: int, padding: Padding = "same", clip: bool = False) -> None:
        super().__init__()
        if frame_length < 4 or frame_length % 4:
            raise ConfigError(
                "mdct_frame_len is {size}; it must be a multiple of 4", code="mdct-frame-len", size=frame_length
            )
        self.hop_length, self.padding, self.clip = frame_length // 2, padding, clip
        register_constant(self, "basis", dct4_basis(self.hop_length))
        register_constant(self, "window", cosine_window(frame_length))

    @property
    def pad(self) -> tuple[int, int]:
        """Samples that are trimmed before and after the signal."""
        one = self.hop_length if self.padding == "center" else self.hop_length // 2
        return one, one

    def n_samples(self, frames: int) -> int:
        """Samples that `frames` give."""
        return n_samples(frames, self.hop_length, self.padding)

    def forward(self, coefficients: Tensor, valid: Tensor | None = None) -> Tensor:
        """Invert whole signals; `valid`, of (B, L, 1), is 0.0 where a frame is padding."""
        if valid is not None:
            coefficients = coefficients * valid
        if is_traced():  # graphs do not write in place
            hops = added_blocks(self._unfolded(coefficients) * self.window, 2 * self.hop_length, self.hop_length)
            hops = hops.clamp(-1.0, 1.0) if self.clip else hops
        else:
            hops, _ = self.advance(coefficients, {}, final=True)
        left = self.pad[0]
        return hops.reshape(hops.shape[0], -1)[:, left : left + self.n_samples(coefficients.shape[1])]

    def advance(self, coefficients: Tensor, state: State, final: bool = False) -> tuple[Tensor, State]:
        """Add the next frames of a signal, and give the hops that no later frame can change.

        Args:
            coefficients: the next frames; possibly none.
            state: what the call before returned; empty before the first frame.
            final: whether these are the last frames. Then all hops that are left are given.

        Returns:
            Hops, and the new state: "frames" so far, and the hop that the next frame still adds to.

        Shape: (B, L, N) -> (B, hops, N)
        """
        batch, frames, _ = coefficients.shape
        hops = coefficients.new_zeros(batch, frames + 1, self.hop_length)
        if "carry" in state:
            hops[:, :1] = state["carry"]
        overlap_add(hops, self._unfolded(coefficients), self.window)
        stop = frames + 1 if final else frames
        after = {"frames": state.get("frames", 0) + frames, "carry": hops[:, stop:].clone()}
        hops = hops[:, :stop]
        return (hops.clamp(-1.0, 1.0) if self.clip else hops), after

    def _unfolded(self, coefficients: Tensor) -> Tensor:
        """Frames without their window. Shape: (B, L, N) -> (B, L, 2 N)"""
        half = self.hop_length // 2
        u = torch.matmul(coefficients, self.basis)
        return torch.cat([u[..., half:], -u.flip(-1), -u[..., :half]], dim=-1)

    def extra_repr(self) -> str:
        return f"{2 * self.hop_length}, padding={self.padding!r}, clip={self.clip}"
