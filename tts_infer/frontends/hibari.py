"""hibari: English sentences to audio at 24 kHz. The package reads the text; its graph gives a spectrum in parts.

    S = exp(lh) e^(i pi tanh(theta)) STFT(pulses(f0))  +  exp(ln) Z  +  exp(lr) e^(i phi)

The first term is the voiced part: a train of pulses, filtered. Z is Gaussian noise, and the last term is free. Each
sentence is a signal of its own; it begins and ends in silence.

Source: hibari-tts 0.2.1 (Apache-2.0), hibari/tts.py and hibari/dsp.py.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from tts_infer.config import SpectralMethod
from tts_infer.devices import CPU
from tts_infer.documents import load_json
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.pulses import PulseTrain
from tts_infer.dsp.stft import STFT
from tts_infer.errors import InputError, VoiceNotFoundError, few, first_sentence, require_package
from tts_infer.frontends.frontend import AudioSpec, Part, Voice
from tts_infer.stages import PROBE_BATCH, PROBE_FRAMES, GraphFile, Stage, State, Tensors, wave
from tts_infer.vocoders.spectral import METHODS, ISTFTStage

N_FFT, HOP_LENGTH, SAMPLE_RATE = 1200, 300, 24000
BINS = N_FFT // 2 + 1
PARTS = ("harmonic", "theta", "noise_level", "free", "phi")  # lh, theta, ln, lr, phi
MOST_PHONEMES = 400  # of a part; a longer sentence is cut at a clause, else between words
_LARGEST_LOG = 7.0  # magnitudes are not larger than exp of this
_CLAUSE = re.compile(r"(?<=[,;:—])\s+")
_WORD = re.compile(r"[^\W\d_]+")
_DIGITS = re.compile(r"\d{16,}")  # longer than any number word; the package fails on the longest
_LICENSE = "Apache-2.0"


class HibariFrontEnd:
    """hibari-tts. Entry of `FRONTENDS`; needs the extra `speak`."""

    package = "hibari"
    voices = (
        Voice("heart", "en-US", "female, American English", _LICENSE),
        Voice("emma", "en-GB", "female, British English", _LICENSE, 7.9),
        Voice("fenrir", "en-US", "male, American English", _LICENSE, 8.0),
        Voice("fable", "en-GB", "male, British English", _LICENSE, 7.9),
        Voice("kore", "en-US", "female, American English", _LICENSE, 7.9),
    )

    def load(self, voice: str) -> HibariVoice:
        tts = require_package("hibari.tts", "speak", "hibari-tts")
        require_package("onnxruntime", "speak")
        known = next(one for one in self.voices if one.name == voice)
        try:
            path = require_package("hibari.voices", "speak", "hibari-tts").voice_path(voice, download_missing=False)
        except FileNotFoundError as error:
            raise VoiceNotFoundError(
                "voice {name!r} must be downloaded first ({size} MB, {license}); run: hibari Hello --voice {name} "
                "-o hello.wav; or put its file at {path}",
                code="voice-not-downloaded",
                name=voice,
                size=known.download_mb,
                license=known.license,
                path=str(error),
            ) from None
        return HibariVoice(tts, Path(path), british=known.language == "en-GB")


class HibariVoice:
    """One voice, see `LoadedVoice`.

    Args:
        package: the module `hibari.tts`, of which only the cutting of sentences is used.
        graph: the voice's file.
        british: which pronunciation.
    """

    gives = AudioSpec(SAMPLE_RATE)
    takes = "ids"
    reading = ("phonemes", "hibari")

    def __init__(self, package: Any, graph: Path, british: bool) -> None:
        self._sentences, self._package = (
            package.Hibari.split_sentences,
            require_package("hibari.g2p", "speak", "hibari-tts"),
        )
        self._g2p = self._package.G2P(british=british)
        self._letters: set[str] = set(self._g2p.oov.cin)
        self._longest_word: int = self._g2p.oov.maxlen
        self._vocabulary = load_json(Path(package.ASSETS) / "vocab.json")
        self.stages: tuple[Stage, ...] = (
            AcousticStage("acoustic", GraphFile(graph), ("ids", "speed", "seed"), (*PARTS, "pitch", "noise")),
            SourceStage.of(HarmonicSource("fft")),
            SentenceISTFTStage.of(SentenceISTFT(N_FFT, HOP_LENGTH, method="fft")),
        )

    def read(self, text: str) -> Iterator[Part]:
        for sentence in self._sentences(unicodedata.normalize("NFC", text)):
            readable, left_out = self._readable(sentence)
            phonemes, unread = self._phonemes(readable)
            left_out += unread
            for phrase in _phrases(phonemes):
                ids = [self._vocabulary[one] for one in phrase if one in self._vocabulary]
                if ids:
                    yield Part(torch.tensor([[0, *ids, 0]], device=CPU), left_out)
                    left_out = ()
            if left_out:
                yield Part(None, left_out)

    def _readable(self, sentence: str) -> tuple[str, tuple[str, ...]]:
        """A sentence as the package reads all of it, and the letters of other scripts, which it would drop.

        It would also cut long words, and fails on long numbers: these are read in pieces, and digit by digit.
        """
        known: list[str] = []
        unknown: list[str] = []
        for foreign, run in itertools.groupby(sentence, lambda one: one.isalpha() and one not in self._letters):
            (unknown if foreign else known).append("".join(run))
        size = self._longest_word
        readable = _DIGITS.sub(lambda found: " ".join(found.group()), " ".join(known))
        readable = _WORD.sub(lambda found: " ".join(re.findall(f".{{1,{size}}}", found.group())), readable)
        return readable, tuple(unknown)

    def _phonemes(self, sentence: str) -> tuple[str, tuple[str, ...]]:
        """The phonemes of a sentence, and the symbols without any."""
        try:
            tokens = self._g2p.phonemize_tokens(self._g2p.tokenize(self._package.normalize(sentence)))
        except (IndexError, KeyError, ValueError, TypeError) as error:  # a fault of the package
            raise InputError(
                "cannot read {sentence!r}: {reason}; write it in other words",
                code="sentence-unreadable",
                sentence=few([sentence]),
                reason=first_sentence(error),
            ) from None
        spoken = "".join((one.phonemes or "") + (" " if one.whitespace else "") for one in tokens).strip()
        return spoken, tuple(one.text for one in tokens if not one.phonemes and any(map(_is_symbol, one.text)))


def _is_symbol(character: str) -> bool:
    """Whether it says something, unlike punctuation, and is no currency, which is spoken after its number."""
    return unicodedata.category(character) in ("So", "Sk", "Co", "Cn", "Cs") or character.isalnum()


def _phrases(phonemes: str) -> Iterator[str]:
    """Phonemes, cut where there are more than `MOST_PHONEMES`: after a clause, else between words, else anywhere.

    Source: hibari/tts.py Hibari.phonemize, which cuts after clauses only.
    """
    if len(phonemes) <= MOST_PHONEMES:
        yield from [phonemes] if phonemes else []
        return
    pieces = [piece for clause in _CLAUSE.split(phonemes) for piece in _cut(clause)]
    phrase = pieces[0]
    for piece in pieces[1:]:
        if len(phrase) + len(piece) + 1 > MOST_PHONEMES:
            yield phrase
            phrase = piece
        else:
            phrase = f"{phrase} {piece}"
    yield phrase


def _cut(clause: str) -> list[str]:
    return textwrap.wrap(clause, MOST_PHONEMES) if len(clause) > MOST_PHONEMES else [clause]


@dataclass(frozen=True)
class AcousticStage(Stage):
    """Phoneme ids to the parts of a spectrum, a pitch, and Gaussian noise. Its state is that of the noise's generator.

    Shape: (1, P), speed and seed of (1,) -> 5 x (1, N, L), pitch of (1, L), noise of (1, N, L, 2)
    """

    engines: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        ids, speed, seed = inputs
        *parts, pitch = self.module(ids, speed)
        generator = np.random.default_rng(int(seed))
        if state:
            generator.bit_generator.state = state["generator"]
        noise = generator.standard_normal((*parts[0].shape, 2), dtype=np.float32)
        return (*parts, pitch, torch.from_numpy(noise)), {"generator": generator.bit_generator.state}

    def probe(self) -> Tensors:
        ids = torch.tensor([[0, 50, 47, 54, 31, 0]], device=CPU)  # "helO"
        return ids, torch.ones(1, dtype=torch.float32, device=CPU), torch.zeros(1, dtype=torch.int64, device=CPU)

    @property
    def frame_axis(self) -> int:
        return 1


class HarmonicSource(nn.Module):
    """The spectrum of a voice: filtered pulses, noise, and a free part; see the head of this file.

    Args:
        method: of the STFT.

    Shape: 5 x (B, N, L), pitch of (B, L), noise of (B, N, L, 2) -> real, imag of (B, N, L)
    """

    def __init__(self, method: SpectralMethod) -> None:
        super().__init__()
        self.pulses = PulseTrain(SAMPLE_RATE, HOP_LENGTH)
        self.stft = STFT(N_FFT, HOP_LENGTH, method=method)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        harmonic, theta, noise_level, free, phi, pitch, noise = inputs
        frames = harmonic.shape[2]
        # a cosine of amplitude 1 has a peak of half the window's sum: divide, so that exp(harmonic) is its magnitude
        a, b = (x[..., :frames] * (4 / N_FFT) for x in self.stft(self.pulses(pitch)))
        gain, level, rest = (_magnitude(x) for x in (harmonic, noise_level, free))
        angle = theta.tanh() * math.pi
        c, d = gain * angle.cos(), gain * angle.sin()
        real = a * c - b * d + level * noise[..., 0] + rest * phi.cos()
        imag = a * d + b * c + level * noise[..., 1] + rest * phi.sin()
        return real, imag


def _magnitude(log: Tensor) -> Tensor:
    return log.clamp_max(_LARGEST_LOG).exp()


@dataclass(frozen=True)
class SourceStage(Stage):
    """The parts of a spectrum to the spectrum. Every piece of a stream is a sentence, and begins with its own pulses.

    Shape: see `HarmonicSource`
    """

    methods: ClassVar[tuple[str, ...]] = METHODS

    @classmethod
    def of(cls, source: HarmonicSource) -> SourceStage:
        return cls("source", source, (*PARTS, "pitch", "noise"), ("real", "imag"), method=source.stft.method)

    def by(self, method: str) -> SourceStage:
        if method == self.method:
            return self
        return replace(self, module=HarmonicSource(cast(SpectralMethod, method)), method=method)

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        return self.module(*inputs), {}

    def probe(self) -> Tensors:
        part = wave(PROBE_BATCH, BINS, PROBE_FRAMES)
        pitch = 150 + 120 * wave(PROBE_BATCH, PROBE_FRAMES)
        return part, 2 * part, part - 1, part - 2, 3 * part, pitch, wave(PROBE_BATCH, BINS, PROBE_FRAMES, 2)


class SentenceISTFT(ISTFT):
    """An inverse STFT that gives hop_length samples for every frame: the last hop ends with the last window.

    Source: torch.istft(center=True, length=L * hop_length).
    """

    def n_samples(self, frames: int) -> int:
        return frames * self.hop_length


@dataclass(frozen=True)
class SentenceISTFTStage(ISTFTStage):
    """Spectrum to audio. Every piece of a stream is a sentence, and a whole signal.

    Shape: 2 x (B, N, L) -> (B, L * hop_length)
    """

    @property
    def delay_frames(self) -> int:
        return 0

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        return (self.module(*inputs, valid),), {}
