"""Front ends: text to features or audio. A front end is one file here, and one line in `FRONTENDS`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from tts_infer.arguments import checked
from tts_infer.errors import VoiceNotFoundError
from tts_infer.frontends.f5 import F5FrontEnd
from tts_infer.frontends.frontend import FrontEnd, Voice
from tts_infer.frontends.hibari import HibariFrontEnd
from tts_infer.frontends.matcha import MatchaFrontEnd

# In order of preference: the first voice of the first is the default.
FRONTENDS: dict[str, FrontEnd] = {"hibari": HibariFrontEnd(), "f5-tts": F5FrontEnd(), "matcha-tts": MatchaFrontEnd()}


@checked()
def find_voice(name: str | None) -> tuple[str, Voice]:
    """Find a voice by name.

    Args:
        name: "heart", or with its front end "hibari/heart"; a recording with its front end, "f5-tts/me.wav"; None:
            the first voice of the first front end.

    Returns:
        The name of its front end, and the voice.

    Raises:
        VoiceNotFoundError: no front end has a voice of that name.
    """
    for front_end, entry in FRONTENDS.items():
        for voice in entry.voices:
            if name in (None, voice.name, f"{front_end}/{voice.name}"):
                return front_end, voice
            if voice.from_recording and name is not None and name.startswith(f"{front_end}/"):
                return front_end, replace(voice, name=name.removeprefix(f"{front_end}/"))
    names = ", ".join(
        f"{front_end}/{voice.name}" if voice.from_recording else voice.name
        for front_end, entry in FRONTENDS.items()
        for voice in entry.voices
    )
    raise VoiceNotFoundError(
        "voice {name!r} is unknown; allowed: {names}", code="voice-unknown", name=name, names=names
    )


def list_voices() -> list[dict[str, Any]]:
    """The voices of all front ends: name, front end, language, what it is, licence, and MB to download (0: none)."""
    return [{"front_end": name, **asdict(voice)} for name, entry in FRONTENDS.items() for voice in entry.voices]
