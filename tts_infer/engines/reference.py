"""The official `vocos` package, for comparisons. Decoding does not need it.

vocos 0.1.0 imports torchaudio. The native library of torchaudio often fails to load with a torch of another build (a
CPU-only torch, or a newer release). vocos and torchcrepe use only Python code of torchaudio, so if the library fails to
load, it is left out.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from tts_infer.errors import ConfigError
from tts_infer.vocoders.vocos import VocoderConfig

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

    def forward(self, features: Tensor) -> Tensor:
        audio: Tensor = self.head(self.backbone(features))
        return audio
