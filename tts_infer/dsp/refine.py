"""Mel-consistent refinement: it corrects a spectrum so that the mel of its audio comes closer to the given mel.

The spectrum that a network predicts is not exactly the STFT of a signal, and the mel of its audio differs from the
given mel. Each pass computes the audio and the STFT of that audio, and then corrects the magnitudes by the given mel.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig
from tts_infer.devices import CPU
from tts_infer.dsp import register_constant
from tts_infer.dsp.band import Band
from tts_infer.dsp.filterbank import BandedProduct, needs_new
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mel import mel_filterbank
from tts_infer.dsp.passes import corrected, passed, passed_at_once
from tts_infer.dsp.stft import STFT
from tts_infer.dsp.tiles import is_traced, tiles
from tts_infer.errors import InputError
from tts_infer.stages import State

Spectrum = tuple[Tensor, Tensor]

# How far a pass goes beyond the STFT of the audio: in the direction of its last change, and away from the spectrum that
# the audio was made of. The second begins small and grows, because the first spectra are far from those of any audio.
# Both 0 would be Griffin-Lim. All were chosen on recordings of training by PESQ, pulses, log-mels and magnitudes.
MOMENTUM = 0.9
FIRST_RELAXATION, RELAXATION_GROWTH, LAST_RELAXATION = 0.1, 0.15, 0.8


class Refinement(nn.Module):
    """Refines spectra so that their audio has the target mel.

    With S the spectrum and M the target mel, a pass is

        R  = STFT(ISTFT(S))                  the STFT of the audio of S
        T  = R + m (R - R') + r (R - S)      R' is the R of the last pass, m = MOMENTUM; in the first pass m = 0
        S <- g |R| T / |T|                   g is the ratio of M to the mel of |R|, spread over the bins

    Neighbouring filters overlap, and spreading dilutes the ratios, so all passes but the last of a call take their
    power of 1.5.

    Nothing is trimmed or mirrored between the two transforms. So in each pass a frame depends only on `receptive_field`
    frames on each side, and refined batches and pieces equal refined single signals.

    Args:
        mel: the convention of the mels.
        istft: the inverse transform. Its method is used for everything; with "matmul" all numbers are real.
        band: if the passes are over the lowest bins only; N and n_mels are then those of the band.

    Raises:
        InputError: the mel and the spectrum come from STFTs of different sizes, so their magnitudes do not compare.
    Source: the momentum is that of fast Griffin-Lim (Perraudin et al. 2013, doi:10.1109/WASPAA.2013.6701851), r is the
        relaxation of projections onto sets. There the magnitudes are known. Here only their mel is known, and the first
        magnitudes are those of the network.
    """

    unfiltered: Tensor
    passed_on_cpu: Any = staticmethod(passed_at_once)

    def __init__(self, mel: MelConfig, istft: ISTFT, band: Band | None = None) -> None:
        super().__init__()
        sizes = (mel.n_fft, mel.hop_length, mel.win_length or mel.n_fft)
        if sizes != (istft.n_fft, istft.hop_length, istft.win_length):
            raise InputError(
                "refine needs a mel of the spectrum's own STFT; its n_fft, hop_length and win_length are {mel}, "
                "the spectrum's {spectrum}; leave refine at 0",
                code="refine-sizes",
                mel=sizes,
                spectrum=(istft.n_fft, istft.hop_length, istft.win_length),
            )
        filters = mel_filterbank(mel)
        if band is not None:
            istft, filters = band.istft(istft), filters[: band.bins, : band.mels]
        self.config, self.istft, self.divisor = mel, istft, mel.n_fft // istft.n_fft
        self.stft = STFT(istft.n_fft, istft.hop_length, istft.win_length, istft.padding, istft.method)
        total = filters.sum(1, keepdims=True)
        shares = np.divide(filters, total, out=np.zeros_like(filters), where=total > 0)
        self.filterbank = BandedProduct(filters, istft.method)
        self.filterbank_transpose = BandedProduct(np.ascontiguousarray(shares.T), istft.method)
        register_constant(self, "unfiltered", (total[:, 0] <= 0).astype(np.float64))

    @property
    def receptive_field(self) -> int:
        """Frames on each side that one frame depends on in one pass. A pass of a stream is as many frames late."""
        return self.istft.overlap - 1

    def forward(
        self, spectrum: Spectrum, log_mel: Tensor, passes: int, valid: Tensor | None = None, begun: int = 0
    ) -> Spectrum:
        """Refine whole signals.

        Args:
            spectrum: real and imaginary part.
            log_mel: the target mel.
            passes: number of passes.
            valid: see `ISTFT.forward`.
            begun: passes that were made of the same spectrum before; relaxation goes on growing from there.

        Shape: 2 x (B, N, L), (B, n_mels, L), valid of (B, L, 1) -> 2 x (B, N, L)
        """
        if is_traced() and valid is None:
            return self.whole(spectrum, log_mel, passes, begun)
        real, imag = spectrum
        batch, _, frames = real.shape
        groups, along_time = self._tiles(batch, frames, real.device), self._tiles(frames, batch, real.device)
        if len(along_time) < len(groups):  # fewer tiles if the batch is cut along time
            groups = [slice(0, batch)]
        items = []
        for some in groups:
            marks = None if valid is None else valid[some]
            items.append(self.advance((real[some], imag[some]), log_mel[some], {}, passes, marks, True, begun)[0])
        return _joined(items, 0)

    def whole(self, spectrum: Spectrum, log_mel: Tensor, passes: int, begun: int = 0) -> Spectrum:
        """The passes over whole signals, without states and tiles: for graphs and for gradients. Shape: as `forward`"""
        mel, (real, imag) = log_mel.transpose(1, 2).exp(), (part.transpose(1, 2) for part in spectrum)
        before_real, before_imag = real, imag
        for i, (step, share) in enumerate(steps(passes, begun)):
            hops = self.istft.hops(real.transpose(1, 2), imag.transpose(1, 2))
            consistent = [part.transpose(1, 2) for part in self.transform(hops)]
            given = *consistent, before_real, before_imag, mel, step, i + 1 == passes, *self._filters()
            real, imag = corrected(*given)
            before_real, before_imag = (
                torch.lerp(then, now, share) for then, now in zip(consistent, (real, imag), strict=True)
            )
        return real.transpose(1, 2), imag.transpose(1, 2)

    def advance(
        self,
        spectrum: Spectrum,
        log_mel: Tensor,
        state: State,
        passes: int,
        valid: Tensor | None = None,
        final: bool = False,
        begun: int = 0,
    ) -> tuple[Spectrum, State]:
        """Push the next frames through every pass. Each pass is `receptive_field` frames late.

        Args:
            spectrum: the next frames, possibly none.
            log_mel: the target mel of the same frames.
            state: what the last call returned; empty before the first frame.
            passes: number of passes, in all calls the same.
            valid: for the same frames, see `ISTFT.forward`.
            final: whether these are the last frames.
            begun: see `forward`.

        Shape: 2 x (B, N, L), (B, n_mels, L), valid of (B, L, 1) -> 2 x (B, N, L'), L' >= 0
        """
        real, imag = spectrum
        batch, _, frames = real.shape
        run = self.passed_on_cpu if real.device == CPU and not is_traced() else passed
        first, waiting, refined = state.get("frames", 0), state.get("waiting", [[]] * passes), []
        for tile in self._tiles(frames, batch, real.device) or [slice(0, 0)]:
            ends = final and tile.stop == frames
            out = run(
                real[..., tile].transpose(1, 2),
                imag[..., tile].transpose(1, 2),
                [log_mel[..., tile].transpose(1, 2).exp()] + ([] if valid is None else [valid[:, tile]]),
                waiting,
                first + tile.start,
                ends,
                steps(passes, begun),
                (self.istft.window, self.istft.envelope_of(first + tile.stop, ends)),
                (self.istft.inverse_dft.bases, self.stft.dft.bases),
                *self._filters(),
            )
            refined.append((out[0].transpose(1, 2), out[1].transpose(1, 2)))
            waiting = out[2]
        return _joined(refined, 1), {"frames": first + frames, "waiting": waiting}

    def transform(self, hops: Tensor) -> Spectrum:
        """The STFT of the hops that `ISTFT.hops` returns. Shape: (B, L + R - 1, hop_length) -> 2 x (B, N, L)"""
        return self.stft.transform(hops.flatten(1))

    def _tiles(self, count: int, frames: int, device: torch.device) -> list[slice]:
        return tiles(count, frames, device, self.divisor)

    def _filters(self) -> tuple[Any, ...]:
        """What `corrected` takes of the mel's convention."""
        there, back = self.filterbank, self.filterbank_transpose
        convention = self.unfiltered, self.config.log_floor, self.config.power
        return (there.blocks, back.blocks), (there.cuts, back.cuts), *convention, needs_new()


@cache
def steps(passes: int, begun: int = 0) -> list[tuple[float, float]]:
    """For each pass how far it goes, and, for the next, the share of its spectrum in what that moves away from.

    `begun` counts passes that came before and carry nothing over but the growth of the relaxation.

    T is (1 + m + r) R - (m + r) B, where B, the mean of R' and S by their weights, is what a pass moves away from. In
    the first pass it is S.
    """
    weights = [
        (MOMENTUM if i else 0.0, min(FIRST_RELAXATION + RELAXATION_GROWTH * (begun + i), LAST_RELAXATION))
        for i in range(passes + 1)
    ]
    return [(1 + sum(weights[i]), weights[i + 1][1] / sum(weights[i + 1])) for i in range(passes)]


def _joined(pieces: list[Spectrum], dim: int) -> Spectrum:
    """Join spectra. The result has its bins last in memory, like the output of the stages.

    Args:
        pieces: spectra of (B, N, L).
        dim: 0 joins batches, 1 joins frames.
    """
    if len(pieces) == 1:
        return pieces[0]
    real, imag = (torch.cat([part.transpose(1, 2) for part in parts], dim) for parts in zip(*pieces, strict=True))
    return real.transpose(1, 2), imag.transpose(1, 2)
