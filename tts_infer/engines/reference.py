"""The official `vocos` package, for comparison: nothing that decodes needs it.

vocos 0.1.0 imports torchaudio, whose native library often does not load beside a torch of another build (a CPU-only
torch, a newer release). What vocos and torchcrepe use of torchaudio is plain Python, so that library is left out where
it fails.
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
    """Import `vocos`, without torchaudio's native library where that does not load.

    Raises:
        ModuleNotFoundError: vocos, or something that it imports, is not installed.
    """
    return without_native_torchaudio("vocos")


def without_native_torchaudio(package: str) -> ModuleType:
    """Import a package that imports torchaudio, without torchaudio's native library where that does not load.

    Raises:
        ModuleNotFoundError: the package, or something that it imports, is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise
    except (ImportError, OSError, RuntimeError):  # what a native library that does not fit raises
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
    """The official modules in the stages of ours: `feature_extractor`, `backbone` and `head` (which ends in audio).

    The state dict of our `Vocos` fits: attribute names are the same.

    Args:
        config: mel convention as vocos 0.1.0 knows it (HTK, no norm, full band, log floor 1e-7).

    Shape: mel of (B, n_mels, L) -> audio of (B, T)
    Raises:
        ConfigError: a mel convention that vocos 0.1.0 cannot compute.
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
            raise ConfigError(f"vocos 0.1.0 computes HTK mels of the full band only, not {mel}")
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
