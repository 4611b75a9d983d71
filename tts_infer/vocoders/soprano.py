"""The decoder of Soprano: hidden frames of a language model -> four times as many frames -> Vocos at 32 kHz.

Source: ekwek1/soprano, soprano/vocos/decoder.py and soprano/onnx_export/export_decoder.py (the bins that are zeroed).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tts_infer.config import SpectralMethod, VocoderPreset, require_positive
from tts_infer.devices import CPU
from tts_infer.dsp import register_constant
from tts_infer.stages import PIECE_FRAMES, PROBE_BATCH, PROBE_FRAMES, Stage, State, Tensors, wave
from tts_infer.vocoders.family import Shapes, count_of
from tts_infer.vocoders.features import LatentSpec
from tts_infer.vocoders.heads import HeadConfig, ISTFTHead
from tts_infer.vocoders.vocos import EMBED, FIRST_LAYER, HEAD_OUT, BackboneConfig, VocosBackbone, backbone_stage

SAMPLE_RATE = 32000
_CLASS = "soprano.vocos.decoder.SopranoDecoder"
_EMBED, _LAYER, _DEPTHWISE = f"decoder.{EMBED}", f"decoder.{FIRST_LAYER}", "decoder.convnext.0.dwconv.weight"


@dataclass(frozen=True)
class SopranoConfig:
    """`SopranoDecoder`; the defaults are the sizes of the published checkpoints."""

    num_input_channels: int = 512
    decoder_num_layers: int = 8
    decoder_dim: int = 768
    decoder_intermediate_dim: int | None = None  # None: 3 decoder_dim
    hop_length: int = 512
    n_fft: int = 2048
    upscale: int = 4
    dw_kernel: int = 3

    def __post_init__(self) -> None:
        require_positive(self, "upscale")
        _ = self.backbone, self.head  # which check the other sizes

    @property
    def backbone(self) -> BackboneConfig:
        """Its backbone, whose embedding looks at one frame."""
        return BackboneConfig(
            self.num_input_channels,
            self.decoder_dim,
            self.decoder_intermediate_dim or 3 * self.decoder_dim,
            self.decoder_num_layers,
            input_kernel_size=1,
            dw_kernel_size=self.dw_kernel,
        )

    @property
    def head(self) -> HeadConfig:
        """Its head."""
        return HeadConfig(self.decoder_dim, self.n_fft, self.hop_length, "center")


class Interpolation(nn.Module):
    """Linear interpolation over time: `factor` - 1 new frames between every two.

    Shape: (B, C, L) -> (B, C, factor (L - 1) + 1), L >= 1
    Source: torch.nn.functional.interpolate(mode="linear", align_corners=True), of this size.
    """

    weights: Tensor

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        register_constant(self, "weights", np.arange(factor) / factor)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[..., :-1, None], x[..., 1:, None]
        between = left * (1 - self.weights) + right * self.weights
        return torch.cat([between.flatten(2), x[..., -1:]], dim=2)

    def extra_repr(self) -> str:
        return str(self.factor)


@dataclass(frozen=True)
class InterpolationStage(Stage):
    """Frames at a higher rate. A stream keeps the last frame, from which the next ones are reached.

    Shape: (B, C, L) -> (B, C, factor (L - 1) + 1)
    """

    channels: int = 0

    @property
    def rate(self) -> int:
        factor: int = self.module.factor
        return factor

    def initial_state(self, batch: int, device: torch.device = CPU) -> State:
        return {"last": torch.zeros(batch, self.channels, 0, dtype=torch.float32, device=device)}

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        (x,) = inputs
        if state is None:
            return (self.module(x),), {}
        given = state["last"].shape[2]
        known = torch.cat([state["last"], x], dim=2)
        frames = self.module(known)[..., given:] if known.shape[2] else known
        return (frames,), {"last": known[..., -1:].clone()}

    def marks(self, valid: Tensor) -> Tensor:
        left, right = valid[:, :-1], valid[:, 1:]
        between = torch.cat([left, (left * right).expand(-1, -1, self.rate - 1)], dim=2)
        return torch.cat([between.reshape(valid.shape[0], -1, 1), valid[:, -1:]], dim=1)

    def probe(self) -> Tensors:
        return (wave(PROBE_BATCH, self.channels, PROBE_FRAMES),)


class BandLimitedHead(ISTFTHead):
    """`ISTFTHead` without DC and Nyquist. Shape: (B, L, H) -> real, imag of (B, N, L)"""

    kept: Tensor

    def __init__(self, config: HeadConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__(config, method)
        kept = np.ones((config.n_fft // 2 + 1, 1))
        kept[[0, -1]] = 0.0
        register_constant(self, "kept", kept)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        real, imag = super().forward(hidden)
        return real * self.kept, imag * self.kept


class SopranoDecoder(nn.Module):
    """The stages of the decoder: `upsample`, `decoder` (its backbone), `head` and `head.istft`.

    Shape: (B, C, L) -> (B, T), T = (L - 1) x upscale x hop_length
    """

    def __init__(self, config: SopranoConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__()
        self.config = config
        self.upsample = Interpolation(config.upscale)
        self.decoder = VocosBackbone(config.backbone)
        self.head = BandLimitedHead(config.head, method)

    def forward(self, features: Tensor) -> Tensor:
        return self.head.audio(self.decoder(self.upsample(features)))


class SopranoFamily:
    """The decoder of Soprano. Entry of `FAMILIES`."""

    class_paths: ClassVar[Mapping[str, Mapping[str, type]]] = {"decoder": {_CLASS: SopranoConfig}}
    model: ClassVar[type[nn.Module]] = SopranoDecoder
    told_by: ClassVar[tuple[str, ...]] = (_EMBED, _LAYER.format(0), _DEPTHWISE, HEAD_OUT)

    def document(self, shapes: Shapes, preset: VocoderPreset) -> dict[str, Any] | None:
        """Windows overlap by three quarters, and frames are interpolated four times, as in the published decoders."""
        embed, block, depthwise, out = (shapes.get(name, ()) for name in self.told_by)
        if [len(embed), len(block), len(depthwise), len(out)] != [3, 2, 3, 2] or embed[2] != 1:
            return None
        n_fft = out[0] - 2
        sizes = {
            "num_input_channels": embed[1],
            "decoder_num_layers": count_of(shapes, _LAYER),
            "decoder_dim": embed[0],
            "decoder_intermediate_dim": block[0],
            "dw_kernel": depthwise[2],
            "n_fft": n_fft,
            "hop_length": n_fft // 4,
        }
        return {"decoder": {"class_path": _CLASS, "init_args": sizes}}

    def configure(self, sections: Mapping[str, Any]) -> SopranoConfig:
        config: SopranoConfig = sections["decoder"]
        return config

    def features(self, config: SopranoConfig) -> LatentSpec:
        return LatentSpec(SAMPLE_RATE, config.upscale * config.hop_length, config.num_input_channels)

    def build(self, config: SopranoConfig) -> SopranoDecoder:
        return SopranoDecoder(config, method="fft")  # as `VocosFamily.build`

    def stages(self, model: SopranoDecoder) -> list[Stage]:
        config = model.config
        upsample = InterpolationStage(
            "upsample",
            model.upsample,
            ("features",),
            ("upsampled",),
            channels=config.num_input_channels,
            max_frames=PIECE_FRAMES // config.upscale,
        )
        return [upsample, backbone_stage(model.decoder, "upsampled"), *model.head.stages(None)]

    def n_samples(self, config: SopranoConfig, frames: int) -> int:
        return max(0, frames - 1) * config.upscale * config.hop_length

    def constants(self, model: SopranoDecoder) -> dict[str, Tensor]:
        return {f"head.{key}": value for key, value in model.head.constants().items()}
