"""Vocos as PyTorch modules. Attribute names are the keys of the official checkpoints.

This is the readable reference: one class per block of the paper (arXiv 2306.00814, section 3), stages apart, so that
each can run on its own device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.config import BackboneConfig, HeadConfig, SpectralMethod, VocoderConfig
from tts_infer.dsp.mel import LogMel
from tts_infer.dsp.stft import ISTFT

# exp() of the predicted log-magnitude is cut off here. Source: vocos/heads.py ISTFTHead.
MAX_MAGNITUDE = 1e2
KERNEL_SIZE = 7
REACH = KERNEL_SIZE // 2  # frames on each side that a convolution needs


class Edges:
    """What the convolutions see beyond the ends of their input: zeros, as the official padding.

    A convolution of the backbone reads `edges(layer, x)`: frames, and how many zeros it puts at each end of them. It
    answers for as many frames as were given. Other ends - several lengths in one batch, a stream - are other `Edges`.
    """

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        """The input of convolution `layer`. Shape: (B, L, H) -> (B, L + 2 (REACH - zeros), H), zeros"""
        return x, REACH


def answered(x: Tensor, zeros: int) -> Tensor:
    """The frames that a convolution answers for. Shape: (B, L + 2 (REACH - zeros), H) -> (B, L, H)"""
    cut = REACH - zeros
    return x[:, cut : x.shape[1] - cut] if cut else x


class RaggedEdges(Edges):
    """The ends of items of several lengths in one batch: whatever lies beyond an item's own end is zero.

    Without it, layer after layer carries what it made of the padding back into the last valid frames.

    Args:
        valid: 1.0 where a frame belongs to its item, else 0.0, of shape (B, L, 1).
    """

    def __init__(self, valid: Tensor) -> None:
        self.valid = valid

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        return x * self.valid, REACH


class StreamEdges(Edges):
    """The ends of a piece of a longer signal: the frames before it, kept for each convolution.

    Every convolution answers with as many frames as it is given, REACH frames late: the input of layer i begins
    REACH * i frames before the piece. Frames before the first and after the last are zeroed on the way.
    """

    def __init__(self) -> None:
        self.history: dict[int, Tensor] = {}
        self.first = 0  # index of the piece's first frame in the signal
        self.length: int | None = None  # of the signal, once known

    def ended(self) -> StreamEdges:
        """A copy for which the signal ends here. What is kept is replaced, never changed, so it can be shared."""
        copy = StreamEdges()
        copy.history, copy.first, copy.length = dict(self.history), self.first, self.first
        return copy

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        start, frames = self.first - REACH * layer, x.shape[1]
        before = min(frames, max(0, -start))
        after = 0 if self.length is None else min(frames - before, max(0, start + frames - self.length))
        if before or after:
            x = F.pad(x[:, before : frames - after], (0, 0, before, after))
        if layer not in self.history:
            self.history[layer] = x.new_zeros(x.shape[0], 2 * REACH, x.shape[2])
        extended = torch.cat([self.history[layer], x], dim=1)
        self.history[layer] = extended[:, -2 * REACH :].clone()
        return extended, 0


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer network per frame, scaled and added to its input.

    Shape: (B, L + 2 (REACH - zeros), H), zeros -> (B, L, H)
    Source: vocos/modules.py ConvNeXtBlock, without its conditional norm; padding is left to `Edges`.
    """

    def __init__(self, dim: int, intermediate_dim: int, layer_scale: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(dim, dim, KERNEL_SIZE, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, intermediate_dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(intermediate_dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Tensor, zeros: int) -> Tensor:
        frames = self.norm(_convolve(self.dwconv, x, zeros))
        frames = self.pwconv2(self.act(self.pwconv1(frames)))
        return answered(x, zeros) + self.gamma * frames


def _convolve(convolution: nn.Conv1d, x: Tensor, zeros: int) -> Tensor:
    """Convolve over time, with zeros at both ends. Shape: (B, L, C) -> (B, L + 2 (zeros - REACH), H)"""
    weight, bias, groups = convolution.weight, convolution.bias, convolution.groups
    return F.conv1d(x.transpose(1, 2), weight, bias, padding=zeros, groups=groups).transpose(1, 2)


class VocosBackbone(nn.Module):
    """Embedding convolution and a stack of ConvNeXt blocks, all at the frame rate.

    Shape: (B, C, L) -> (B, L, H)
    Source: vocos/models.py VocosBackbone.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        layer_scale = config.layer_scale_init_value or 1 / config.num_layers
        self.embed = nn.Conv1d(config.input_channels, config.dim, KERNEL_SIZE)
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.convnext = nn.ModuleList(
            ConvNeXtBlock(config.dim, config.intermediate_dim, layer_scale) for _ in range(config.num_layers)
        )
        self.final_layer_norm = nn.LayerNorm(config.dim, eps=1e-6)

    @property
    def hidden_size(self) -> int:
        """H, the channels between the blocks."""
        return self.embed.out_channels

    @property
    def reach(self) -> int:
        """Frames on each side that one frame of the output depends on."""
        return REACH * (1 + len(self.convnext))

    def forward(self, features: Tensor, edges: Edges | None = None) -> Tensor:
        edges = edges or Edges()
        x = self.norm(_convolve(self.embed, *edges(0, features.transpose(1, 2))))
        for layer, block in enumerate(self.convnext, start=1):
            x = block(*edges(layer, x))
        hidden: Tensor = self.final_layer_norm(x)
        return hidden


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
