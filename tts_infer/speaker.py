"""Speech from a text: a front end's voice, and a vocoder behind it if one is wanted or needed."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import torch

from tts_infer.arguments import checked
from tts_infer.devices import CPU
from tts_infer.dsp.conventions import convention_name
from tts_infer.errors import InputError
from tts_infer.frontends import FRONTENDS, find_voice
from tts_infer.frontends.frontend import AudioSpec, LoadedVoice
from tts_infer.io.writer import Comments, SampleFormat, audio_writer
from tts_infer.loading import load_vocoder
from tts_infer.runtime.pipeline import place_stages
from tts_infer.runtime.placement import PlacementSpec, make_placement
from tts_infer.speech import Speech, SpeechReport, SpeechStream, Step, StreamingResampler, joined
from tts_infer.streaming import StageStream
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders.checkpoint import DEFAULT_VOCODER
from tts_infer.vocoders.features import FeatureSpec, MelSpec

SPEEDS = (0.25, 4.0)
_LARGEST_SEED = 2**63 - 1


class Speaker:
    """A voice, ready to speak. Several threads may use one; `load_speaker` makes it.

    Attributes:
        voice: name of the voice, with its front end: "hibari/heart".
        vocoder: what decodes the features of the front end, or copies its audio; None: its audio is given as it is.
        sample_rate: of the audio, in Hz.
    """

    def __init__(
        self,
        name: str,
        voice: LoadedVoice,
        vocoder: Vocoder | None,
        placement: PlacementSpec,
        device: str | torch.device,
    ) -> None:
        self.voice, self.vocoder, self._voice = name, vocoder, voice
        if not isinstance(voice.gives, AudioSpec) and (vocoder is None or vocoder.features != voice.gives):
            raise InputError(
                "voice {name!r} gives {convention}, which needs a vocoder of the same convention; give vocoder=...",
                code="voice-needs-vocoder",
                name=name,
                convention=_convention(voice.gives),
            )
        self.placement = make_placement(placement, device, stages=voice.stages)
        self._chain = place_stages(voice.stages, self.placement, "float32")
        self.sample_rate: int = voice.gives.sample_rate if vocoder is None else vocoder.sample_rate

    @checked()
    def stream(self, text: str, *, speed: float = 1.0, seed: int | None = None) -> SpeechStream:
        """Speak a text part by part: `for piece in speaker.stream(text): play(piece)`.

        Args:
            text: any; what is not sayable is left out with a `TextLeftOutWarning`.
            speed: 1.0 is the voice's own pace; 0.25 to 4.
            seed: of what is random; None: another one each time.

        Raises:
            InputError: the text is empty, or speed or seed is out of range. Later, from the stream: nothing in the text
                can be said, or a sentence cannot be read.
        """
        if not text.strip():
            raise InputError("the text is empty; give at least one word", code="text-empty")
        if not SPEEDS[0] <= speed <= SPEEDS[1]:
            least, most = SPEEDS
            text_ = "speed is {got!r}; allowed: {least} to {most}"
            raise InputError(text_, code="speed-range", got=speed, least=least, most=most)
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if not 0 <= seed <= _LARGEST_SEED:
            raise InputError("seed is {got!r}; allowed: 0 to {most}", code="seed-range", got=seed, most=_LARGEST_SEED)
        conditions = {
            "speed": torch.tensor([speed], dtype=torch.float32, device=CPU),
            "seed": torch.tensor([seed], dtype=torch.int64, device=CPU),
        }
        front = StageStream(self._chain, self._voice.takes, self._voice.gives.name, True, conditions)
        return SpeechStream(self._voice, front, self._after(), text, self.sample_rate)

    def speak(self, text: str, *, speed: float = 1.0, seed: int | None = None) -> Speech:
        """Speak a text, and report where the time went.

        Args:
            text, speed, seed: as for `stream`.

        Raises:
            InputError: see `stream`.
        """
        start = time.perf_counter()
        stream = self.stream(text, speed=speed, seed=seed)
        audio = joined(list(stream))
        return Speech(audio=audio, **self._report(stream, start))

    @property
    def comments(self) -> Comments:
        """What files with this speech say of themselves: that the voice is synthetic, which it is, and the vocoder."""
        made_by = self.vocoder.name if self.vocoder else "the voice's own stages"
        return {
            "software": "tts-infer",
            "artist": f"{self.voice} (synthetic voice)",
            "comment": f"Synthetic speech. Voice: {self.voice}. Vocoder: {made_by}.",
        }

    @checked()
    def save(
        self,
        text: str,
        path: str | os.PathLike[str],
        *,
        speed: float = 1.0,
        seed: int | None = None,
        sample_format: SampleFormat = "pcm16",
    ) -> SpeechReport:
        """Speak a text into a file, in bounded memory. The file says that its voice is synthetic.

        Args:
            text, speed, seed: as for `stream`.
            path, sample_format: as for `write_audio`.

        Raises:
            InputError: see `stream`.
            FileError: see `write_audio`.
        """
        start = time.perf_counter()
        stream = self.stream(text, speed=speed, seed=seed)
        with audio_writer(path, self.sample_rate, sample_format, self.comments) as writer:
            for piece in stream:
                writer.write(piece[0])
        return SpeechReport(clipped_samples=writer.clipped_samples, **self._report(stream, start))

    def _report(self, stream: SpeechStream, start: float) -> dict[str, Any]:
        return {
            "voice": self.voice,
            "vocoder": self.vocoder.name if self.vocoder else None,
            "sample_rate": self.sample_rate,
            "seconds": stream.samples / self.sample_rate,
            "stages": stream.stages,
            "total_ms": (time.perf_counter() - start) * 1e3,
            "first_audio_ms": stream.first_audio_ms,
            "left_out": stream.left_out,
        }

    def _after(self) -> list[Step]:
        """What the output of the front end passes through, in order."""
        if self.vocoder is None:
            return []
        decoder = self.vocoder.stream(timed=True)
        gives = self._voice.gives
        if not isinstance(gives, AudioSpec):
            return [decoder]
        same = gives.sample_rate == self.sample_rate
        resampling: list[Step] = [] if same else [StreamingResampler(gives.sample_rate, self.sample_rate)]
        return [*resampling, self.vocoder.mel_stream(timed=True), decoder]


def _convention(gives: FeatureSpec) -> str:
    """What a voice gives, in words."""
    name = convention_name(gives.config) if isinstance(gives, MelSpec) else None
    return f"{gives.name} of {name or f'{gives.n_channels} channels at {gives.sample_rate} Hz'}"


@checked()
def load_speaker(
    voice: str | None = None,
    *,
    vocoder: str | os.PathLike[str] | Vocoder | None = None,
    device: str | torch.device = "auto",
    placement: PlacementSpec = None,
) -> Speaker:
    """Load a voice, ready to speak.

    Args:
        voice: a name from `list_voices`, also with its front end: "hibari/heart"; or a recording, with its front end:
            "f5-tts/me.wav"; None: the first.
        vocoder: what decodes the voice's features, or copies its audio: a vocoder, or a name as for `load_vocoder`;
            None: the voice's own audio, or the embedded vocoder for a voice that gives features.
        device: of the stages that `placement` does not name, and of a vocoder that is loaded here.
        placement: of the voice's stages, see `make_placement`.

    Raises:
        VoiceNotFoundError: no such voice, or it must be downloaded first.
        MissingPackageError: the package of the front end is not installed.
        InputError: the voice gives features, and there is no vocoder of their convention.
        PlacementError, VocoderNotFoundError, ...: see `make_placement` and `load_vocoder`.
    """
    front_end, found = find_voice(voice)
    loaded = FRONTENDS[front_end].load(found.name)
    name = os.path.basename(found.name) if found.from_recording else found.name  # files name the voice, not a folder
    if vocoder is None and not isinstance(loaded.gives, AudioSpec):
        vocoder = DEFAULT_VOCODER
    if vocoder is not None and not isinstance(vocoder, Vocoder):
        # its features are made here, in its own convention
        vocoder = load_vocoder(vocoder, device=device, check_convention=False)
    return Speaker(f"{front_end}/{name}", loaded, vocoder, placement, device)


@checked()
def speak(
    text: str,
    voice: str | None = None,
    *,
    vocoder: str | os.PathLike[str] | Vocoder | None = None,
    speed: float = 1.0,
    seed: int | None = None,
    device: str | torch.device = "auto",
    placement: PlacementSpec = None,
) -> Speech:
    """Speak a text. For many texts, `load_speaker` loads the voice once.

    Args:
        text, speed, seed: as for `Speaker.stream`.
        voice, vocoder, device, placement: as for `load_speaker`.

    Raises:
        InputError, VoiceNotFoundError, MissingPackageError, ...: see `load_speaker` and `Speaker.stream`.
    """
    return load_speaker(voice, vocoder=vocoder, device=device, placement=placement).speak(text, speed=speed, seed=seed)


@checked()
def speak_stream(
    text: str,
    voice: str | None = None,
    *,
    vocoder: str | os.PathLike[str] | Vocoder | None = None,
    speed: float = 1.0,
    seed: int | None = None,
    device: str | torch.device = "auto",
    placement: PlacementSpec = None,
) -> SpeechStream:
    """Speak a text piece by piece, as the pieces are made: `for piece in speak_stream(text): play(piece)`.

    Args:
        text, voice, vocoder, speed, seed, device, placement: as for `speak`.

    Raises:
        InputError, VoiceNotFoundError, MissingPackageError, ...: see `load_speaker` and `Speaker.stream`.
    """
    return load_speaker(voice, vocoder=vocoder, device=device, placement=placement).stream(text, speed=speed, seed=seed)
