"""The vocoder in training: the product's own modules, computed in the layout that trains fastest.

Everything stays (B, L, H), channels last. The depthwise convolution runs as a channels-last Conv2d: its backward is 2.4
times as fast on CPUs as that of Conv1d. The parameters are those of `tts_infer.vocoders.vocos`, so the trained weights
are the shipped ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.dsp.range_null import RangeNull
from tts_infer.vocoders.vocos import (
    HALF_KERNEL,
    KERNEL_SIZE,
    MAX_MAGNITUDE,
    ConvNeXtBlock,
    ISTFTHead,
    VocoderConfig,
    VocosBackbone,
)

Spectrum = tuple[Tensor, Tensor]


class Prediction(NamedTuple):
    """What a vocoder makes of a mel: audio of (B, T), and what it is made of, of (B, L, N)."""

    audio: Tensor
    log_magnitude: Tensor
    phase: Tensor
    spectrum: Spectrum  # real and imaginary part

    def limit_gradients(self, limit: float) -> None:
        """Limit the gradients by the logarithm and the phase of each bin, when they come.

        Through refinement, and through norms that weigh bad frames, a few bins get gradients that are a thousand times
        as large as the others.
        """
        for part in (self.log_magnitude, self.phase):
            part.register_hook(lambda gradient: gradient.clamp(-limit, limit))


class Generator(nn.Module):
    """Log-mel to waveform, and what losses look at besides.

    Shape: (B, L, n_mels) -> `Prediction`, T as in `ISTFT`
    """

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.backbone = VocosBackbone(config.backbone)
        self.head = ISTFTHead(config.head, "fft")
        self.range_null = RangeNull(config.mel, "fft") if config.range_null else None
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, log_mel: Tensor, bfloat16: bool = False) -> Prediction:
        with torch.autocast(log_mel.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            backbone = self.backbone
            x = backbone.norm(_embed(backbone.embed, log_mel).float())
            for block in backbone.convnext:
                x = _block(block, x)
            out = self.head.out(backbone.final_layer_norm(x))
        log_magnitude, phase = out.float().chunk(2, dim=-1)
        magnitude = log_magnitude.exp().clamp_max(MAX_MAGNITUDE)
        if self.range_null is not None:
            magnitude = self.range_null.magnitudes(magnitude, log_mel.exp())
        real, imag = magnitude * phase.cos(), magnitude * phase.sin()
        audio: Tensor = self.head.istft(real.transpose(1, 2), imag.transpose(1, 2))
        return Prediction(audio, log_magnitude, phase, (real, imag))


def _embed(embed: nn.Conv1d, log_mel: Tensor) -> Tensor:
    """The embedding convolution as one matrix product over its unfolded input."""
    batch, frames, channels = log_mel.shape
    taps = (
        F.pad(log_mel, (0, 0, HALF_KERNEL, HALF_KERNEL))
        .unfold(1, KERNEL_SIZE, 1)
        .reshape(batch, frames, channels * KERNEL_SIZE)
    )
    return F.linear(taps, embed.weight.flatten(1), embed.bias)


def _block(block: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(block, ConvNeXtBlock)
    conv = block.dwconv
    with torch.autocast(x.device.type, enabled=False):
        image = x.transpose(1, 2).unsqueeze(2)
        convolved = F.conv2d(image, conv.weight.unsqueeze(2), conv.bias, padding=(0, HALF_KERNEL), groups=conv.groups)
    frames = block.norm(convolved.squeeze(2).transpose(1, 2))
    return x + block.gamma * block.pwconv2(block.act(block.pwconv1(frames)))
