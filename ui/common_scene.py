"""A comparison as one scene, at one rate and in one mel convention: those of its first system."""

from __future__ import annotations

from collections.abc import Sequence

import torch

import tts_infer
from ui.names import file_part
from ui.scenes import Sound, keep
from ui.session import Report


def scene_of(
    found: tts_infer.Comparison, order: Sequence[int], reports: Sequence[Report], stem: str, hidden: bool
) -> str:
    """Write the original and all outputs as one scene.

    Args:
        found: the comparison of a clip.
        order: the systems by number, in the order of the players.
        reports: of the systems, in that order.
        stem: of the clip's file name.
        hidden: names of files do not tell which is which.
    """
    first = found.sounds[0]
    original, made = first.original_at(first.sample_rate), [found.sounds[i] for i in order]
    assert original is not None
    names = [str(i + 1) if hidden else file_part(report["name"].replace(" ", "")) for i, report in enumerate(reports)]
    sounds = [Sound("original", f"{stem}-original.wav", torch.from_numpy(original))]
    for i, (sound, name) in enumerate(zip(made, names, strict=True), start=1):
        sounds.append(Sound(str(i), f"{stem}-{name}.wav", torch.from_numpy(sound.at(first.sample_rate))))
    mels = [first.input_mel]
    for sound in made:
        mel = sound.mel_as(first)
        assert mel is not None, "what is too short for a frame was refused before"
        mels.append(mel)
    return keep(sounds, first.sample_rate, mels, first.system.config, {"streamed": False})
