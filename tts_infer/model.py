"""Vocos as PyTorch modules. Attribute names are the keys of the official checkpoints.

This is the readable reference: one class per block of the paper (arXiv 2306.00814, section 3), stages apart, so that
each can run on its own device.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tts_infer.config import BackboneConfig, HeadConfig, SpectralMethod, VocoderConfig
from tts_infer.mel import LogMel
from tts_infer.spectral import ISTFT

# exp() of the predicted log-magnitude is cut off here. Source: vocos/heads.py ISTFTHead.
MAX_MAGNITUDE = 1e2
KERNEL_SIZE = 7


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer network per frame, scaled and added to its input.

    Shape: (B, H, L) -> (B, H, L)
    Source: vocos/modules.py ConvNeXtBlock, without its conditional norm.
    """

    def __init__(self, dim: int, intermediate_dim: int, layer_scale: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(dim, dim, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, intermediate_dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(intermediate_dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        frames = self.norm(self.dwconv(x).transpose(1, 2))
        frames = self.pwconv2(self.act(self.pwconv1(frames)))
        return x + (self.gamma * frames).transpose(1, 2)


class VocosBackbone(nn.Module):
    """Embedding convolution and a stack of ConvNeXt blocks, all at the frame rate.

    Shape: (B, C, L) -> (B, L, H)
    Source: vocos/models.py VocosBackbone.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        layer_scale = config.layer_scale_init_value or 1 / config.num_layers
        self.embed = nn.Conv1d(config.input_channels, config.dim, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.convnext = nn.ModuleList(
            ConvNeXtBlock(config.dim, config.intermediate_dim, layer_scale) for _ in range(config.num_layers)
        )
        self.final_layer_norm = nn.LayerNorm(config.dim, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        x = self.norm(self.embed(features).transpose(1, 2)).transpose(1, 2)
        for block in self.convnext:
            x = block(x)
        return self.final_layer_norm(x.transpose(1, 2))


def make_istft(config: HeadConfig, method: SpectralMethod) -> ISTFT:
    """The inverse STFT that a head's spectrum is meant for."""
    return ISTFT(config.n_fft, config.hop_length, padding=config.padding, method=method)


class ISTFTHead(nn.Module):
    """Linear layer to log-magnitude and phase. `istft` turns its spectrum into audio, as a stage of its own.

    Shape: (B, L, H) -> real, imag of (B, N, L), float32, N = n_fft // 2 + 1
    Source: vocos/heads.py ISTFTHead, which continues in complex numbers.
    """

    def __init__(self, config: HeadConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__()
        self.out = nn.Linear(config.dim, config.n_fft + 2)
        self.istft = make_istft(config, method)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        # float32 from here on: half precision has too few digits for a phase or an exponential
        log_magnitude, phase = self.out(hidden).float().chunk(2, dim=-1)
        magnitude = log_magnitude.exp().clamp_max(MAX_MAGNITUDE)
        return (magnitude * phase.cos()).transpose(1, 2), (magnitude * phase.sin()).transpose(1, 2)


class Vocos(nn.Module):
    """The stages of a vocoder: `feature_extractor`, `backbone`, `head` and `head.istft`.

    Shape: mel of (B, n_mels, L) -> audio of (B, T), T as in `ISTFT`
    """

    def __init__(self, config: VocoderConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__()
        self.config = config
        self.feature_extractor = LogMel(config.mel, method)
        self.backbone = VocosBackbone(config.backbone)
        self.head = ISTFTHead(config.head, method)

    def use_methods(self, mel: SpectralMethod, istft: SpectralMethod) -> None:
        """Compute the mel and istft stages by other methods. Both are free of weights, so they are simply rebuilt."""
        if self.feature_extractor.stft.method != mel:
            self.feature_extractor = LogMel(self.config.mel, mel)
        if self.head.istft.method != istft:
            self.head.istft = make_istft(self.config.head, istft)

    def forward(self, features: Tensor) -> Tensor:
        real, imag = self.head(self.backbone(features))
        audio: Tensor = self.head.istft(real, imag)
        return audio
