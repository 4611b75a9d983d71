"""Vocos with the codes of EnCodec as input (arXiv 2306.00814, section 4.3): codes -> features -> audio.

A checkpoint holds the code vectors itself, so decoding needs no EnCodec model. The backbone has several norms, one for
each bandwidth that EnCodec may have used; `bandwidth_id` chooses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.config import SpectralMethod, VocoderPreset
from tts_infer.devices import CPU
from tts_infer.errors import ConfigError
from tts_infer.stages import PROBE_BATCH, PROBE_FRAMES, Stage, Tensors
from tts_infer.vocoders.conditions import Condition
from tts_infer.vocoders.family import Shapes
from tts_infer.vocoders.features import CodesSpec
from tts_infer.vocoders.heads import head_samples
from tts_infer.vocoders.networks import Framewise
from tts_infer.vocoders.vocos import (
    CLASS_PATHS,
    CONDITION,
    EMBED,
    FIRST_LAYER,
    HEAD_OUT,
    BackboneAndHead,
    backbone_stage,
    require_equal,
    sized_sections,
)

BINS = 1024  # vectors of a codebook
CHANNELS = 128  # of a vector
HOP_LENGTH = 320  # samples a frame
EncodecName = Literal["encodec_24khz", "encodec_48khz"]
SAMPLE_RATES: dict[EncodecName, int] = {"encodec_24khz": 24000, "encodec_48khz": 48000}
_CODEBOOKS, _NORMS = "feature_extractor.codebook_weights", "backbone.norm.scale.weight"


@dataclass(frozen=True)
class EncodecConfig:
    """`EncodecFeatures`: which EnCodec made the codes, and how many bits a second they may have.

    Source: facebookresearch/encodec, encodec/model.py, for the sizes of its two models.
    """

    encodec_model: EncodecName = "encodec_24khz"
    bandwidths: list[float] = field(default_factory=lambda: [1.5, 3.0, 6.0, 12.0])  # kilobits a second
    train_codebooks: bool = False  # of interest to training only

    def __post_init__(self) -> None:
        if not self.bandwidths or not all(0 < one < 1e3 for one in self.bandwidths):
            raise ConfigError(
                "bandwidths are {got}; give at least one, in kilobits a second",
                code="encodec-bandwidths",
                got=self.bandwidths[:10],
            )

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return SAMPLE_RATES[self.encodec_model]

    def codebooks_of(self, bandwidth: float) -> int:
        """Codes a frame at a bandwidth, of 10 bits each."""
        bits = math.log2(BINS) * self.sample_rate / HOP_LENGTH
        return max(1, math.floor(bandwidth * 1000 / bits))

    @property
    def codebooks(self) -> int:
        """The most codes a frame."""
        return self.codebooks_of(max(self.bandwidths))


@dataclass(frozen=True)
class EncodecVocosConfig:
    """A whole vocoder: the codes that it takes, its backbone, its head."""

    codes: EncodecConfig
    backbone: Any  # of one of `BACKBONES`
    head: Any  # of one of `HEADS`

    def __post_init__(self) -> None:
        require_equal("feature_extractor's channels", CHANNELS, "backbone.input_channels", self.backbone)
        require_equal("backbone.dim", self.backbone.dim, "head.dim", self.head)
        require_equal("feature_extractor's hop_length", HOP_LENGTH, "head.hop_length", self.head)
        count = self.backbone.adanorm_num_embeddings
        if count is not None and count != len(self.codes.bandwidths):
            raise ConfigError(
                "adanorm_num_embeddings is {count}, but there are {bandwidths} bandwidths; they must be equal",
                code="encodec-norms",
                count=count,
                bandwidths=len(self.codes.bandwidths),
            )


class EncodecFeatures(nn.Module):
    """The sum of one vector for each code of a frame.

    Shape: (B, K, L), int64 -> (B, C, L)
    Source: vocos/pretrained.py Vocos.codes_to_features, which takes (K, B, L).
    """

    first: Tensor  # vector of each codebook

    def __init__(self, config: EncodecConfig) -> None:
        super().__init__()
        self.codebook_weights = nn.Parameter(torch.zeros(config.codebooks * BINS, CHANNELS))
        # all codebooks are one table; of numpy, so that torch's default device has no influence
        self.register_buffer("first", torch.from_numpy(np.arange(config.codebooks) * BINS), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        vectors: Tensor = F.embedding(codes + self.first[: codes.shape[1], None], self.codebook_weights)
        return vectors.sum(dim=1).transpose(1, 2)


@dataclass(frozen=True)
class CodesStage(Framewise):
    """Codes to features, each frame by itself. Shape: (B, K, L), int64 -> (B, C, L)"""

    def probe(self) -> Tensors:
        shape = PROBE_BATCH, 2, PROBE_FRAMES  # two codebooks: every model has as many
        count = math.prod(shape)
        return ((torch.arange(count, device=CPU) * 7919 % BINS).reshape(shape),)


@dataclass(frozen=True)
class EncodecCodesSpec(CodesSpec):
    """Codes of EnCodec. Their number says the bandwidth, and so the norm.

    Attributes:
        config: which EnCodec.
    """

    config: EncodecConfig = field(default_factory=EncodecConfig)

    def conditions_of(self, codes: int) -> dict[str, int]:
        counts = [self.config.codebooks_of(bandwidth) for bandwidth in self.config.bandwidths]
        return {CONDITION: counts.index(codes)} if self.conditions and codes in counts else {}


class EncodecVocos(BackboneAndHead):
    """The stages of a vocoder for codes: `feature_extractor`, `backbone`, `head`, and the head's transform.

    Shape: features of (B, 128, L), bandwidth_id of (1,) or (B,) -> audio of (B, T), T as in `ISTFT`
    """

    def __init__(self, config: EncodecVocosConfig, method: SpectralMethod = "matmul") -> None:
        super().__init__(config, EncodecFeatures(config.codes), method)


class EncodecFamily:
    """Vocos with the codes of EnCodec as input. Entry of `FAMILIES`."""

    class_paths: ClassVar[Mapping[str, Mapping[str, type]]] = {
        "feature_extractor": {"vocos.feature_extractors.EncodecFeatures": EncodecConfig},
        **CLASS_PATHS,
    }
    model: ClassVar[type[nn.Module]] = EncodecVocos
    told_by: ClassVar[tuple[str, ...]] = (
        _CODEBOOKS, _NORMS, f"backbone.{EMBED}", f"backbone.{FIRST_LAYER.format(0)}", HEAD_OUT,
    )  # fmt: skip

    def document(self, shapes: Shapes, preset: VocoderPreset) -> dict[str, Any] | None:
        """The bandwidths are those of EnCodec at 24 kHz; checkpoints hold as many codebooks as the last one has."""
        codes, sections = EncodecConfig(), sized_sections(shapes, CHANNELS, HOP_LENGTH, "same")
        stored, norms = shapes.get(_CODEBOOKS, ()), shapes.get(_NORMS, ())
        fits = stored == (codes.codebooks * BINS, CHANNELS) and norms[:1] == (len(codes.bandwidths),)
        if sections is None or not fits or preset.sample_rate != codes.sample_rate:
            return None
        sections["backbone"]["init_args"]["adanorm_num_embeddings"] = norms[0]
        return {"feature_extractor": {"class_path": "vocos.feature_extractors.EncodecFeatures"}, **sections}

    def configure(self, sections: Mapping[str, Any]) -> EncodecVocosConfig:
        return EncodecVocosConfig(sections["feature_extractor"], sections["backbone"], sections["head"])

    def features(self, config: EncodecVocosConfig) -> EncodecCodesSpec:
        codes = config.codes
        chosen = config.backbone.adanorm_num_embeddings is not None
        conditions = (Condition(CONDITION, tuple(codes.bandwidths)),) if chosen else ()
        sizes = codes.sample_rate, HOP_LENGTH, CHANNELS
        return EncodecCodesSpec(*sizes, conditions, codes.codebooks, BINS, codes)

    def build(self, config: EncodecVocosConfig) -> EncodecVocos:
        return EncodecVocos(config, method="fft")  # as `VocosFamily.build`

    def stages(self, model: EncodecVocos) -> list[Stage]:
        backbone = model.config.backbone
        # the second axis is K, so the third one counts frames
        codes = CodesStage("codes", model.feature_extractor, ("codes",), ("features",), probe_shape=(2, PROBE_FRAMES))
        after = backbone_stage(model.backbone, "features", backbone.adanorm_num_embeddings)
        return [codes, after, *cast(Any, model.head).stages(None)]

    def n_samples(self, config: EncodecVocosConfig, frames: int) -> int:
        return head_samples(config.head, frames)

    def constants(self, model: EncodecVocos) -> dict[str, Tensor]:
        return {f"head.{key}": value for key, value in cast(Any, model.head).constants().items()}
