"""What a server offers, by the names that its clients use: vocoders that decode, and voices that speak."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tts_infer.arguments import checked
from tts_infer.config import known_vocoders
from tts_infer.errors import InputError, MissingPackageError, few
from tts_infer.speaker import Speaker, load_speaker
from tts_infer.vocoder import Vocoder


@checked()
def load_speakers(
    vocoders: Sequence[Vocoder], voices: Sequence[str] = (), device: str | torch.device = "auto"
) -> list[Speaker]:
    """Load voices for a server: each by itself, and each through each vocoder.

    Args:
        vocoders: what is put behind the voices.
        voices: their names; none: the first voice, or nothing where its package is not installed.
        device: of their stages.

    Raises:
        VoiceNotFoundError, MissingPackageError, ...: see `load_speaker`.
    """
    try:
        alone = [load_speaker(voice, device=device) for voice in voices or (None,)]
    except MissingPackageError:
        if voices:
            raise
        return []
    behind = [load_speaker(one.voice, vocoder=vocoder, device=device) for vocoder in vocoders for one in alone]
    return [*alone, *behind]


class Catalogue:
    """The models of a server. One that speaks is named for its vocoder, or for its front end if it has none.

    Args:
        vocoders: what decodes; the first is the default.
        speakers: what speaks; the first model is the default, and of a model the first voice.
    """

    def __init__(self, vocoders: Sequence[Vocoder], speakers: Sequence[Speaker]) -> None:
        self._vocoders = {model_id(vocoder.name): vocoder for vocoder in vocoders}
        self._speakers: dict[str, dict[str, Speaker]] = {}
        for speaker in speakers:
            front_end, _, voice = speaker.voice.partition("/")
            model = front_end if speaker.vocoder is None else model_id(speaker.vocoder.name)
            self._speakers.setdefault(model, {})[voice] = speaker

    def vocoder(self, model: str | None) -> Vocoder:
        """What decodes.

        Raises:
            InputError: no such model.
        """
        return self._vocoders[_named(model, self._vocoders, "model")]

    def speaker(self, model: str | None, voice: str | None) -> Speaker:
        """What speaks.

        Raises:
            InputError: no such model, or it has no such voice; or nothing speaks.
        """
        if not self._speakers:
            text = "this server has no voice; its owner can add one: pip install 'tts-infer[speak]'"
            raise InputError(text, code="server-no-voice")
        voices = self._speakers[_named(model, self._speakers, "model")]
        return voices[_named(voice, voices, "voice")]

    def models(self, created_s: int) -> list[dict[str, Any]]:
        """The models as OpenAI's API lists them, and what each can do."""
        rates = {name: vocoder.sample_rate for name, vocoder in self._vocoders.items()}
        for name, voices in self._speakers.items():
            rates[name] = next(iter(voices.values())).sample_rate
        owned = {"object": "model", "created": created_s, "owned_by": "tts-infer"}
        return [
            {
                "id": name,
                **owned,
                "sample_rate": rate,
                "voices": list(self._speakers.get(name, ())),
                "decodes": name in self._vocoders,
            }
            for name, rate in rates.items()
        ]


def _named(name: str | None, entries: dict[str, Any], what: str) -> str:
    if name is None and entries:
        return next(iter(entries))
    if name not in entries:
        text = "{what} {got!r} is not here; allowed: {allowed}"
        allowed = few(entries, 9) or "none"
        raise InputError(text, code=f"server-{what}", what=what, got=(name or "")[:100], allowed=allowed, param=what)
    return name


def model_id(name: str) -> str:
    """The name of a vocoder for clients: without the folders of this machine."""
    return name if name in known_vocoders() or not os.path.exists(name) else Path(name).name
