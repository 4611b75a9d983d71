"""f5-tts: a text in the voice of a recording, to the mel that Vocos decodes. The network is the package's.

A voice is the path of a recording: "f5-tts/me.wav". What is said in it stands in a text file beside it: me.txt.

The network predicts the mel of the recording and of what follows it. It is asked several times, on the way from noise
to the mel. The noise is drawn here, so that a seed gives the same speech on every device.

Source: f5-tts 1.1.22 (code MIT, weights CC-BY-NC-4.0), f5_tts/model/cfm.py and f5_tts/infer/utils_infer.py.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig
from tts_infer.devices import CPU
from tts_infer.documents import load_yaml
from tts_infer.dsp.mel import LogMel
from tts_infer.errors import FileError, InputError, VoiceNotFoundError, import_other
from tts_infer.frontends.frontend import Part, Voice
from tts_infer.io.audio import read_audio
from tts_infer.io.text import read_text
from tts_infer.stages import Stage, State, Tensors
from tts_infer.vocoders.features import MelSpec
from tts_infer.vocoders.layouts import fit
from tts_infer.vocoders.weights import SUFFIXES, read_weights

DISTRIBUTION = "f5-tts"
HOME = "F5_TTS_HOME"  # folder of another model: config.yaml, weights, vocab.txt
REPO, WEIGHTS, CONFIG = "SWivid/F5-TTS", "F5TTS_v1_Base/model_1250000.safetensors", "F5TTS_v1_Base.yaml"
MEL = MelConfig()
# What the network heard in training: the mel with this floor, of speech that is not quieter than this.
_HEARD, _LOUDNESS = MelConfig(log_floor=1e-5), 0.1
STEPS, _GUIDANCE, _SWAY = 32, 2.0, -1.0
_REFERENCE_S, _WHOLE_S = (0.5, 12.0), 22.0  # of the recording; of it and of one part together
_SHORT, _SHORT_SPEED = 10, 0.3  # a part of fewer bytes is spoken as slowly as this
_BREAKS = re.compile(r"(?<=[;:,.!?])\s+|(?<=[；：，。！？])")


class F5FrontEnd:
    """F5-TTS. Entry of `FRONTENDS`."""

    package = "f5_tts"
    voices = (
        Voice(
            "RECORDING", "en, zh", "who speaks in RECORDING, whose words stand in a .txt file beside it",
            "CC-BY-NC-4.0", 1348.0, from_recording=True,
        ),
    )  # fmt: skip

    def load(self, voice: str) -> F5Voice:
        text = import_other("f5_tts.model.utils", DISTRIBUTION)
        network = import_other("f5_tts.model.backbones.dit", DISTRIBUTION)
        words, reference = read_recording(Path(voice))
        config, weights, vocabulary = _files(Path(str(network.__file__)).parents[2])
        table, size = text.get_tokenizer(str(vocabulary), "custom")
        model = load_yaml(config).get("model")
        if not isinstance(model, dict) or model.get("backbone") != "DiT" or not isinstance(model.get("arch"), dict):
            raise FileError(
                "{path} is no configuration of an F5-TTS model; it must have model.backbone DiT and model.arch",
                code="f5-config", path=config,
            )  # fmt: skip
        transformer = network.DiT(**model["arch"], text_num_embeds=size, mel_dim=MEL.n_mels)
        transformer.load_state_dict(fit(read_weights(weights), transformer.state_dict(), (), weights, config.name))
        return F5Voice(text.convert_char_to_pinyin, table, transformer, words, reference)


class F5Voice:
    """The voice of one recording, see `LoadedVoice`.

    Args:
        spell: words to letters, and Chinese to pinyin.
        table: number of each letter.
        transformer: the network.
        words: what is said in the recording.
        reference: its mel. Shape: (1, n_mels, L)
    """

    gives, takes = MelSpec(MEL), "letters"
    reading = ("letters", "f5-tts")

    def __init__(
        self, spell: Any, table: dict[str, int], transformer: nn.Module, words: str, reference: Tensor
    ) -> None:
        self._spell, self._table, self._words = spell, table, words
        frames = reference.shape[2] - 1  # the last one lies behind the end
        self._per_byte = frames / len(words.encode())
        seconds = frames * MEL.hop_length / MEL.sample_rate
        self._most_bytes = max(1, int(len(words.encode()) / seconds * (_WHOLE_S - seconds)))
        module = Flow(transformer, reference.transpose(1, 2).contiguous()).eval().requires_grad_(False)
        self.stages: tuple[Stage, ...] = (FlowStage("acoustic", module, ("letters", "speed", "seed"), ("mel",)),)

    def read(self, text: str) -> Iterator[Part]:
        for said in phrases(text, self._most_bytes):
            own = self._spell([said])[0]
            left_out = tuple(dict.fromkeys(one for one in own if one not in self._table))
            if not any(one in self._table and any(map(str.isalnum, one)) for one in own):
                yield Part(None, left_out)
                continue
            slow = 1 / _SHORT_SPEED if len(said.encode()) < _SHORT else 1.0
            frames = max(1, int(self._per_byte * len(said.encode()) * slow))
            ids = [self._table[one] for one in self._spell([self._words + said])[0] if one in self._table]
            yield Part(torch.tensor([[STEPS, frames, *ids]], dtype=torch.int64, device=CPU), left_out)


def read_recording(path: Path) -> tuple[str, Tensor]:
    """What is said in a recording, and its mel as the network knows mels.

    Shape: mel (1, n_mels, L)
    Raises:
        VoiceNotFoundError: there is no text beside it.
        InputError: it is too short, too long or silent, or the text is empty.
        FileError: it cannot be read.
    """
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        raise VoiceNotFoundError(
            "what is said in the recording {path} is not known; write it into {beside}",
            code="recording-text", path=path.name, beside=beside.name,
        )  # fmt: skip
    words = " ".join(read_text(beside).split())
    clip = read_audio(path, MEL.sample_rate)
    seconds = len(clip.samples) / MEL.sample_rate
    loudness = float((clip.samples**2).mean()) ** 0.5 if len(clip.samples) else 0.0
    if not words or not _REFERENCE_S[0] <= seconds <= _REFERENCE_S[1] or loudness == 0:
        raise InputError(
            "a recording for a voice needs {least} to {most} s of speech and its words; {path} has {seconds:.1f} s of "
            "loudness {loudness:.4f}, and {count} letters in {beside}",
            code="recording-unfit", least=_REFERENCE_S[0], most=_REFERENCE_S[1], path=path.name, seconds=seconds,
            loudness=loudness, count=len(words), beside=beside.name,
        )  # fmt: skip
    ended = words if words.endswith(("。", ".")) else f"{words}."
    audio = torch.from_numpy(clip.samples)[None] * max(1.0, _LOUDNESS / loudness)
    return ended if ended.endswith("。") else f"{ended}  ", LogMel(_HEARD)(audio)


def phrases(text: str, most: int) -> Iterator[str]:
    """A text in phrases of at most `most` bytes: cut at punctuation, else between words, else anywhere."""
    phrase = ""
    for piece in (part for whole in _BREAKS.split(" ".join(text.split())) for part in _pieces(whole, most)):
        joined = f"{phrase} {piece}" if phrase and phrase[-1].isascii() else phrase + piece
        if phrase and len(joined.encode()) > most:
            yield phrase
            joined = piece
        phrase = joined
    if phrase:
        yield phrase


def _pieces(phrase: str, most: int) -> Iterator[str]:
    """A phrase without punctuation, cut where it is too long."""
    while len(phrase.encode()) > most:
        fits = len(phrase.encode()[:most].decode(errors="ignore")) or 1
        end = phrase.rfind(" ", 1, fits + 1)
        end = end if end > 0 else fits
        yield phrase[:end]
        phrase = phrase[end:].lstrip()
    if phrase:
        yield phrase


def _files(package: Path) -> tuple[Path, Path, Path]:
    """The model's configuration, weights and letters: of the folder that the user names, else of the published model.

    Args:
        package: where the configuration and letters of the published model are.

    Raises:
        VoiceNotFoundError: they are not there.
    """
    from huggingface_hub import try_to_load_from_cache

    home = os.environ.get(HOME)
    if home:
        found = sorted(path for path in Path(home).glob("*") if path.suffix in SUFFIXES)
        files = Path(home, "config.yaml"), found[0] if len(found) == 1 else None, Path(home, "vocab.txt")
        if files[1] is None or not files[0].is_file() or not files[2].is_file():
            raise VoiceNotFoundError(
                "{variable} is {home}, which must hold config.yaml, vocab.txt and one file of weights; it has {count}",
                code="f5-home", variable=HOME, home=home, count=len(found),
            )  # fmt: skip
        return files[0], files[1], files[2]
    weights = try_to_load_from_cache(REPO, WEIGHTS)
    if not isinstance(weights, str):
        raise VoiceNotFoundError(
            "the model of F5-TTS must be downloaded first ({size:.0f} MB, {license}); run: hf download {repo} {file}; "
            "or set {variable} to the folder of another",
            code="f5-not-downloaded", size=F5FrontEnd.voices[0].download_mb, license=F5FrontEnd.voices[0].license,
            repo=REPO, file=WEIGHTS, variable=HOME,
        )  # fmt: skip
    return package / "configs" / CONFIG, Path(weights), package / "infer" / "examples" / "vocab.txt"


class Flow(nn.Module):
    """From noise to a mel, on the path that the network tells the direction of.

    Args:
        transformer: the network.
        reference: the mel of the recording. Shape: (1, L, n_mels)
    """

    reference: Tensor

    def __init__(self, transformer: nn.Module, reference: Tensor) -> None:
        super().__init__()
        self.transformer = transformer
        self.register_buffer("reference", reference)

    def forward(self, ids: Tensor, noise: Tensor, steps: int) -> Tensor:
        """The mel of what follows the recording. Shape: (1, P), (1, L + F, n_mels) -> (1, n_mels, F)"""
        known = self.reference.shape[1]
        given = nn.functional.pad(self.reference, (0, 0, 0, noise.shape[1] - known))
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float32)
        times = times + _SWAY * (torch.cos(math.pi / 2 * times) - 1 + times)
        mel = noise
        for time, after in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            both = self.transformer(mel, given, ids, mel.new_tensor(time), cfg_infer=True, cache=False)
            wanted, without = both.chunk(2)
            mel = mel + (after - time) * (wanted + (wanted - without) * _GUIDANCE)
        return mel[:, known:].transpose(1, 2)


@dataclass(frozen=True)
class FlowStage(Stage):
    """Letters to a mel. A part begins with the number of steps and of frames at speed 1. Its state counts the parts.

    Shape: (1, 2 + P), speed and seed of (1,) -> (1, n_mels, F)
    """

    engines: ClassVar[tuple[str, ...]] = ("torch",)

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        part, speed, seed = inputs
        count = state.get("parts", 0) if state else 0
        steps, frames = part[0, :2].tolist()
        known: Tensor = self.module.reference
        # the network would drop, without a word, letters that are more than the frames
        length = max(known.shape[1] + 1, part.shape[1] - 1, known.shape[1] - 1 + int(frames / float(speed)))
        generator = torch.Generator(CPU).manual_seed((int(seed) + count) % 2**63)
        noise = torch.randn(length, known.shape[2], generator=generator, dtype=torch.float32, device=CPU)
        mel = self.module(part[:, 2:], noise[None].to(known.device), steps)
        return (mel,), {"parts": count + 1}

    def probe(self) -> Tensors:
        part = torch.tensor([[1, 24, *range(1, 17)]], dtype=torch.int64, device=CPU)
        return part, torch.ones(1, dtype=torch.float32, device=CPU), torch.zeros(1, dtype=torch.int64, device=CPU)

    @property
    def frame_axis(self) -> int:
        return 1
