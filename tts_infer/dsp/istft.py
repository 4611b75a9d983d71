"""The inverse short-time Fourier transform, normalised by the exact window envelope. `stft.py` has the formulas."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tts_infer.config import Padding, SpectralMethod
from tts_infer.devices import precision
from tts_infer.dsp import register_constant
from tts_infer.dsp.checks import require_spectrum
from tts_infer.dsp.dft import InverseRealDFT, inverse_dft
from tts_infer.dsp.frames import added_blocks, n_samples, overlap_add
from tts_infer.dsp.stft import Spectral
from tts_infer.dsp.tiles import is_traced, tiles
from tts_infer.errors import ConfigError
from tts_infer.stages import State

# Below this the window envelope counts as zero: the threshold of torch.istft.
ENVELOPE_FLOOR = 1e-11


class ISTFT(Spectral):
    """Inverse short-time Fourier transform, normalised by the exact window envelope of its length.

    Args:
        n_fft, hop_length, win_length, padding, method: as for `STFT`.

    Shape:
        real, imag of (B, N, L) -> (B, T);
        T = (L - 1) * hop_length for "center" (one frame gives no samples), L * hop_length for "same".

    Raises:
        ConfigError: at construction, if the window envelope of these sizes is zero somewhere. Then there is no inverse.

    Source: torch.istft for "center"; vocos/spectral_ops.py ISTFT for "same". Both check the envelope at every call,
        which makes the host wait for the device. Here one check at construction is enough, because more frames only
        make the envelope larger.
    """

    envelope: Tensor  # the window envelope of R frames

    def __init__(
        self,
        n_fft: int,
        hop_length: int,
        win_length: int | None = None,
        padding: Padding = "center",
        method: SpectralMethod = "matmul",
    ) -> None:
        super().__init__(n_fft, hop_length, win_length, padding, method)
        self.inverse_dft = InverseRealDFT(n_fft, method)
        register_constant(self, "envelope", self._envelope(self.overlap).numpy())
        self._require_invertible()

    def n_samples(self, frames: int) -> int:
        """Samples that `frames` give."""
        return n_samples(frames, self.hop_length, self.padding)

    @property
    def overlap(self) -> int:
        """R: the number of frames that overlap in each hop."""
        return -(-self.n_fft // self.hop_length)

    def forward(self, real: Tensor, imag: Tensor, valid: Tensor | None = None) -> Tensor:
        """Invert whole signals; with `valid`, of several lengths in one batch.

        Args:
            real, imag: the spectrum.
            valid: 1.0 where a frame belongs to its item, 0.0 where it is padding. Samples that only padding frames
                reach are 0.

        Shape: real, imag of (B, N, L), valid of (B, L, 1) -> (B, T)
        """
        require_spectrum(real, imag, self.n_fft // 2 + 1)
        with precision(real.device):
            hops, left = self.hops(real, imag, valid), self.pad[0]
        return hops.reshape(hops.shape[0], -1)[:, left : left + self.n_samples(real.shape[2])]

    def hops(self, real: Tensor, imag: Tensor, valid: Tensor | None = None) -> Tensor:
        """The signal, cut into hops of hop_length samples, before the padding is trimmed. Frame l begins at hop l.

        Shape: as `forward` -> (B, L + R - 1, hop_length)
        """
        if valid is None and is_traced():
            return self._traced_hops(real, imag)
        return self.advance(real, imag, {}, valid, final=True)[0]

    def advance(
        self, real: Tensor, imag: Tensor, state: State, valid: Tensor | None = None, final: bool = False
    ) -> tuple[Tensor, State]:
        """Add the next frames of a signal, and return the hops that no later frame can change.

        Args:
            real, imag, valid: the next frames, as for `forward`; possibly none.
            state: the state that the last call returned; empty before the first frame.
            final: whether these are the last frames. Then all remaining hops are returned.

        Returns:
            Normalised hops, and the new state: the number of "frames" so far, and what is "carried", see `inverted`.

        Shape: -> (B, hops, hop_length)
        """
        batch, _, length = real.shape
        first, carried, done = state.get("frames", 0), state.get("carried", []), []
        bases, envelope = self.inverse_dft.bases, self.envelope_of(first + length, final)
        for tile in tiles(length, batch, real.device) or [slice(0, 0)]:
            parts = real[..., tile].transpose(1, 2), imag[..., tile].transpose(1, 2)
            marks, ends = [] if valid is None else [valid[:, tile]], final and tile.stop == length
            hops, carried = inverted(*parts, marks, carried, bases, self.window, envelope, first + tile.start, ends)
            done.append(hops)
        return done[0] if len(done) == 1 else torch.cat(done, dim=1), {"frames": first + length, "carried": carried}

    def _traced_hops(self, real: Tensor, imag: Tensor) -> Tensor:
        """Hops of whole signals as a graph that serves every length from 1 frame on. Shape: as `hops`

        It writes nothing in place and asks for no length. The envelope is the convolution of a one for each frame with
        the squared window.
        """
        frames = self.inverse_dft(real.transpose(1, 2), imag.transpose(1, 2))
        hops = added_blocks(frames * self.window, self.n_fft, self.hop_length)
        squares = F.pad(self.window.square(), (0, self.overlap * self.hop_length - self.n_fft))
        kernel = squares.reshape(self.overlap, self.hop_length).flip(0).T.unsqueeze(1)
        ones = torch.ones_like(real[:1, :1])
        envelope = F.conv1d(ones, kernel, padding=self.overlap - 1).transpose(1, 2)
        return hops / envelope.clamp_min(ENVELOPE_FLOOR)

    def envelope_of(self, length: int, final: bool) -> Tensor:
        """The window envelope of a signal of `length` frames, which goes on if it is not `final`.

        All hops in which R frames overlap have the same envelope; only the first and the last R - 1 hops differ. So
        the envelope of R frames contains every hop that the envelope of a longer signal has.

        Shape: (hops, hop_length), for at most R frames
        """
        return self._envelope(length) if final and length < self.overlap else self.envelope

    def _envelope(self, length: int) -> Tensor:
        """Overlap-added squared window of `length` frames. Shape: (L + R - 1, hop_length)"""
        hops = self.window.new_zeros(1, length + self.overlap - 1, self.hop_length)
        overlap_add(hops, self.window.expand(1, length, -1), self.window)
        return hops[0].clamp_min(ENVELOPE_FLOOR)

    def _require_invertible(self) -> None:
        fewest = 2 if self.padding == "center" else 1
        left = self.pad[0]
        kept = self._envelope(fewest).reshape(-1)[left : left + self.n_samples(fewest)]
        if kept.numel() == 0 or kept.min() <= ENVELOPE_FLOOR:
            raise ConfigError(
                "the window envelope of n_fft={n_fft}, hop_length={hop_length}, win_length={win_length}, "
                "padding={padding!r} is zero somewhere, so the STFT cannot be inverted; use a smaller hop_length or a "
                "larger win_length",
                code="stft-not-invertible",
                n_fft=self.n_fft,
                hop_length=self.hop_length,
                win_length=self.win_length,
                padding=self.padding,
            )


def inverted(
    real: Tensor,
    imag: Tensor,
    marks: list[Tensor],
    carried: list[Tensor],
    bases: list[Tensor],
    window: Tensor,
    envelope: Tensor,
    first: int,
    final: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Invert the next frames of a signal, and give the normalised hops that no later frame can change.

    Args:
        real, imag: the spectrum.
        marks: none, or one tensor as `valid` of `ISTFT.forward`.
        carried: what the call before returned; nothing before the first frame.
        bases: see `inverse_dft`.
        envelope: see `ISTFT.envelope_of`.
        first: how many frames came before.
        final: whether these are the last frames.

    Returns:
        The hops, and what is carried: the last R - 1 hops, to which later frames are still added; with marks, their
        envelope, too. Nothing if no frames follow.

    Shape: 2 x (B, L, N), (B, L, 1) -> (B, hops, hop_length)
    """
    batch, length, n_fft, hop_length = real.shape[0], real.shape[1], window.shape[0], envelope.shape[1]
    late = -(-n_fft // hop_length) - 1
    hops = real.new_zeros([batch, length + late, hop_length])
    weights = torch.zeros_like(hops) if len(marks) > 0 else hops
    if len(carried) > 0:
        hops[:, :late] = carried[0]
    if len(carried) > 1:
        weights[:, :late] = carried[1]
    if length > 0:  # torch's FFT refuses empty input
        frames = inverse_dft(real, imag, bases, n_fft)
        if len(marks) > 0:
            frames = frames * marks[0]
            overlap_add(weights, window * marks[0], window)
        overlap_add(hops, frames, window)
    stop = length + late if final else length
    if len(marks) > 0:
        due = hops[:, :stop] / weights[:, :stop].clamp_min(1e-11)  # ENVELOPE_FLOOR
        carried = [hops, weights]
    else:
        due, carried = normalise(hops.narrow(1, 0, stop), envelope, first, final), [hops]
    return due, [] if final else [one.narrow(1, stop, late).clone() for one in carried]


def normalise(hops: Tensor, envelope: Tensor, first: int, final: bool) -> Tensor:
    """Divide hops of a signal by its window envelope, in place.

    Args:
        hops: overlap-added frames.
        envelope: see `ISTFT.envelope_of`. Its middle hop is that of all hops between the edges.
        first: index of the first given hop in the whole signal.
        final: whether the last given hop is that of the signal. Else the closing edge comes after the given hops.

    Shape: (B, hops, hop_length), (R', hop_length) -> (B, hops, hop_length)
    """
    rows, end = envelope.shape[0], first + hops.shape[1]
    edge = rows // 2
    closing = max(rows, end) - edge if final else end  # where the closing edge begins
    opened, closed = min(edge, end), max(closing, first)
    if first < opened:
        hops.narrow(1, 0, opened - first).div_(envelope[first:opened])
    start = max(edge, first)
    if start < closing:
        hops.narrow(1, start - first, closing - start).div_(envelope[edge : rows - edge])
    if closed < end:
        hops.narrow(1, closed - first, end - closed).div_(envelope[rows - (end - closed) :])
    return hops
