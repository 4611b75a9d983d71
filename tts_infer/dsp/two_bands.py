"""Refinement in two bands: some passes over all bins, and more of them where the strongest harmonics of a voice are.

There a wrong phase is a wrong pitch, and each pass mends some of it. Above, the first passes bring most of what many
bring, and more of them blunt the pulses of a voice. A pass over the lowest band costs a fraction of one over all bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig
from tts_infer.dsp.band import Band
from tts_infer.dsp.frames import due
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.refine import Refinement, Spectrum
from tts_infer.stages import State

# One of so many passes is over all bins.
_WIDE = 4


class TwoBandRefinement(nn.Module):
    """Refines spectra: the first quarter of the passes over all bins, the others over the lowest band.

    Where the sizes of a convention cannot be divided, see `Band.lowest`, all passes are over all bins.

    Args:
        mel, istft: as for `Refinement`.

    Raises:
        InputError: see `Refinement`.
    """

    kind: type[Refinement] = Refinement

    def __init__(self, mel: MelConfig, istft: ISTFT) -> None:
        super().__init__()
        self.config, self.istft, self.band = mel, istft, Band.lowest(mel)
        self.wide = self.kind(mel, istft)
        self.low = self.wide if self.band is None else self.kind(mel, istft, self.band)

    @property
    def receptive_field(self) -> int:
        """Frames on each side that one frame depends on in one pass. A pass of a stream is as many frames late."""
        return self.wide.receptive_field

    def shares(self, passes: int) -> tuple[int, int]:
        """How many passes are over all bins, and how many over the lowest band."""
        wide = passes if self.band is None else -(-passes // _WIDE)
        return wide, passes - wide

    def forward(self, spectrum: Spectrum, log_mel: Tensor, passes: int, valid: Tensor | None = None) -> Spectrum:
        """Refine whole signals. Arguments and shapes: as for `Refinement.forward`"""
        wide, low = self.shares(passes)
        refined: Spectrum = self.wide(spectrum, log_mel, wide, valid)
        return self._joined(self.low(*self._lowest(refined, log_mel), low, valid, wide), refined) if low else refined

    def whole(self, spectrum: Spectrum, log_mel: Tensor, passes: int) -> Spectrum:
        """Refine whole signals as for graphs and for gradients. Shape: as `forward`"""
        wide, low = self.shares(passes)
        refined = self.wide.whole(spectrum, log_mel, wide)
        return self._joined(self.low.whole(*self._lowest(refined, log_mel), low, wide), refined) if low else refined

    def advance(
        self, spectrum: Spectrum, log_mel: Tensor, state: State, passes: int, final: bool = False
    ) -> tuple[Spectrum, State]:
        """Push the next frames through every pass, as `Refinement.advance` does.

        The state is that of both bands, and what waits for them: the mel of frames that the first passes hold back, and
        the spectrum of frames that the others hold back.
        """
        wide, low = self.shares(passes)
        refined, after = self.wide.advance(spectrum, log_mel, state.get("wide", {}), wide, final=final)
        if not low:
            return refined, {"wide": after}
        (mel,), mels = due(state.get("mels"), [log_mel], refined[0].shape[2])
        given = *self._lowest(refined, mel), state.get("low", {}), low
        lowest, after_low = self.low.advance(*given, final=final, begun=wide)
        (real, imag), spectra = due(state.get("spectra"), list(refined), lowest[0].shape[2])
        after = {"wide": after, "mels": mels, "low": after_low, "spectra": spectra}
        return self._joined(lowest, (real, imag)), after

    def _lowest(self, spectrum: Spectrum, log_mel: Tensor) -> tuple[Spectrum, Tensor]:
        """The lowest band of a spectrum and of its mel."""
        assert self.band is not None
        real, imag = (part[:, : self.band.bins] for part in spectrum)
        return (real, imag), log_mel[:, : self.band.mels]

    def _joined(self, lowest: Spectrum, refined: Spectrum) -> Spectrum:
        """The lowest bins of one spectrum and the others of another. The bins are last in memory."""
        assert self.band is not None
        edge = self.band.edge
        pairs = zip(lowest, refined, strict=True)
        real, imag = (
            torch.cat([low.transpose(1, 2)[..., :edge], other.transpose(1, 2)[..., edge:]], dim=2).transpose(1, 2)
            for low, other in pairs
        )
        return real, imag
