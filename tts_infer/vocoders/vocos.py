"""The Vocos family: ConvNeXt blocks at the frame rate, and an inverse STFT (arXiv 2306.00814).

The modules are written to be read: one class for each block of the paper, section 3. Attribute names are the keys of
the official checkpoints. Every forward takes and returns tensors only, so that any engine can compile it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from tts_infer.config import MelConfig, SpectralMethod, VocoderPreset
from tts_infer.dsp.mel import LogMel
from tts_infer.dsp.range_null import RangeNull
from tts_infer.errors import ConfigError
from tts_infer.stages import Stage
from tts_infer.vocoders.conditions import Condition
from tts_infer.vocoders.convnext import BackboneConfig, ConvNeXtBlock, VocosBackbone
from tts_infer.vocoders.family import Shapes, count_of
from tts_infer.vocoders.features import MelSpec
from tts_infer.vocoders.heads import (
    HEADS,
    MAX_MAGNITUDE,
    CosHeadConfig,
    HeadConfig,
    ISTFTHead,
    SymExpHeadConfig,
    head_samples,
    make_istft,
)
from tts_infer.vocoders.networks import Convolutional
from tts_infer.vocoders.padding import HALF_KERNEL, KERNEL_SIZE
from tts_infer.vocoders.resnet import ResNetConfig, VocosResNetBackbone
from tts_infer.vocoders.spectral import MelStage, RangeNullStage

__all__ = [
    "HALF_KERNEL",
    "KERNEL_SIZE",
    "MAX_MAGNITUDE",
    "BackboneConfig",
    "ConvNeXtBlock",
    "HeadConfig",
    "ISTFTHead",
    "Vocos",
    "VocosBackbone",
    "VocosFamily",
    "make_istft",
]

CONDITION = "bandwidth_id"  # chooses the norms of a backbone with several
EXTENSION = "tts_infer"  # the key of config.yaml for `Extension`


@dataclass(frozen=True)
class VocoderConfig:
    """The configuration of a whole vocoder: mel convention, backbone and head."""

    mel: MelConfig = field(default_factory=MelConfig)
    # a checkpoint's config.yaml may name others, see `BACKBONES` and `HEADS`
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=lambda: HeadConfig(padding="center"))
    range_null: bool = False  # see `Extension`

    def __post_init__(self) -> None:
        require_equal("feature_extractor.n_mels", self.mel.n_mels, "backbone.input_channels", self.backbone)
        require_equal("backbone.dim", self.backbone.dim, "head.dim", self.head)
        require_equal("feature_extractor.hop_length", self.mel.hop_length, "head.hop_length", self.head)
        if self.range_null:
            for name in ("n_fft", "win_length"):  # the window of the inverse STFT has n_fft samples
                value = getattr(self.mel, name) or self.mel.n_fft
                require_equal(f"feature_extractor.{name}", value, "head.n_fft", self.head)


@dataclass(frozen=True)
class Extension:
    """What config.yaml says beyond the official layout, under the key `tts_infer`. The official package ignores it.

    Args:
        range_null: the magnitudes are the mel's wherever it determines them, see `RangeNull`. Networks are trained so.
    """

    range_null: bool = False


def require_equal(name: str, value: int, other: str, section: object) -> None:
    """Refuse a value that differs from the one that another section states.

    Args:
        name, value: what one section states.
        other: the section and attribute that must be equal, such as "head.dim".
        section: that section.

    Raises:
        ConfigError: names both.
    """
    found = getattr(section, other.partition(".")[2])
    if value != found:
        raise ConfigError(
            "{left} is {a} but {right} is {b}; they must be equal",
            code="sections-differ",
            left=name,
            a=value,
            right=other,
            b=found,
        )


# The kinds of backbones, by their configuration.
BACKBONES = {BackboneConfig: VocosBackbone, ResNetConfig: VocosResNetBackbone}
# The class paths of both sections, for every family with the backbones and heads of Vocos.
CLASS_PATHS: Mapping[str, Mapping[str, type]] = {
    "backbone": {
        "vocos.models.VocosBackbone": BackboneConfig,
        "vocos.models.VocosResNetBackbone": ResNetConfig,
    },
    "head": {
        "vocos.heads.ISTFTHead": HeadConfig,
        "vocos.heads.IMDCTSymExpHead": SymExpHeadConfig,
        "vocos.heads.IMDCTCosHead": CosHeadConfig,
    },
}


# Tensors whose shapes say the sizes of a backbone and of a head.
EMBED, FIRST_LAYER, HEAD_OUT = "embed.weight", "convnext.{}.pwconv1.weight", "head.out.weight"


def sized_sections(
    shapes: Shapes, channels: int, hop_length: int, padding: str, backbone: str = "backbone."
) -> dict[str, Any] | None:
    """The sections `backbone` and `head` of a config.yaml, from the shapes of weights; None if these are others.

    Args:
        shapes: of all tensors of the weights.
        channels: of the input.
        hop_length, padding: of the head.
        backbone: what the names of the backbone's tensors begin with.
    """
    layer = backbone + FIRST_LAYER
    embed, block = shapes.get(backbone + EMBED, ()), shapes.get(layer.format(0), ())
    out = shapes.get(HEAD_OUT, ())
    if len(embed) != 3 or channels not in embed[1:] or len(block) != 2 or len(out) != 2:
        return None
    sizes = {"input_channels": channels, "dim": embed[0], "intermediate_dim": block[0]}
    head = {"dim": embed[0], "n_fft": out[0] - 2, "hop_length": hop_length, "padding": padding}
    return {
        "backbone": {
            "class_path": "vocos.models.VocosBackbone",
            "init_args": sizes | {"num_layers": count_of(shapes, layer)},
        },
        "head": {"class_path": "vocos.heads.ISTFTHead", "init_args": head},
    }


class BackboneAndHead(nn.Module):
    """The stages of a vocoder: `feature_extractor`, `backbone`, `head`, and the head's transform.

    Args:
        config: with the sections `backbone` and `head`.
        feature_extractor: makes features of audio or of codes.

    Shape: features of (B, C, L), bandwidth_id of (1,) or (B,) -> audio of (B, T), T as in `ISTFT`
    """

    def __init__(self, config: Any, feature_extractor: nn.Module, method: SpectralMethod) -> None:
        super().__init__()
        self.config = config
        self.feature_extractor = feature_extractor
        self.backbone = BACKBONES[type(config.backbone)](config.backbone)
        self.head = HEADS[type(config.head)](config.head, method)

    def forward(self, features: Tensor, bandwidth_id: Tensor | None = None) -> Tensor:
        audio: Tensor = self.head.audio(self.hidden(features, bandwidth_id))
        return audio

    def hidden(self, features: Tensor, bandwidth_id: Tensor | None = None) -> Tensor:
        """The hidden frames, as the head takes them. Shape: (B, C, L) -> (B, L, H)"""
        conditions = [] if bandwidth_id is None else [None, None, bandwidth_id]
        hidden: Tensor = self.backbone(features, *conditions)
        return hidden


class Vocos(BackboneAndHead):
    """Vocos with mel input. Shape: mel of (B, n_mels, L) -> audio of (B, T)"""

    feature_extractor: LogMel

    def __init__(self, config: VocoderConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__(config, LogMel(config.mel, method), method)
        self.range_null = RangeNull(config.mel, method) if config.range_null else None

    def forward(self, features: Tensor, bandwidth_id: Tensor | None = None) -> Tensor:
        if self.range_null is None:
            return super().forward(features, bandwidth_id)
        spectrum = self.head(self.hidden(features, bandwidth_id))
        audio: Tensor = self.head.istft(*self.range_null(*spectrum, features))
        return audio


class VocosFamily:
    """Vocos with mel input. Entry of `FAMILIES`."""

    class_paths: ClassVar[Mapping[str, Mapping[str, type]]] = {
        "feature_extractor": {"vocos.feature_extractors.MelSpectrogramFeatures": MelConfig},
        **CLASS_PATHS,
    }
    extensions: ClassVar[Mapping[str, type]] = {EXTENSION: Extension}
    model: ClassVar[type[nn.Module]] = Vocos
    told_by: ClassVar[tuple[str, ...]] = (f"backbone.{EMBED}", f"backbone.{FIRST_LAYER.format(0)}", HEAD_OUT)

    def document(self, shapes: Shapes, preset: VocoderPreset) -> dict[str, Any] | None:
        mel = preset.mel
        if mel is None or shapes.get(HEAD_OUT, ())[:1] != (mel.n_fft + 2,):
            return None
        sections = sized_sections(shapes, mel.n_mels, mel.hop_length, mel.padding)
        extractor = {"class_path": "vocos.feature_extractors.MelSpectrogramFeatures"}
        return sections and {"feature_extractor": extractor, **sections}

    def configure(self, sections: Mapping[str, Any]) -> VocoderConfig:
        extension = sections.get(EXTENSION, Extension())
        mel, backbone, head = (sections[name] for name in ("feature_extractor", "backbone", "head"))
        return VocoderConfig(mel, backbone, head, extension.range_null)

    def features(self, config: VocoderConfig) -> MelSpec:
        count = config.backbone.adanorm_num_embeddings
        return MelSpec(config.mel, () if count is None else (Condition(CONDITION, tuple(range(count))),))

    def build(self, config: VocoderConfig) -> Vocos:
        return Vocos(config, method="fft")  # "fft" needs no matrices; the placement may choose "matmul" later

    def stages(self, model: Vocos) -> list[Stage]:
        config = model.config
        backbone = backbone_stage(model.backbone, "mel", config.backbone.adanorm_num_embeddings)
        head, *spectral = model.head.stages(config.mel)
        range_null = [] if model.range_null is None else [RangeNullStage.of(model.range_null, model.head.istft.method)]
        return [MelStage.of(model.feature_extractor), backbone, head, *range_null, *spectral]

    def n_samples(self, config: VocoderConfig, frames: int) -> int:
        return head_samples(config.head, frames)

    def constants(self, model: Vocos) -> dict[str, Tensor]:
        return {
            "feature_extractor.mel_spec.spectrogram.window": model.feature_extractor.stft.window,
            "feature_extractor.mel_spec.mel_scale.fb": model.feature_extractor.filterbank.matrix,
            **{f"head.{key}": value for key, value in model.head.constants().items()},
        }


def backbone_stage(backbone: Any, features: str, choices: int | None = None) -> Convolutional:
    """The backbone as a stage: each of its convolutions keeps the last frames of its input.

    Args:
        backbone: of one of `BACKBONES`.
        features: the name of what it takes.
        choices: how many norms there are to choose from; None: one, without a choice.
    """
    reaches = backbone.reaches
    channels, hidden = backbone.embed.in_channels, backbone.embed.out_channels
    return Convolutional(
        "backbone",
        backbone,
        (features, *([] if choices is None else [CONDITION])),
        ("hidden",),
        half=True,
        channels=channels,
        kept=((2 * reaches[0], channels), *((2 * reach, hidden) for reach in reaches[1:])),
        hidden=hidden,
        context=sum(reaches),
        lag=sum(reaches[:-1]),
        choices=choices or 1,
    )
