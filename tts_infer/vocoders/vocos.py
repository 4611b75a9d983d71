"""The Vocos family: ConvNeXt blocks at the frame rate, and an inverse STFT (arXiv 2306.00814).

The modules are written to be read: one class for each block of the paper, section 3. Attribute names are the keys of
the official checkpoints. Every forward takes and returns tensors only, so that any engine can compile it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.config import MelConfig, Padding, SpectralMethod, require_positive
from tts_infer.dsp.mel import LogMel
from tts_infer.dsp.stft import ISTFT
from tts_infer.errors import ConfigError
from tts_infer.stages import PROBE_FRAMES, Stage, Tensors
from tts_infer.vocoders.features import MelSpec
from tts_infer.vocoders.networks import Convolutional, Framewise
from tts_infer.vocoders.padding import HALF_KERNEL, KERNEL_SIZE, CachedPadding, conv_padding, crop
from tts_infer.vocoders.spectral import MelStage, with_refinement

# Upper limit of the predicted magnitude. Source: vocos/heads.py ISTFTHead.
MAX_MAGNITUDE = 1e2


@dataclass(frozen=True)
class BackboneConfig:
    """`VocosBackbone`: ConvNeXt blocks at the frame rate. Source: arXiv 2306.00814, section 3."""

    input_channels: int = 100
    dim: int = 512
    intermediate_dim: int = 1536
    num_layers: int = 8
    layer_scale_init_value: float | None = None  # used by training only
    adanorm_num_embeddings: int | None = None

    def __post_init__(self) -> None:
        require_positive(self, "input_channels", "dim", "intermediate_dim", "num_layers")
        if self.adanorm_num_embeddings is not None:
            raise ConfigError(
                "adanorm_num_embeddings is {got}: conditional (EnCodec) backbones are not supported yet; use a vocoder "
                "with mel input",
                code="adanorm-unsupported",
                got=self.adanorm_num_embeddings,
            )


@dataclass(frozen=True)
class HeadConfig:
    """`ISTFTHead`: one linear layer to log-magnitude and phase, then the inverse STFT."""

    dim: int = 512
    n_fft: int = 1024
    hop_length: int = 256
    padding: Padding = "same"

    def __post_init__(self) -> None:
        require_positive(self, "dim", "n_fft", "hop_length")


@dataclass(frozen=True)
class VocoderConfig:
    """The configuration of a whole vocoder: mel convention, backbone and head."""

    mel: MelConfig = field(default_factory=MelConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=lambda: HeadConfig(padding="center"))

    def __post_init__(self) -> None:
        pairs = (
            (
                "feature_extractor.n_mels",
                self.mel.n_mels,
                "backbone.input_channels",
                self.backbone.input_channels,
            ),
            ("backbone.dim", self.backbone.dim, "head.dim", self.head.dim),
            ("feature_extractor.hop_length", self.mel.hop_length, "head.hop_length", self.head.hop_length),
        )
        for left, a, right, b in pairs:
            if a != b:
                raise ConfigError(
                    "{left} is {a} but {right} is {b}; they must be equal",
                    code="sections-differ",
                    left=left,
                    a=a,
                    right=right,
                    b=b,
                )


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer network for each frame. The result is scaled and added to x.

    Shape: (B, L + 2 (HALF_KERNEL - zeros), H), zeros -> (B, L, H)
    Source: vocos/modules.py ConvNeXtBlock, without its conditional norm; `ConvPadding` does the padding.
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
        return crop(x, zeros) + self.gamma * frames


def _convolve(convolution: nn.Conv1d, x: Tensor, zeros: int) -> Tensor:
    """Convolve over time, with zeros at both ends. Shape: (B, L, C) -> (B, L + 2 (zeros - HALF_KERNEL), H)"""
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
    def receptive_field(self) -> int:
        """Frames on each side that one frame of the output depends on."""
        return HALF_KERNEL * (1 + len(self.convnext))

    def forward(self, features: Tensor, valid: Tensor | None = None, history: Tensors | None = None) -> Any:
        """Compute whole signals, or a piece of longer ones.

        Args:
            features: whole signals, or the next frames of a stream.
            valid: see `MaskedPadding`, and for pieces `CachedPadding`.
            history: for pieces only: the history that the last call returned.

        Returns:
            The hidden frames; for pieces also the new history.
        """
        padding = conv_padding(valid, history)
        x = self.norm(_convolve(self.embed, *padding(0, features.transpose(1, 2))))
        for layer, block in enumerate(self.convnext, start=1):
            x = block(*padding(layer, x))
        hidden: Tensor = self.final_layer_norm(x)
        return (hidden, tuple(padding.history)) if isinstance(padding, CachedPadding) else hidden


def make_istft(config: HeadConfig, method: SpectralMethod) -> ISTFT:
    """The inverse STFT of a head's spectrum."""
    return ISTFT(config.n_fft, config.hop_length, padding=config.padding, method=method)


