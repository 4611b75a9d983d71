"""The official `vocos` package in the place of our stages, for comparisons. Decoding does not need it.

vocos 0.1.0 imports torchaudio. The native library of torchaudio often fails to load with a torch of another build (a
CPU-only torch, or a newer release). vocos and torchcrepe use only Python code of torchaudio, so if the library fails to
load, it is left out.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

from torch import Tensor, nn

from tts_infer.config import MelConfig
from tts_infer.errors import ConfigError, InputError, missing_package
from tts_infer.stages import Stage
from tts_infer.vocoders.features import MelSpec
from tts_infer.vocoders.heads import HeadConfig, head_samples
from tts_infer.vocoders.networks import WholeSignal
from tts_infer.vocoders.padding import KERNEL_SIZE
from tts_infer.vocoders.vocos import BackboneConfig, VocoderConfig

_EXTENSION = "torchaudio._extension"


def import_vocos() -> ModuleType:
    """Import `vocos`, without torchaudio's native library if that fails to load.

    Raises:
        ModuleNotFoundError: vocos, or something that it imports, is not installed.
    """
    return without_native_torchaudio("vocos")


def without_native_torchaudio(package: str) -> ModuleType:
    """Import a package that imports torchaudio, without torchaudio's native library if that fails to load.

    Raises:
        ModuleNotFoundError: the package, or something that it imports, is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise
    except (ImportError, OSError, RuntimeError):  # a native library that does not fit raises any of these
        for name in [name for name in sys.modules if name.split(".")[0] in ("torchaudio", package)]:
            del sys.modules[name]
        sys.modules[_EXTENSION] = _extension_stub()
        return importlib.import_module(package)


def _extension_stub() -> ModuleType:
    """`torchaudio._extension` as it is when torchaudio is built without native code."""

    def unchanged(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    stub = ModuleType(_EXTENSION)
    vars(stub).update(_IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=unchanged)
    return stub


class OfficialVocos(nn.Module):
    """The official modules: `feature_extractor`, `backbone` and `head`, which includes the inverse STFT.

    It loads the state dict of our `Vocos`, since the names are the same.

    Args:
        config: its mel convention must be that of vocos 0.1.0 (HTK, no norm, full band, log floor 1e-7).

    Shape: mel of (B, n_mels, L) -> audio of (B, T)
    Raises:
        ConfigError: vocos 0.1.0 cannot compute the mel convention.
        ModuleNotFoundError: see `import_vocos`.
    """

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        import_vocos()
        from vocos.feature_extractors import MelSpectrogramFeatures
        from vocos.heads import ISTFTHead
        from vocos.models import VocosBackbone

        mel, backbone, head = config.mel, config.backbone, config.head
        if (mel.mel_scale, mel.norm, mel.f_min, mel.power) != ("htk", None, 0.0, 1) or mel.f_max is not None:
            raise ConfigError(
                "vocos 0.1.0 computes HTK mels of the full band only, not {mel}", code="official-mel", mel=str(mel)
            )
        self.feature_extractor = MelSpectrogramFeatures(
            mel.sample_rate, mel.n_fft, mel.hop_length, mel.n_mels, mel.padding
        )
        self.backbone = VocosBackbone(
            backbone.input_channels, backbone.dim, backbone.intermediate_dim, backbone.num_layers
        )
        self.head = ISTFTHead(head.dim, head.n_fft, head.hop_length, head.padding)

    @classmethod
    def in_place_of(cls, model: nn.Module, mel: MelConfig) -> OfficialVocos:
        """The official modules with the weights of our model. Entry of `PEERS`.

        Raises:
            ConfigError: the official package has no such network, or cannot compute the mel convention.
            MissingPackageError: it is not installed.
        """
        config = model.config
        if not isinstance(config, VocoderConfig) or not _is_official(config.backbone, config.head):
            raise ConfigError(
                "vocos 0.1.0 runs ConvNeXt blocks, an inverse STFT and mel input only, not {got}; use another engine",
                code="official-model",
                got=type(model).__name__,
            )
        try:
            official = cls(config)
        except ModuleNotFoundError as error:
            raise missing_package("vocos", "vocos", error) from None
        keys = official.load_state_dict(model.state_dict(), strict=False)
        constants = {key.rpartition(".")[2] for key in keys.missing_keys}
        assert not keys.unexpected_keys and constants <= {"window", "fb"}, keys
        return official

    def forward(self, features: Tensor) -> Tensor:
        if self.config.head.padding == "center" and features.shape[2] < 2:  # there the package fails
            return features.new_zeros(features.shape[0], 0)
        audio: Tensor = self.head(self.backbone(features))
        return audio


class OfficialMel(nn.Module):
    """The official mel, which fails on audio that it cannot mirror at its ends.

    Args:
        extractor: of `OfficialVocos`.
        mel: its convention.

    Shape: (B, T) -> (B, n_mels, L)
    Raises:
        InputError: the audio is too short.
    """

    def __init__(self, extractor: nn.Module, mel: MelConfig) -> None:
        super().__init__()
        self.extractor = extractor
        self.needed = max(mel.hop_length, (mel.n_fft - mel.hop_length * (mel.padding == "same")) // 2 + 1)

    def forward(self, audio: Tensor) -> Tensor:
        if audio.shape[-1] < self.needed:
            text = "audio has {samples} samples; at least {needed} are needed for one frame"
            raise InputError(text, code="audio-too-short", samples=audio.shape[-1], needed=self.needed)
        features: Tensor = self.extractor(audio)
        return features


def _is_official(backbone: Any, head: Any) -> bool:
    """Whether the official package has these networks."""
    if not isinstance(backbone, BackboneConfig) or type(head) is not HeadConfig:
        return False
    kernels = {backbone.input_kernel_size, backbone.dw_kernel_size}
    return backbone.adanorm_num_embeddings is None and kernels == {KERNEL_SIZE}


class OfficialFamily:
    """The official package as a vocoder. Entry of `FAMILIES`; its checkpoints are read by `VocosFamily`."""

    model: ClassVar[type[nn.Module]] = OfficialVocos

    def features(self, config: VocoderConfig) -> MelSpec:
        return MelSpec(config.mel)

    def build(self, config: VocoderConfig) -> OfficialVocos:
        return OfficialVocos(config)

    def stages(self, model: OfficialVocos) -> list[Stage]:
        mel = model.config.mel
        extractor = OfficialMel(model.feature_extractor, mel)
        return [
            WholeSignal("mel", extractor, ("audio",), ("mel",), step=mel.hop_length),
            WholeSignal("vocos", model, ("mel",), ("audio",), channels=(mel.n_mels,)),
        ]

    def n_samples(self, config: VocoderConfig, frames: int) -> int:
        return head_samples(config.head, frames)

    def constants(self, model: Any) -> dict[str, Tensor]:
        return {}
