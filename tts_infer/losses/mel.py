"""The loss of vocoders: mean difference of log-mels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig, SpectralMethod
from tts_infer.dsp.mel import LogMel
from tts_infer.losses.frames import flattened, mean, spectrum, valid_frames


class LogMelLoss(nn.Module):
    """Mean absolute difference of two log-mel spectrograms, in the unit of the log-mel (natural logarithm).

    Args:
        config: the convention of the mel; None: that of the embedded vocoder.
        method: "matmul" (real numbers only; for Apple GPUs) or "fft" (faster on CPU and CUDA).

    Shape: input, target of (B, T) or (B, C, T); lengths of (B,), integers -> ()

    Raises:
        InputError: tensors whose shapes do not fit each other, or that are shorter than one frame.
    Source: HiFi-GAN's train.py, F.l1_loss of mels; Vocos' experiment.py MelSpecReconstructionLoss.
    """

    def __init__(self, config: MelConfig | None = None, method: SpectralMethod = "matmul") -> None:
        super().__init__()
        self.mel = LogMel(config or MelConfig(), method)

    def forward(self, input: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The loss of the items' own frames; arguments as for `STFTLoss.terms`."""
        x, y, lengths = flattened(input, target, lengths)
        valid = valid_frames(self.mel.stft, x.shape[1], lengths)
        return mean((self._log_mel(x, lengths) - self._log_mel(y, lengths)).abs(), valid)

    def _log_mel(self, audio: Tensor, lengths: Tensor | None) -> Tensor:
        """As `LogMel`, but the gradient of silence is finite. Shape: (B, T) -> (B, L, n_mels)"""
        config = self.mel.config
        real, imag = spectrum(self.mel.stft, audio, lengths)
        power = real.square() + imag.square() + config.power_eps
        if config.power == 1:
            power = power.clamp_min(torch.finfo(power.dtype).tiny).sqrt()
        return self.mel.filterbank(power).clamp_min(config.log_floor).log()
