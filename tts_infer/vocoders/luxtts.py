"""The vocoder of LuxTTS: a mel of 24 kHz -> Vocos at 24 kHz below 12 kHz, and a second head at 48 kHz above.

The hidden frames of one backbone go to two heads: as they are, and at twice their rate. Both signals are joined at
12 kHz. The upsampler's group norms and the crossover see the whole signal, so there are no pieces and no streams.

Source: ysharma3501/LinaCodec, src/linacodec/vocoder/vocos.py and upsampler_block.py; ysharma3501/LuxTTS,
zipvoice/luxvoice.py, which sets the crossover to 12 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig, SpectralMethod, require_positive
from tts_infer.dsp.crossover import HighPass
from tts_infer.dsp.resample import Resampled
from tts_infer.errors import ConfigError
from tts_infer.stages import PROBE_BATCH, PROBE_FRAMES, Stage, Tensors, wave
from tts_infer.vocoders.features import MelSpec
from tts_infer.vocoders.heads import HeadConfig, ISTFTHead, head_samples
from tts_infer.vocoders.networks import WHOLE_FRAMES, Whole, WholeSignal
from tts_infer.vocoders.spectral import METHODS, MelStage
from tts_infer.vocoders.vocos import (
    BackboneConfig,
    VocoderConfig,
    Vocos,
    VocosFamily,
    backbone_stage,
    require_equal,
)

RATE = 2  # of the audio, and of the second head's frames, over those of the mel
CROSSOVER = 0.5  # 12 kHz, as a share of the Nyquist frequency of the audio
GROUPS = 32
MOST_FRAMES_BY_PRODUCTS = 4096  # the tables of the crossover grow with the square of it


@dataclass(frozen=True)
class UpsamplerConfig:
    """`UpSamplerBlock`: transposed convolutions that halve the channels, each with a residual block after it."""

    in_channels: int
    upsample_factors: tuple[int, ...]
    kernel_sizes: tuple[int, ...] = ()  # none: 8 each

    def __post_init__(self) -> None:
        require_positive(self, "in_channels")
        factors, kernels = self.upsample_factors, self.kernels
        pairs = list(zip(kernels, factors, strict=False))
        self._require("upsample_factors", 0 < len(factors) < 8 and min(factors) > 0, "a few whole numbers above 0")
        self._require("upsample_factors", math.prod(factors) == RATE, f"factors of {RATE}")
        self._require("kernel_sizes", len(kernels) == len(factors), "as many as upsample_factors")
        self._require("kernel_sizes", all(kernel >= factor for kernel, factor in pairs), "no less than the factors")
        channels = GROUPS * 2 ** len(factors)
        self._require("in_channels", self.in_channels % channels == 0, f"a multiple of {channels}")

    def _require(self, key: str, fits: bool, allowed: str) -> None:
        if not fits:
            text = "{key} is {got}; allowed: {allowed}"
            raise ConfigError(text, code="config-value", key=key, got=getattr(self, key), allowed=allowed)

    @property
    def kernels(self) -> tuple[int, ...]:
        """The size of each kernel."""
        return self.kernel_sizes or (8,) * len(self.upsample_factors)

    @property
    def extra(self) -> int:
        """Frames that it makes more than `RATE` times the given ones."""
        given = 1
        for kernel, factor in zip(self.kernels, self.upsample_factors, strict=True):
            given = (given - 1) * factor + kernel - 2 * ((kernel - factor) // 2)
        return given - RATE


@dataclass(frozen=True)
class LuxTTSConfig:
    """A whole vocoder: that of Vocos at the rate of the mel, an upsampler, and the head of the upper band."""

    vocos: VocoderConfig
    upsampler: UpsamplerConfig
    head_48k: HeadConfig

    def __post_init__(self) -> None:
        head, upper = self.vocos.head, self.head_48k
        require_equal("backbone.dim", self.vocos.backbone.dim, "upsampler.in_channels", self.upsampler)
        for name in ("dim", "hop_length", "padding"):
            require_equal(f"head.{name}", getattr(head, name), f"head_48k.{name}", upper)

    @property
    def mel(self) -> MelConfig:
        """The mel convention, at half the rate of the audio."""
        return self.vocos.mel


class Snake(nn.Module):
    """Periodic activation: x + sin(alpha x)^2 / alpha, with an alpha for each channel. Shape: (B, C, L) -> the same"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha * x).sin().square() / (self.alpha + 1e-9)


