"""The inverse short-time Fourier transform, normalised by the exact window envelope. `stft.py` has the formulas."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tts_infer.config import Padding, SpectralMethod
from tts_infer.dsp import register_constant
from tts_infer.dsp.checks import require_spectrum
from tts_infer.dsp.dft import InverseRealDFT
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
        hops, left = self.hops(real, imag, valid), self.pad[0]
        return hops.reshape(hops.shape[0], -1)[:, left : left + self.n_samples(real.shape[2])]

    def hops(self, real: Tensor, imag: Tensor, valid: Tensor | None = None) -> Tensor:
        """The signal, cut into hops of hop_length samples, before the padding is trimmed. Frame l begins at hop l.

        Shape: as `forward` -> (B, L + R - 1, hop_length)
        """
        if valid is None and is_traced():
            return self._traced_hops(real, imag)
        hops = self._overlap_added(real, imag, valid)
        if valid is None:
            return self.normalise(hops, 0, real.shape[2])
        hops /= self._added(self.window * valid).clamp_min(ENVELOPE_FLOOR)
        return hops

    def advance(
        self, real: Tensor, imag: Tensor, state: State, valid: Tensor | None = None, final: bool = False
    ) -> tuple[Tensor, State]:
        """Add the next frames of a signal, and return the hops that no later frame can change.

        Args:
            real, imag, valid: the next frames, as for `forward`; possibly none.
            state: the state that the last call returned; empty before the first frame.
            final: whether these are the last frames. Then all remaining hops are returned.

        Returns:
            Normalised hops, and the new state: the number of "frames" so far, and as "carry" the last R - 1 hops, to
            which later frames are still added.

        Shape: -> (B, hops, hop_length)
        """
        frames, first = real.shape[2], state.get("frames", 0)
        hops = self._overlap_added(real, imag, valid, state.get("carry"))
        stop = hops.shape[1] if final else frames
        after = {"frames": first + frames, "carry": hops[:, stop:].clone()}
        # if the signal goes on, its length is unknown; any length works whose closing edge comes after these hops
        length = first + frames + (0 if final else self.overlap)
        hops = hops[:, :stop]
        if valid is None:
            return self.normalise(hops, first, length), after
        envelope = self._added(self.window * valid, state.get("envelope"))
        after["envelope"] = envelope[:, stop:].clone()
        hops /= envelope[:, :stop].clamp_min(ENVELOPE_FLOOR)
        return hops, after

    def _overlap_added(self, real: Tensor, imag: Tensor, valid: Tensor | None, carry: Tensor | None = None) -> Tensor:
        """Overlap-added frames, not yet normalised. Shape: as `hops`, L >= 0, carry of (B, R - 1, hop_length)"""
        batch, _, length = real.shape
        hops = real.new_zeros(batch, length + self.overlap - 1, self.hop_length)
        if carry is not None:
            hops[:, : carry.shape[1]] = carry
        if length == 0:  # torch's FFT refuses empty input
            return hops
        cut = tiles(length, batch, real.device)
        for tile in cut:
            frames = self.inverse_dft(real[..., tile].transpose(1, 2), imag[..., tile].transpose(1, 2))
            if valid is not None:
                frames.mul_(valid[:, tile])
            # ONNX and OpenVINO traces drop in-place writes to nested views, so a single tile is written to directly
            part = hops if len(cut) == 1 else hops[:, tile.start : tile.stop + self.overlap - 1]
            overlap_add(part, frames, self.window)
        return hops

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

    def _added(self, frames: Tensor, carry: Tensor | None = None) -> Tensor:
        """Overlap-add of frames. Shape: (B, L, n_fft) -> (B, L + R - 1, hop_length)"""
        hops = frames.new_zeros(frames.shape[0], frames.shape[1] + self.overlap - 1, self.hop_length)
        if carry is not None:
            hops[:, : carry.shape[1]] = carry
        overlap_add(hops, frames, self.window)
        return hops

    def normalise(self, hops: Tensor, first: int, length: int) -> Tensor:
        """Divide hops of a signal by its window envelope, in place.

        All hops in which R frames overlap have the same envelope; only the first and the last R - 1 hops differ. So
        the envelope of R frames contains every hop that the envelope of a longer signal has.

        Args:
            hops: overlap-added frames.
            first: index of the first given hop in the whole signal.
            length: number of frames of the whole signal.

        Shape: (B, hops, hop_length) -> the same
        """
        envelope = self.envelope if length >= self.overlap else self._envelope(length)
        edge = envelope.shape[0] // 2
        closing = length + self.overlap - 1 - edge
        parts = (
            (0, edge, envelope[:edge]),
            (edge, closing, envelope[edge : envelope.shape[0] - edge]),
            (closing, closing + edge, envelope[envelope.shape[0] - edge :]),
        )
        for begin, end, part in parts:
            start, stop = max(begin, first), min(end, first + hops.shape[1])
            if start < stop:
                divisor = part if part.shape[0] == 1 else part[start - begin : stop - begin]
                hops[:, start - first : stop - first] /= divisor
        return hops

    def _envelope(self, length: int) -> Tensor:
        """Overlap-added squared window of `length` frames. Shape: (L + R - 1, hop_length)"""
        return self._added(self.window.expand(1, length, -1))[0].clamp_min(ENVELOPE_FLOOR)

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
