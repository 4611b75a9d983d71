"""coqui-tts: `install(synthesizer, vocoder)` lets a `Synthesizer` decode by one of our vocoders."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray

from tts_infer.config import MelConfig
from tts_infer.dsp.conventions import MelUnit, convert_mel
from tts_infer.errors import InputError
from tts_infer.integrations.mel_vocoder import MelVocoder
from tts_infer.vocoder import Vocoder

BASES = {"np.log": math.e, "np.log10": 10.0}


class AsItIs:
    """What coqui scales the mels of a vocoder by: it leaves them as they are computed of audio."""

    def normalize(self, mel: NDArray[Any]) -> NDArray[Any]:
        return mel


def install(synthesizer: Any, vocoder: Vocoder) -> Callable[[], None]:
    """Let a synthesizer decode by a vocoder, whether or not it has one of its own.

    Args:
        synthesizer: a `TTS.utils.synthesizer.Synthesizer`: `TTS(...).synthesizer`. Its model makes mels.
        vocoder: one of the same mel convention. Logarithm and gain may differ: they are converted.

    Returns:
        A function that takes that back.

    Raises:
        InputError: the model makes no mels, or those of another convention.
    Source: TTS/utils/synthesizer.py `_run_vocoder` and TTS/utils/audio/processor.py of coqui-tts 0.28.0.
    """
    audio = getattr(synthesizer.tts_model, "ap", None)
    if audio is None:
        kind = type(synthesizer.tts_model).__name__
        text = "the model of this synthesizer, {kind}, makes no mels, so it needs no vocoder"
        raise InputError(text, code="coqui-no-mels", kind=kind)
    ours = vocoder.mel_config
    convert_mel(torch.zeros(1), from_=replace(_convention(audio), padding=ours.padding), to=ours)  # or it is refused
    unit: str | MelUnit = "linear"
    if audio.do_amp_to_db_mel:
        unit = MelUnit(scale=math.log(BASES[audio.log_func]) / audio.spec_gain)
    new = {
        "vocoder_model": MelVocoder(vocoder, unit=unit),
        "vocoder_ap": AsItIs(),
        "vocoder_config": {"audio": {"sample_rate": vocoder.sample_rate}},
        "output_sample_rate": vocoder.sample_rate,
    }
    old = {name: getattr(synthesizer, name) for name in new if hasattr(synthesizer, name)}
    _set(synthesizer, new)

    def undo() -> None:
        for name in new.keys() - old.keys():
            delattr(synthesizer, name)
        _set(synthesizer, old)

    return undo


def _convention(audio: Any) -> MelConfig:
    """What an audio processor of coqui computes. Its filterbank is that of `librosa.filters.mel`."""
    return MelConfig(
        audio.sample_rate, audio.fft_size, audio.hop_length, audio.win_length, audio.num_mels,
        audio.mel_fmin, audio.mel_fmax, "slaney", "slaney",
    )  # fmt: skip


def _set(synthesizer: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(synthesizer, name, value)
