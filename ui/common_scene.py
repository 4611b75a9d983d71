"""Several results of one clip as one scene, at one rate and in one mel convention."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

import tts_infer
from ui.scenes import Sound, keep
from ui.session import Report, Result


def scene_of(
    first: tts_infer.Vocoder, results: Sequence[Result], reports: Sequence[Report], stem: str, hidden: bool
) -> str:
    """Write the original and all outputs as one scene, at the rate and in the mel convention of the first vocoder."""
    names = [str(i + 1) if hidden else file_part(report["name"]) for i, report in enumerate(reports)]
    outputs = [
        Sound(str(i + 1), f"{stem}-{name}.wav", at_rate_of(first, result))
        for i, (result, name) in enumerate(zip(results, names, strict=True))
    ]
    clip = next(result.clip for result in results if result.report["sample_rate"] == first.sample_rate)
    assert clip is not None
    mels = [results[0].input_mel, *(mel_as(first, result) for result in results)]
    original = Sound("original", f"{stem}-original.wav", clip)
    return keep([original, *outputs], first.sample_rate, mels, first.mel_config, {"streamed": False})


def file_part(name: str) -> str:
    """The name of a combination as part of a file name."""
    return re.sub(r"[^\w.]+", "-", name.replace(" ", "")).strip("-")


def at_rate_of(model: tts_infer.Vocoder, result: Result) -> torch.Tensor:
    """A result's audio at the rate of another vocoder. Shape: (T,)"""
    rate = result.report["sample_rate"]
    if rate == model.sample_rate:
        return result.waveform
    return torch.from_numpy(
        tts_infer.resample(tts_infer.AudioClip(result.waveform.numpy(), rate), model.sample_rate).samples
    )


def mel_as(model: tts_infer.Vocoder, result: Result) -> torch.Tensor:
    """The mel of a result's output in the convention of another vocoder. Shape: (n_mels, L)"""
    if result.mel_config == model.mel_config:
        return result.output_mel
    return model.mel(at_rate_of(model, result))[0].cpu()
