"""Griffin-Lim: a mel to audio without any weights. The baseline that every vocoder has to beat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig, SpectralMethod
from tts_infer.devices import CPU
from tts_infer.dsp import register_constant
from tts_infer.dsp.frames import n_samples
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mel import LogMel, mel_filterbank
from tts_infer.dsp.refine import Refinement
from tts_infer.stages import Stage
from tts_infer.vocoders.features import MelSpec
from tts_infer.vocoders.networks import WholeSignal
from tts_infer.vocoders.spectral import METHODS, MelStage

# Every pass is one Griffin-Lim iteration. Measured by `benchmarks/griffin_lim.py`.
PASSES = 24


class GriffinLim(nn.Module):
    """Log-mels to audio: magnitudes by least squares, phases by iteration.

    The least-squares solution is a product with the pseudo-inverse of the filterbank, which is computed once, in
    float64 on the CPU; what is negative becomes 0. From random phases with a fixed seed, `Refinement` then iterates: it
    is the fast Griffin-Lim, and also corrects the magnitudes, of which only the mel is known. It has no `angle`: a
    spectrum is divided by its magnitude. With the method "matmul" every number is real, on every device.

    Args:
        config: the convention of the mel.
        method: of the transforms.
        passes: number of iterations.

    Shape: (B, n_mels, L) -> (B, T), aligned with the audio of the mel; T as in `ISTFT.n_samples`
    Source: Griffin and Lim 1984, doi:10.1109/TASSP.1984.1164317; for the momentum see `Refinement`.
    """

    inverse: Tensor

    def __init__(self, config: MelConfig, method: SpectralMethod = "fft", passes: int = PASSES) -> None:
        super().__init__()
        self.config, self.passes = config, passes
        self.istft = ISTFT(config.n_fft, config.hop_length, config.win_length, config.padding, method)
        self.refinement = Refinement(config, self.istft)
        self.method = method
        register_constant(self, "inverse", np.linalg.pinv(mel_filterbank(config)).astype(np.float64))

    @classmethod
    def in_place_of(cls, model: nn.Module, mel: MelConfig) -> GriffinLim:
        """Griffin-Lim in the convention of another model. Entry of `PEERS`."""
        return cls(mel)

    def forward(self, log_mel: Tensor) -> Tensor:
        magnitude = torch.matmul(log_mel.transpose(1, 2).exp(), self.inverse).clamp_min(0)
        if self.config.power == 2:
            magnitude = magnitude.sqrt()
        frames, bins = magnitude.shape[1:]
        # one item has the same phases alone and in a batch
        draw = torch.Generator(CPU).manual_seed(0)
        phase = torch.rand(frames, bins, generator=draw, dtype=torch.float32, device=CPU).mul_(2 * torch.pi)
        phase = magnitude.new_empty(frames, bins).copy_(phase)  # to the device, which the host need not wait for
        spectrum = tuple((magnitude * part).transpose(1, 2) for part in (phase.cos(), phase.sin()))
        refined = self.refinement((spectrum[0], spectrum[1]), log_mel, self.passes)
        audio: Tensor = self.istft(*refined)
        return audio


@dataclass(frozen=True)
class GriffinLimStage(WholeSignal):
    """Every iteration goes over the whole signal. Shape: (B, n_mels, L) -> (B, T)"""

    methods: ClassVar[tuple[str, ...]] = METHODS

    def by(self, method: str) -> GriffinLimStage:
        if method == self.method:
            return self
        other = GriffinLim(self.module.config, cast(SpectralMethod, method), self.module.passes)
        return replace(self, module=other, method=method)


class GriffinLimFamily:
    """Griffin-Lim as a vocoder. Entry of `FAMILIES`; it has no checkpoints."""

    model: ClassVar[type[nn.Module]] = GriffinLim

    def features(self, config: MelConfig) -> MelSpec:
        return MelSpec(config)

    def build(self, config: MelConfig) -> GriffinLim:
        return GriffinLim(config)

    def stages(self, model: GriffinLim) -> list[Stage]:
        config, method = model.config, model.method
        stage = GriffinLimStage("griffin-lim", model, ("mel",), ("audio",), method=method, channels=(config.n_mels,))
        return [MelStage.of(LogMel(config, method)), stage]

    def n_samples(self, config: MelConfig, frames: int) -> int:
        return n_samples(frames, config.hop_length, config.padding)

    def constants(self, model: Any) -> dict[str, Tensor]:
        return {}
