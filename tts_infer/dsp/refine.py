"""Mel-consistent refinement: it corrects a spectrum so that the mel of its audio comes closer to the given mel.

The spectrum that a network predicts is not exactly the STFT of a signal, and the mel of its audio differs from the
given mel. Each pass computes the audio and the STFT of that audio, and then corrects the magnitudes by the given mel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig
from tts_infer.dsp import register_constant
from tts_infer.dsp.filterbank import BandedProduct
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mel import mel_filterbank
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
# Corrections lie between the inverse of this factor and the factor. In near silence, larger ratios are unreliable.
LARGEST_CORRECTION = 20.0


class Refinement(nn.Module):
    """Refines spectra so that their audio has the target mel.

    With S the spectrum and M the target mel, a pass is

        R  = STFT(ISTFT(S))                  the STFT of the audio of S
        T  = R + m (R - R') + r (R - S)      R' is the R of the last pass, m = MOMENTUM; in the first pass m = 0
        S <- g |R| T / |T|                   g is the ratio of M to the mel of |R|, spread over the bins

    Neighbouring filters overlap, and spreading dilutes the ratios, so all passes but the last take their power of 1.5.

    Nothing is trimmed or mirrored between the two transforms. So in each pass a frame depends only on `receptive_field`
    frames on each side, and refined batches and pieces equal refined single signals.

    Args:
        mel: the convention of the mels.
        istft: the inverse transform. Its method is used for everything; with "matmul" all numbers are real.

    Raises:
        InputError: the mel and the spectrum come from STFTs of different sizes, so their magnitudes do not compare.
    Source: the momentum is that of fast Griffin-Lim (Perraudin et al. 2013, doi:10.1109/WASPAA.2013.6701851), r is the
        relaxation of projections onto sets. There the magnitudes are known. Here only their mel is known, and the first
        magnitudes are those of the network.
    """

    unfiltered: Tensor

    def __init__(self, mel: MelConfig, istft: ISTFT) -> None:
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
        self.config, self.istft = mel, istft
        self.stft = STFT(istft.n_fft, istft.hop_length, istft.win_length, istft.padding, istft.method)
        filters = mel_filterbank(mel)
        total = filters.sum(1, keepdims=True)
        shares = np.divide(filters, total, out=np.zeros_like(filters), where=total > 0)
        self.filterbank = BandedProduct(filters, istft.method)
        self.filterbank_transpose = BandedProduct(np.ascontiguousarray(shares.T), istft.method)
        register_constant(self, "unfiltered", (total[:, 0] <= 0).astype(np.float64))

    @property
    def receptive_field(self) -> int:
        """Frames on each side that one frame depends on in one pass. A pass of a stream is as many frames late."""
        return self.istft.overlap - 1

    def forward(self, spectrum: Spectrum, log_mel: Tensor, passes: int, valid: Tensor | None = None) -> Spectrum:
        """Refine whole signals.

        Args:
            spectrum: real and imaginary part.
            log_mel: the target mel.
            passes: number of passes.
            valid: see `ISTFT.forward`.

        Shape: 2 x (B, N, L), (B, n_mels, L), valid of (B, L, 1) -> 2 x (B, N, L)
        """
        if is_traced() and valid is None:
            return self.whole(spectrum, log_mel, passes)
        real, imag = spectrum
        batch, _, frames = real.shape
        groups = tiles(batch, frames, real.device)
        if len(tiles(frames, batch, real.device)) < len(groups):  # fewer tiles if the batch is cut along time
            groups = [slice(0, batch)]
        items = [
            self.advance(
                (real[some], imag[some]), log_mel[some], [{}] * passes, None if valid is None else valid[some], True
            )[0]
            for some in groups
        ]
        return _joined(items, 0)

    def whole(self, spectrum: Spectrum, log_mel: Tensor, passes: int) -> Spectrum:
        """The passes over whole signals, without states and tiles: for graphs and for gradients. Shape: as `forward`"""
        target_mel, consistent = log_mel.transpose(1, 2).exp(), spectrum
        for i in range(passes):
            before = _before(i, consistent, spectrum)
            consistent = self.transform(self.istft.hops(*spectrum))
            spectrum = self.correct(consistent, before, target_mel, i, i + 1 == passes)
        return spectrum

    def advance(
        self,
        spectrum: Spectrum,
        log_mel: Tensor,
        states: Sequence[State],
        valid: Tensor | None = None,
        final: bool = False,
    ) -> tuple[Spectrum, list[State]]:
        """Push the next frames through every pass. Each pass is `receptive_field` frames late.

        Args:
            spectrum: the next frames, possibly none.
            log_mel: the target mel of the same frames.
            states: the state of each pass that the last call returned; empty dicts before the first frame.
            valid: for the same frames, see `ISTFT.forward`.
            final: whether these are the last frames.

        Shape: 2 x (B, N, L), (B, n_mels, L), valid of (B, L, 1) -> 2 x (B, N, L'), L' >= 0
        """
        real, imag = spectrum
        batch, _, frames = real.shape
        target, refined, after = log_mel.transpose(1, 2), [], list(states)
        for tile in tiles(frames, batch, real.device) or [slice(0, 0)]:
            piece, ends = (real[..., tile], imag[..., tile]), final and tile.stop == frames
            marks = None if valid is None else valid[:, tile]
            target_mel, consistent = target[:, tile].exp(), piece
            for i in range(len(after)):
                given = piece, _before(i, consistent, piece), (target_mel, marks)
                consistent, before, (target_mel, marks), after[i] = self._pass(*given, after[i], ends)
                piece = self.correct(consistent, before, target_mel, i, i + 1 == len(after))
            refined.append(piece)
        return _joined(refined, 1), after

    def _pass(
        self,
        spectrum: Spectrum,
        before: Spectrum,
        aligned: tuple[Tensor, Tensor | None],
        state: State,
        final: bool,
    ) -> tuple[Spectrum, Spectrum, tuple[Tensor, Tensor | None], State]:
        """Push the next frames through the transforms of one pass.

        The output is later than the input. So the target mel and the marks (`aligned`), and what the pass moves away
        from (`before`), wait in the state until the frames that they belong to come out.

        Returns:
            R, what was before, target mel and marks of the same frames; and the new state.
        """
        target_mel, valid = aligned
        signal: State = {name: state[name] for name in ("frames", "carry", "envelope") if name in state}
        hops, after = self.istft.advance(*spectrum, signal, valid, final)
        if "hops" in state:
            hops = torch.cat([state["hops"], hops], dim=1)
        frames = max(0, hops.shape[1] - self.receptive_field)
        after["hops"] = hops[:, frames:].clone()
        consistent = self.transform(hops) if frames else (spectrum[0][..., :0], spectrum[1][..., :0])

        def take(name: str, new: Tensor) -> Tensor:
            """Append frames to those that wait under a name; take the first, as many as come out. Shape: (B, L, C)"""
            waiting = torch.cat([state[name], new], dim=1) if name in state else new
            after[name] = waiting[:, frames:] if final else waiting[:, frames:].clone()  # at the end nothing is left
            return waiting[:, :frames]

        target_mel = take("target", target_mel)
        real, imag = (
            take(name, part.transpose(1, 2)).transpose(1, 2)
            for name, part in zip(("real", "imag"), before, strict=True)
        )
        if valid is not None:
            valid = take("valid", valid)
        return consistent, (real, imag), (target_mel, valid), after

    def transform(self, hops: Tensor) -> Spectrum:
        """The STFT of the hops that `ISTFT.hops` returns. Shape: (B, L + R - 1, hop_length) -> 2 x (B, N, L)"""
        return self.stft.transform(hops.flatten(1))

    def correct(self, consistent: Spectrum, before: Spectrum, target_mel: Tensor, index: int, last: bool) -> Spectrum:
        """Move on from what was before, and correct the magnitudes.

        Args:
            consistent: R of this pass.
            before: what the pass moves away from, see `_before`.
            target_mel: not logarithmic.
            index: of the pass, from 0.
            last: whether no pass follows.

        Shape: 2 x (B, N, L), 2 x (B, N, L), (B, L, n_mels) -> 2 x (B, N, L)
        """
        real, imag = (part.transpose(1, 2) for part in consistent)
        scale = self._corrected(self.size(real, imag), target_mel, last)
        step = 1 + sum(_weights(index))
        real, imag = (
            torch.lerp(then.transpose(1, 2), now, step) for now, then in zip((real, imag), before, strict=True)
        )
        scale /= self.size(real, imag).clamp_min_(torch.finfo(scale.dtype).tiny)  # so that 0 / 0 gives 0
        if self.config.power == 2:
            scale.sqrt_()
        return (real * scale).transpose(1, 2), (imag * scale).transpose(1, 2)

    def size(self, real: Tensor, imag: Tensor) -> Tensor:
        """What the mel is made of: powers or magnitudes. Shape: twice (B, L, N) -> (B, L, N)"""
        power = real.square().addcmul_(imag, imag)
        return power.sqrt_() if self.config.power == 1 else power

    def _corrected(self, size: Tensor, target_mel: Tensor, last: bool) -> Tensor:
        """Correct powers or magnitudes to the target mel. Shape: (B, L, N), (B, L, n_mels) -> (B, L, N)"""
        ratio = target_mel / self.filterbank(size).clamp_min_(self.config.log_floor)
        ratio.clamp_(1 / LARGEST_CORRECTION, LARGEST_CORRECTION)
        if not last:
            ratio *= ratio.sqrt()  # torch's pow rounds by the place in memory: pieces would differ
        gain = self.filterbank_transpose(ratio)
        gain += self.unfiltered  # bins outside all filters stay as they are
        return gain.mul_(size)


def _weights(index: int) -> tuple[float, float]:
    """How far a pass moves away from the last R, and from the spectrum that its audio was made of."""
    relaxation = min(FIRST_RELAXATION + RELAXATION_GROWTH * index, LAST_RELAXATION)
    return MOMENTUM if index else 0.0, relaxation


def _before(index: int, consistent: Spectrum, spectrum: Spectrum) -> Spectrum:
    """What a pass moves away from in one step: the mean of the last R and the spectrum; in the first, the spectrum.

    Shape: twice 2 x (B, N, L) -> 2 x (B, N, L)
    """
    momentum, relaxation = _weights(index)
    if not momentum:
        return spectrum
    share = relaxation / (momentum + relaxation)
    real, imag = (torch.lerp(r, s, share) for r, s in zip(consistent, spectrum, strict=True))
    return real, imag


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
