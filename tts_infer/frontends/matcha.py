"""matcha-tts: English sentences to the mel of HiFi-GAN at 22.05 kHz. Text and networks are the package's.

The encoder gives a mean mel and a duration for each phoneme; the decoder leads from noise to a mel in several steps.
The noise is drawn here, so that a seed gives the same speech on every device.

Source: matcha-tts 0.0.7.2 (MIT), matcha/models/matcha_tts.py and matcha/cli.py; configs/model of
shivammehta25/Matcha-TTS.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tts_infer.devices import CPU
from tts_infer.dsp.conventions import CONVENTIONS
from tts_infer.errors import VoiceNotFoundError, import_other
from tts_infer.frontends.frontend import Part, Voice
from tts_infer.stages import Stage, State, Tensors
from tts_infer.vocoders.features import MelSpec
from tts_infer.vocoders.layouts import fit
from tts_infer.vocoders.weights import read_weights

DISTRIBUTION = "matcha-tts"
MEL = CONVENTIONS["hifigan-22k"]
STEPS, _TEMPERATURE, _PACE = 10, 0.667, 0.95  # as matcha/cli.py has them for this voice
_LONGEST = 400  # characters of a part
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_TITLES = {f"{title}." for title in ("mr", "mrs", "dr", "st", "jr", "gen", "rev", "lt", "hon", "sgt", "capt", "col")}
_MULTIPLE = 4  # of frames, which the decoder halves twice
_URL = "github.com/shivammehta25/Matcha-TTS-checkpoints/releases/download/v1.0/"


class MatchaFrontEnd:
    """Matcha-TTS. Entry of `FRONTENDS`."""

    package = "matcha"
    # 18.2 M parameters, and as many numbers twice of the optimizer, in float32
    voices = (Voice("ljspeech", "en-US", "female, American English", "MIT", 218.0),)

    def load(self, voice: str) -> MatchaVoice:
        home = import_other("matcha.utils.utils", DISTRIBUTION).get_user_data_dir()
        package = import_other("matcha.models.matcha_tts", DISTRIBUTION)
        path = Path(home) / f"matcha_{voice}.ckpt"
        if not path.is_file():
            raise VoiceNotFoundError(
                "voice {name!r} must be downloaded first ({size:.0f} MB, {license}): fetch {url} to {path}, or set "
                "MATCHA_HOME to its folder",
                code="matcha-not-downloaded", name=voice, size=self.voices[0].download_mb,
                license=self.voices[0].license, url=_URL + path.name, path=str(path),
            )  # fmt: skip
        text = import_other("matcha.text", DISTRIBUTION)
        model = network(package, len(text.symbols))
        model.load_state_dict(fit(read_weights(path), model.state_dict(), (), path, "Matcha-TTS"))
        return MatchaVoice(text, model)


def network(package: Any, symbols: int) -> Any:
    """The network of the published voice, with random weights.

    Args:
        package: the module `matcha.models.matcha_tts`.
        symbols: how many there are.
    """
    duration = {"filter_channels_dp": 256, "kernel_size": 3, "p_dropout": 0.1}
    encoder = duration | {"n_channels": 192, "filter_channels": 768, "n_heads": 2, "n_layers": 6, "prenet": True}
    return package.MatchaTTS(
        n_vocab=symbols, n_spks=1, spk_emb_dim=64, n_feats=MEL.n_mels, data_statistics=None, out_size=None,
        encoder=SimpleNamespace(
            encoder_type="RoPE Encoder", encoder_params=SimpleNamespace(**encoder, n_feats=MEL.n_mels),
            duration_predictor_params=SimpleNamespace(**duration),
        ),
        decoder={"channels": (256, 256), "dropout": 0.05, "attention_head_dim": 64, "n_blocks": 1,
                 "num_mid_blocks": 2, "num_heads": 2, "act_fn": "snakebeta"},
        cfm=SimpleNamespace(solver="euler", sigma_min=1e-4),
    )  # fmt: skip


class MatchaVoice:
    """One voice, see `LoadedVoice`.

    Args:
        text: the module `matcha.text`.
        model: the network.
    """

    gives, takes = MelSpec(MEL), "ids"
    reading = ("phonemes", "matcha-tts")

    def __init__(self, text: Any, model: nn.Module) -> None:
        self._symbols = {symbol: i for i, symbol in enumerate(text.symbols)}
        self._cleaned, self._ascii = text.cleaners.english_cleaners2, text.cleaners.convert_to_ascii
        module = Acoustic(model).eval().requires_grad_(False)
        self.stages: tuple[Stage, ...] = (AcousticStage("acoustic", module, ("ids", "speed", "seed"), ("mel",)),)

    def read(self, text: str) -> Iterator[Part]:
        for sentence in _sentences(text):
            left_out = tuple(dict.fromkeys(one for one in sentence if not one.isspace() and not self._ascii(one)))
            for phrase in textwrap.wrap(sentence, _LONGEST):
                ids = [self._symbols[one] for one in self._cleaned(phrase) if one in self._symbols]
                if any(map(str.isalnum, self._ascii(phrase))) and ids:
                    blank = [0] * (2 * len(ids) + 1)
                    blank[1::2] = ids
                    yield Part(torch.tensor([blank], dtype=torch.int64, device=CPU), left_out)
                    left_out = ()
            if left_out:
                yield Part(None, left_out)


def _sentences(text: str) -> Iterator[str]:
    """The sentences of a text. The dot of a title ends none."""
    sentence = ""
    for piece in _SENTENCE.split(" ".join(text.split())):
        sentence = f"{sentence} {piece}".lstrip()
        if sentence.rpartition(" ")[2].lower() not in _TITLES:
            yield sentence
            sentence = ""
    if sentence:
        yield sentence


class Acoustic(nn.Module):
    """The network with the noise as an input.

    Args:
        model: the `MatchaTTS` of the package.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def means(self, ids: Tensor, scale: Tensor) -> Tensor:
        """The mean mel, each phoneme's as long as it lasts. Shape: (1, P), (1,) -> (1, n_mels, L)"""
        means, log_durations, _ = self.model.encoder(ids, torch.tensor([ids.shape[1]], device=ids.device))
        ends = (log_durations[0, 0].exp().ceil() * scale).cumsum(0)
        frames = torch.arange(max(1, int(ends[-1])), device=ids.device, dtype=ends.dtype)
        phoneme = torch.searchsorted(ends, frames, right=True).clamp_max(ids.shape[1] - 1)
        return means[:, :, phoneme]

    def forward(self, means: Tensor, noise: Tensor) -> Tensor:
        """The mel. Shape: (1, n_mels, L), (1, n_mels, L') -> (1, n_mels, L), L' a multiple of 4"""
        frames = means.shape[2]
        padded = nn.functional.pad(means, (0, noise.shape[2] - frames))
        mask = (torch.arange(noise.shape[2], device=noise.device) < frames)[None, None].to(noise.dtype)
        steps = torch.linspace(0, 1, STEPS + 1, device=noise.device, dtype=noise.dtype)
        mel = self.model.decoder.solve_euler(noise, t_span=steps, mu=padded, mask=mask, spks=None, cond=None)
        return mel[:, :, :frames] * self.model.mel_std + self.model.mel_mean


@dataclass(frozen=True)
class AcousticStage(Stage):
    """Phoneme ids to a mel. Its state counts the parts.

    Shape: (1, P), speed and seed of (1,) -> (1, n_mels, L)
    """

    engines: ClassVar[tuple[str, ...]] = ("torch",)

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        ids, speed, seed = inputs
        count = state.get("parts", 0) if state else 0
        means = self.module.means(ids, _PACE / speed)
        length = -(-means.shape[2] // _MULTIPLE) * _MULTIPLE
        generator = torch.Generator(CPU).manual_seed((int(seed) + count) % 2**63)
        noise = torch.empty(1, length, means.shape[1], dtype=torch.float32, device=CPU).transpose(1, 2)
        noise.normal_(generator=generator)  # over these strides, as the package draws it
        mel = self.module(means, noise.to(means.device) * _TEMPERATURE)
        return (mel,), {"parts": count + 1}

    def probe(self) -> Tensors:
        ids = torch.arange(1, 17, dtype=torch.int64, device=CPU)[None]
        return ids, torch.ones(1, dtype=torch.float32, device=CPU), torch.zeros(1, dtype=torch.int64, device=CPU)

    @property
    def frame_axis(self) -> int:
        return 1