class ResidualBlock(nn.Module):
    """Two convolutions, each after a norm over the whole signal and a Snake. Shape: (B, C, L) -> the same"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(GROUPS, channels, eps=1e-6) for _ in range(2))
        self.snake1, self.snake2 = Snake(channels), Snake(channels)
        self.conv1, self.conv2 = (nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.snake1(self.norm1(x)))
        residual: Tensor = x + self.conv2(self.snake2(self.norm2(h)))
        return residual


class Upsampler(nn.Module):
    """Hidden frames at `RATE` times their rate. Shape: (B, L, H) -> (B, RATE L + extra, H)"""

    def __init__(self, config: UpsamplerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.in_channels
        self.upsample_layers, self.resnet_blocks = nn.ModuleList(), nn.ModuleList()
        for kernel, factor in zip(config.kernels, config.upsample_factors, strict=True):
            pad = (kernel - factor) // 2
            self.upsample_layers.append(nn.ConvTranspose1d(width, width // 2, kernel, factor, padding=pad))
            self.resnet_blocks.append(ResidualBlock(width // 2))
            width //= 2
        self.out_proj = nn.Linear(width, config.in_channels)
        self.final_snake = Snake(config.in_channels)

    def forward(self, hidden: Tensor) -> Tensor:
        x = hidden.transpose(1, 2)
        for up, block in zip(self.upsample_layers, self.resnet_blocks, strict=True):
            x = block(up(x))
        frames = self.out_proj(x.transpose(1, 2)).transpose(1, 2)
        upsampled: Tensor = self.final_snake(frames)
        return upsampled.transpose(1, 2)


class Crossover(nn.Module):
    """The lower band of one signal, at half the rate, and the upper band of the other.

    Shape: (B, T), (B, at least 2 T) -> (B, 2 T)
    """

    def __init__(self, method: SpectralMethod) -> None:
        super().__init__()
        self.doubled, self.above = Resampled(1, RATE), HighPass(CROSSOVER, method)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        lower = self.doubled(low)
        upper: Tensor = self.above(high[:, : lower.shape[1]] - lower)
        return lower + upper


@dataclass(frozen=True)
class UpsampleStage(Whole):
    """Hidden frames at twice their rate. Shape: (B, L, H) -> (B, 2 L + extra, H)"""

    @property
    def frame_axis(self) -> int:
        return 1

    def item(self, inputs: Tensors, index: int, frames: int) -> Tensors:
        return (inputs[0][index : index + 1, :frames],)

    def marks(self, valid: Tensor) -> Tensor:
        repeated = valid.expand(-1, -1, RATE).reshape(valid.shape[0], -1, 1)
        return torch.cat([valid[:, :1].expand(-1, self.module.config.extra, -1), repeated], dim=1)

    def probe(self) -> Tensors:
        return (wave(PROBE_BATCH, PROBE_FRAMES, self.module.config.in_channels),)


@dataclass(frozen=True)
class CrossoverStage(Whole):
    """The two signals joined. Shape: (B, T), (B, T') -> (B, 2 T)

    Args:
        head: of the lower band.
        extra: frames that the upsampler makes more than twice the given ones.
    """

    head: HeadConfig | None = None
    extra: int = 0

    methods: ClassVar[tuple[str, ...]] = METHODS

    def by(self, method: str) -> CrossoverStage:
        most = MOST_FRAMES_BY_PRODUCTS if method == "matmul" else WHOLE_FRAMES
        module = self.module if method == self.method else Crossover(cast(SpectralMethod, method))
        return replace(self, module=module, method=method, max_frames=most)

    def item(self, inputs: Tensors, index: int, frames: int) -> Tensors:
        samples = head_samples(self.head, (frames - self.extra) // RATE)
        low, high = (one[index : index + 1] for one in inputs)
        return low[:, :samples], high[:, : RATE * samples]

    def probe(self) -> Tensors:
        assert self.head is not None
        samples = PROBE_FRAMES * self.head.hop_length
        return wave(PROBE_BATCH, samples), wave(PROBE_BATCH, RATE * samples)


class LuxTTS(Vocos):
    """The stages of the vocoder: those of `Vocos`, `upsampler`, `head_48k` and the crossover.

    Shape: mel of (B, n_mels, L) -> audio of (B, T) at twice the mel's rate
    """

    def __init__(self, config: LuxTTSConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__(config.vocos, method)
        self.config: Any = config
        self.upsampler, self.head_48k = Upsampler(config.upsampler), ISTFTHead(config.head_48k, method)
        self.crossover, self.halved = Crossover(method), Resampled(RATE, 1)

    def forward(self, features: Tensor, bandwidth_id: Tensor | None = None) -> Tensor:
        hidden = self.backbone(features)
        low, high = self.head.audio(hidden), self.head_48k.audio(self.upsampler(hidden))
        audio: Tensor = self.crossover(low, high)
        return audio


class LuxTTSFamily:
    """The vocoder of LuxTTS. Entry of `FAMILIES`."""

    class_paths: ClassVar[Mapping[str, Mapping[str, type]]] = {
        "feature_extractor": VocosFamily.class_paths["feature_extractor"],
        "backbone": {"vocos.models.VocosBackbone": BackboneConfig},
        "head": {"vocos.heads.ISTFTHead": HeadConfig},
        "upsampler": {"linacodec.vocoder.upsampler_block.UpSamplerBlock": UpsamplerConfig},
        "head_48k": {"vocos.heads.ISTFTHead": HeadConfig},
    }
    model: ClassVar[type[nn.Module]] = LuxTTS

    def configure(self, sections: Mapping[str, Any]) -> LuxTTSConfig:
        vocos = VocoderConfig(sections["feature_extractor"], sections["backbone"], sections["head"])
        return LuxTTSConfig(vocos, sections["upsampler"], sections["head_48k"])

    def features(self, config: LuxTTSConfig) -> MelSpec:
        return MelSpec(config.mel, rate=RATE)

    def build(self, config: LuxTTSConfig) -> LuxTTS:
        return LuxTTS(config, method="fft")  # as `VocosFamily.build`

    def stages(self, model: LuxTTS) -> list[Stage]:
        config: LuxTTSConfig = model.config
        head, low = model.head.stages(None)
        upper, high = model.head_48k.stages(None)
        chain: list[Stage] = [
            backbone_stage(model.backbone, "mel"),
            head,
            replace(low, gives=("low",)),
            UpsampleStage("upsample", model.upsampler, ("hidden",), ("hidden_48k",), half=True),
            replace(upper, name="head_48k", takes=("hidden_48k",)),
            replace(high, name="istft_48k", gives=("high",), follows="istft"),
            CrossoverStage(
                "crossover",
                model.crossover,
                ("low", "high"),
                ("audio",),
                method=model.crossover.above.method,
                follows="istft",
                head=config.vocos.head,
                extra=config.upsampler.extra,
            ),
        ]
        halve = WholeSignal("halve", model.halved, ("audio",), ("halved",), step=RATE * config.mel.hop_length)
        mel = replace(MelStage.of(model.feature_extractor), takes=("halved",))
        return [halve, mel, *(replace(stage, max_frames=WHOLE_FRAMES) for stage in chain)]

    def n_samples(self, config: LuxTTSConfig, frames: int) -> int:
        return RATE * head_samples(config.vocos.head, frames)

    def constants(self, model: LuxTTS) -> dict[str, Tensor]:
        own = {f"head_48k.{key}": value for key, value in model.head_48k.constants().items()}
        return VocosFamily().constants(model) | own
