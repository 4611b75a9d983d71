"""Mel-consistent refinement: passes that pull a spectrum towards the mel that it was made for.

What a network predicts is not quite the STFT of any signal, and the audio's mel is not quite the one that was asked
for. Each pass goes to the nearest signal and back, and corrects the magnitudes by what the mel says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig
from tts_infer.dsp import register_constant
from tts_infer.dsp.filterbank import BandedProduct
from tts_infer.dsp.mel import mel_filterbank
from tts_infer.dsp.stft import ISTFT, STFT
from tts_infer.dsp.tiles import tiles
from tts_infer.errors import InputError
from tts_infer.stages import State

Spectrum = tuple[Tensor, Tensor]

# How far a pass goes beyond the signal's own STFT, in the direction in which the last one moved. 0: Griffin-Lim.
MOMENTUM = 0.9
# Corrections of the magnitudes within a pass: neighbouring filters overlap, so one does not reach the target mel.
CORRECTIONS = 3
# No correction is larger, or smaller than its inverse: what is nearly silent says little about its ratio.
LARGEST_CORRECTION = 20.0


class Refinement(nn.Module):
    """Refines spectra so that their audio has the target mel.

    With S the spectrum and M the target mel, a pass is

        R  = STFT(ISTFT(S))                  the STFT of the audio that S stands for
        T  = R + MOMENTUM (R - R')           R' is that of the pass before; in the first pass T = R
        S <- g |R| T / |T|                   g spreads the ratio of M to the mel of |R| over the bins

    Between the two transforms nothing is trimmed or mirrored. So a frame depends on `receptive_field` neighbours a
    pass and on nothing else: refined batches and pieces equal refined single signals.

    Args:
        mel: the convention of the mels.
        istft: the inverse transform; everything else is computed by its method, so all is real-valued with "matmul".

    Raises:
        InputError: the mel's STFT is not that of the spectrum, so that magnitudes of one say nothing about the other.
    Source: the momentum is that of fast Griffin-Lim (Perraudin et al. 2013, doi:10.1109/WASPAA.2013.6701851), whose
        magnitudes are known; here only their mels are, and the network's own are the beginning.
    """

    unfiltered: Tensor

    def __init__(self, mel: MelConfig, istft: ISTFT) -> None:
        super().__init__()
        sizes = (mel.n_fft, mel.hop_length, mel.win_length or mel.n_fft)
        if sizes != (istft.n_fft, istft.hop_length, istft.win_length):
            raise InputError(
                f"refine needs a mel of the spectrum's own STFT; its n_fft, hop_length and win_length are {sizes}, "
                f"the spectrum's {(istft.n_fft, istft.hop_length, istft.win_length)}; leave refine at 0"
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
        """Frames on each side that one frame depends on, per pass; also the frames by which a pass answers late."""
        return self.istft.overlap - 1

    def forward(self, spectrum: Spectrum, log_mel: Tensor, passes: int, valid: Tensor | None = None) -> Spectrum:
        """Refine whole signals.

        Args:
            spectrum: real and imaginary part.
            log_mel: the target mel.
            passes: how many.
            valid: see `ISTFT.forward`.

        Shape: 2 x (B, N, L), (B, n_mels, L), valid of (B, L, 1) -> 2 x (B, N, L)
        """
        real, imag = spectrum
        batch, _, frames = real.shape
        items = [
            self.advance(
                (real[some], imag[some]), log_mel[some], [{}] * passes, None if valid is None else valid[some], True
            )[0]
            for some in tiles(batch, frames, real.device)
        ]
        return _joined(items, 0)

    def advance(
        self,
        spectrum: Spectrum,
        log_mel: Tensor,
        states: Sequence[State],
        valid: Tensor | None = None,
        final: bool = False,
    ) -> tuple[Spectrum, list[State]]:
        """Push frames through every pass, and give those that are due: each pass is `receptive_field` frames late.

        Args:
            spectrum: the next frames, possibly none.
            log_mel: the target mel of the same frames.
            states: one for each pass, as the call before returned them; empty before the first frame.
            valid: of the same frames, see `ISTFT.forward`.
            final: whether these are the last frames.

        Shape: 2 x (B, N, L), (B, n_mels, L), valid of (B, L, 1) -> 2 x (B, N, L'), L' >= 0
        """
        real, imag = spectrum
        batch, _, frames = real.shape
        target, refined, after = log_mel.transpose(1, 2), [], list(states)
        for tile in tiles(frames, batch, real.device) or [slice(0, 0)]:
            piece, last = (real[..., tile], imag[..., tile]), final and tile.stop == frames
            marks = None if valid is None else valid[:, tile]
            target_mel, previous = target[:, tile].exp(), None
            for i, state in enumerate(after):
                piece, previous, aligned, after[i] = self._pass(piece, previous, (target_mel, marks), state, last)
                target_mel, marks = aligned
            refined.append(piece)
        return _joined(refined, 1), after

    def _pass(
        self,
        spectrum: Spectrum,
        previous: Spectrum | None,
        aligned: tuple[Tensor, Tensor | None],
        state: State,
        final: bool,
    ) -> tuple[Spectrum, Spectrum, tuple[Tensor, Tensor | None], State]:
        """One pass over the next frames.

        What goes in is ahead of what comes out. So the target mel and the marks of the same frames, `aligned`, wait in
        the state, and so does the spectrum of the pass before.

        Returns:
            The new spectrum, the consistent one, what is aligned with them, and the new state.
        """
        target_mel, valid = aligned
        signal: State = {name: state[name] for name in ("frames", "carry", "envelope") if name in state}
        hops, after = self.istft.advance(*spectrum, signal, valid, final)
        if "hops" in state:
            hops = torch.cat([state["hops"], hops], dim=1)
        frames = max(0, hops.shape[1] - self.receptive_field)
        after["hops"] = hops[:, frames:].clone()
        consistent = self.transform(hops) if frames else (spectrum[0][..., :0], spectrum[1][..., :0])
        target_mel, after["target"] = _take(target_mel, state.get("target"), frames)
        if previous is not None:
            real, after["real"] = _take(previous[0].transpose(1, 2), state.get("real"), frames)
            imag, after["imag"] = _take(previous[1].transpose(1, 2), state.get("imag"), frames)
            previous = real.transpose(1, 2), imag.transpose(1, 2)
        if valid is not None:
            valid, after["valid"] = _take(valid, state.get("valid"), frames)
        return self.correct(consistent, previous, target_mel), consistent, (target_mel, valid), after

    def transform(self, hops: Tensor) -> Spectrum:
        """The STFT of a signal as `ISTFT.hops` has it. Shape: (B, L + R - 1, hop_length) -> 2 x (B, N, L)"""
        return self.stft.transform(hops.flatten(1))

    def correct(self, consistent: Spectrum, previous: Spectrum | None, target_mel: Tensor) -> Spectrum:
        """Momentum and corrected magnitudes. Shape: 2 x (B, N, L), the same or None, (B, L, n_mels) -> 2 x (B, N, L)"""
        real, imag = (part.transpose(1, 2) for part in consistent)
        power = real.square().addcmul_(imag, imag)
        scale = self._corrected(power.sqrt() if self.config.power == 1 else power, target_mel)
        if previous is not None:
            real, imag = (
                torch.lerp(then.transpose(1, 2), now, 1 + MOMENTUM)
                for now, then in zip((real, imag), previous, strict=True)
            )
            power = real.square().addcmul_(imag, imag)
        power.clamp_min_(torch.finfo(power.dtype).tiny)  # 0 / 0 is 0
        if self.config.power == 1:
            scale /= power.sqrt_()
        else:
            scale.div_(power).sqrt_()
        return (real * scale).transpose(1, 2), (imag * scale).transpose(1, 2)

    def _corrected(self, size: Tensor, target_mel: Tensor) -> Tensor:
        """Powers or magnitudes, whichever the mel is made of, corrected to the target mel.

        Shape: (B, L, N), (B, L, n_mels) -> (B, L, N)
        """
        corrected = size
        for _ in range(CORRECTIONS):
            ratio = target_mel / self.filterbank(corrected).clamp_min_(self.config.log_floor)
            ratio.clamp_(1 / LARGEST_CORRECTION, LARGEST_CORRECTION)
            corrected = self.filterbank_transpose(ratio).mul_(corrected)
        return corrected.addcmul_(size, self.unfiltered)  # bins that no filter sees stay as they are


def _take(new: Tensor, waiting: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """Add frames to those that wait; take the `count` that wait longest, and keep the others. Shape: (B, L, C)"""
    frames = new if waiting is None else torch.cat([waiting, new], dim=1)
    return frames[:, :count], frames[:, count:].clone()


def _joined(pieces: list[Spectrum], dim: int) -> Spectrum:
    """One spectrum of several: frames last in shape and bins last in memory, as the stages make them.

    Args:
        pieces: of (B, N, L) each.
        dim: 0 joins batches, 1 frames.
    """
    if len(pieces) == 1:
        return pieces[0]
    real, imag = (torch.cat([part.transpose(1, 2) for part in parts], dim) for parts in zip(*pieces, strict=True))
    return real.transpose(1, 2), imag.transpose(1, 2)