class ISTFTHead(nn.Module):
    """Linear layer to log-magnitude and phase. Its `istft` turns the spectrum into audio; that is another stage.

    Shape: (B, L, H) -> real, imag of (B, N, L), float32, N = n_fft // 2 + 1
    Source: vocos/heads.py ISTFTHead, which uses complex numbers from here on.
    """

    def __init__(self, config: HeadConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__()
        self.out = nn.Linear(config.dim, config.n_fft + 2)
        self.istft = make_istft(config, method)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        # float32 from here on: half precision is too coarse for phases and exponentials
        log_magnitude, phase = self.out(hidden).float().chunk(2, dim=-1)
        magnitude = log_magnitude.exp().clamp_max(MAX_MAGNITUDE)
        return (magnitude * phase.cos()).transpose(1, 2), (magnitude * phase.sin()).transpose(1, 2)


class Vocos(nn.Module):
    """The modules of a vocoder: `feature_extractor`, `backbone`, `head` and `head.istft`.

    Shape: mel of (B, n_mels, L) -> audio of (B, T), T as in `ISTFT`
    """

    def __init__(self, config: VocoderConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__()
        self.config = config
        self.feature_extractor = LogMel(config.mel, method)
        self.backbone = VocosBackbone(config.backbone)
        self.head = ISTFTHead(config.head, method)

    def forward(self, features: Tensor) -> Tensor:
        real, imag = self.head(self.backbone(features))
        audio: Tensor = self.head.istft(real, imag)
        return audio


class VocosFamily:
    """Vocos with mel input. Entry of `FAMILIES`."""

    class_paths: ClassVar[Mapping[str, Mapping[str, type]]] = {
        "feature_extractor": {"vocos.feature_extractors.MelSpectrogramFeatures": MelConfig},
        "backbone": {"vocos.models.VocosBackbone": BackboneConfig},
        "head": {"vocos.heads.ISTFTHead": HeadConfig},
    }
    model: ClassVar[type[nn.Module]] = Vocos

    def configure(self, sections: Mapping[str, Any]) -> VocoderConfig:
        return VocoderConfig(sections["feature_extractor"], sections["backbone"], sections["head"])

    def features(self, config: VocoderConfig) -> MelSpec:
        return MelSpec(config.mel)

    def build(self, config: VocoderConfig) -> Vocos:
        return Vocos(config, method="fft")  # "fft" needs no matrices; the placement may choose "matmul" later

    def stages(self, model: Vocos) -> list[Stage]:
        probe = (PROBE_FRAMES, model.config.head.dim)
        return [
            MelStage.of(model.feature_extractor),
            backbone_stage(model.backbone),
            Framewise("head", model.head, ("hidden",), ("real", "imag"), half=True, probe_shape=probe),
            *with_refinement(model.config.mel, model.head.istft),
        ]

    def n_samples(self, config: VocoderConfig, frames: int) -> int:
        hop = config.head.hop_length
        return max(0, frames - 1) * hop if config.head.padding == "center" else frames * hop

    def constants(self, model: Vocos) -> dict[str, Tensor]:
        return {
            "feature_extractor.mel_spec.spectrogram.window": model.feature_extractor.stft.window,
            "feature_extractor.mel_spec.mel_scale.fb": model.feature_extractor.filterbank.matrix,
            "head.istft.window": model.head.istft.window,
        }


def backbone_stage(backbone: VocosBackbone) -> Convolutional:
    """The backbone as a stage. In a stream, each convolution keeps the last 2 HALF_KERNEL frames of its input."""
    channels, hidden = backbone.embed.in_channels, backbone.embed.out_channels
    layers = len(backbone.convnext)
    return Convolutional(
        "backbone",
        backbone,
        ("mel",),
        ("hidden",),
        half=True,
        channels=channels,
        kept=((2 * HALF_KERNEL, channels), *[(2 * HALF_KERNEL, hidden)] * layers),
        hidden=hidden,
        context=backbone.receptive_field,
        lag=HALF_KERNEL * layers,
    )
