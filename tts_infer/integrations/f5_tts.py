"""F5-TTS: `install()` replaces its loader of vocoders, so that its functions, its command and its page use ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tts_infer.devices import device_lock
from tts_infer.errors import InputError
from tts_infer.integrations.mel_vocoder import MelVocoder
from tts_infer.integrations.module import VocoderModule
from tts_infer.integrations.other_packages import replace
from tts_infer.integrations.vocos import Vocos
from tts_infer.loading import load_vocoder as load
from tts_infer.vocoder import Number

VOCOS, BIGVGAN = "vocos-mel-24khz", "bigvgan-v2-24khz-100band-256x"


def _on_cpu(audio: Tensor) -> Tensor:
    """Audio on the CPU. F5-TTS decodes in several threads, and two of them on one Apple GPU can crash the process: it
    would copy the audio itself, while we compute for another thread.
    """
    with device_lock(audio.device):
        return audio.cpu()


class F5Vocos(Vocos):
    """`decode(mel)` gives audio on the CPU."""

    def decode(self, features_input: Tensor, bandwidth_id: Number | None = None) -> Tensor:
        return _on_cpu(super().decode(features_input, bandwidth_id))


class F5BigVGAN(MelVocoder):
    """`vocoder(mel)` gives audio on the CPU."""

    def forward(self, mel: Tensor) -> Tensor:
        return _on_cpu(super().forward(mel))


def install(*, vocos: str | os.PathLike[str] = VOCOS, bigvgan: str | os.PathLike[str] = BIGVGAN) -> Callable[[], None]:
    """Replace `load_vocoder` in `f5_tts.infer.utils_infer`, and where other modules of F5-TTS have it by value.

    Call it before F5-TTS loads a vocoder. Its page and its commands load one when they are imported.

    Args:
        vocos, bigvgan: what the two names of vocoders mean where no local path is given; see `load_vocoder`.

    Returns:
        A function that takes the replacement back.

    Raises:
        MissingPackageError: F5-TTS cannot be imported.
    """
    loader = partial(load_vocoder, vocos=vocos, bigvgan=bigvgan)
    return replace("f5_tts.infer.utils_infer", "load_vocoder", loader, "f5-tts")


def load_vocoder(
    vocoder_name: str = "vocos",
    is_local: bool = False,
    local_path: str | os.PathLike[str] | None = "",
    device: str | torch.device = "auto",
    hf_cache_dir: str | os.PathLike[str] | None = None,
    *,
    vocos: str | os.PathLike[str] = VOCOS,
    bigvgan: str | os.PathLike[str] = BIGVGAN,
) -> VocoderModule:
    """Load what F5-TTS decodes its mels with: it calls `.decode(mel)` for "vocos", and `(mel)` for "bigvgan".

    Args:
        vocoder_name: "vocos" or "bigvgan".
        is_local, local_path: take the vocoder of a local folder.
        device: where it runs.
        hf_cache_dir: F5-TTS gives it to the Hub's client; here the Hub's own settings say where its cache is.
        vocos, bigvgan: see `install`.

    Raises:
        InputError: another name; no path of a local vocoder; or a cache folder.
        VocoderNotFoundError, ConfigError, CheckpointError, PlacementError: see `tts_infer.load_vocoder`.
    Source: f5_tts/infer/utils_infer.py load_vocoder of f5-tts 1.1.22.
    """
    kinds: dict[str, tuple[str | os.PathLike[str], type[F5Vocos | F5BigVGAN]]] = {
        "vocos": (vocos, F5Vocos),
        "bigvgan": (bigvgan, F5BigVGAN),
    }
    if vocoder_name not in kinds:
        raise InputError(
            "F5-TTS asks for the vocoder {got!r}; allowed: {allowed}", code="f5-vocoder", got=vocoder_name,
            allowed=", ".join(kinds),
        )  # fmt: skip
    if is_local and not local_path:
        raise InputError("a local vocoder is asked for, but local_path is empty; give its folder", code="f5-local-path")
    if hf_cache_dir is not None:
        raise InputError(
            "hf_cache_dir={got!r} has no effect here; set HF_HUB_CACHE before Python starts, or give a local folder",
            code="f5-cache",
            got=str(hf_cache_dir),
        )
    name, kind = kinds[vocoder_name]
    return kind(load(local_path if is_local and local_path else name, device=device))
