"""The three tables: a toy entry of each works everywhere, without an edit anywhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

import tts_infer
from tts_infer.cli import main
from tts_infer.config import DTypeName, MelConfig
from tts_infer.diagnose import doctor
from tts_infer.dsp.mel import LogMel
from tts_infer.engines import ENGINES
from tts_infer.frontends import FRONTENDS
from tts_infer.frontends.frontend import Part, Voice
from tts_infer.io.audio import read_audio
from tts_infer.stages import Stage, State, relative_error
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.features import MelSpec
from tts_infer.vocoders.networks import Contextual
from tts_infer.vocoders.spectral import MelStage

MEL = MelConfig(sample_rate=8000, n_fft=64, hop_length=16, n_mels=8, padding="same")


@dataclass(frozen=True)
class ToyConfig:
    mel: MelConfig
    width: int


@dataclass(frozen=True)
class GeneratorConfig:
    width: int = 8


class ToyModel(nn.Module):
    """Two convolutions, and a linear layer to the samples of each frame."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_extractor = LogMel(config.mel, "fft")
        self.generator = Generator(config.width)


class Generator(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(8, width, 3, padding=1), nn.Conv1d(width, width, 5, padding=2)
        self.out = nn.Linear(width, 16)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.second(self.first(mel).tanh()).transpose(1, 2)
        samples: Tensor = self.out(x).tanh().flatten(1)
        return samples


class ToyFamily:
    """The whole of a family: what the issue of a new one would add."""

    class_paths: Mapping[str, Mapping[str, type]] = {
        "feature_extractor": {"toy.Mel": MelConfig},
        "generator": {"toy.Generator": GeneratorConfig},
    }
    model: type[nn.Module] = ToyModel

    def configure(self, sections: Mapping[str, Any]) -> ToyConfig:
        return ToyConfig(sections["feature_extractor"], sections["generator"].width)

    def features(self, config: ToyConfig) -> MelSpec:
        return MelSpec(config.mel)

    def build(self, config: ToyConfig) -> ToyModel:
        return ToyModel(config)

    def stages(self, model: ToyModel) -> list[Stage]:
        generator = Contextual(
            "generator", model.generator, ("mel",), ("audio",), channels=8, hop=16, context=3, half=True
        )
        return [MelStage.of(model.feature_extractor), generator]

    def n_samples(self, config: ToyConfig, frames: int) -> int:
        return frames * config.mel.hop_length

    def constants(self, model: ToyModel) -> dict[str, Tensor]:
        return {}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of the toy family."""
    monkeypatch.setitem(FAMILIES, "toy", ToyFamily())
    mel = {"sample_rate": 8000, "n_fft": 64, "hop_length": 16, "n_mels": 8, "padding": "same"}
    sections = {
        "feature_extractor": {"class_path": "toy.Mel", "init_args": mel},
        "generator": {"class_path": "toy.Generator", "init_args": {"width": 6}},
    }
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "config.yaml").write_text(yaml.safe_dump(sections))
    torch.manual_seed(0)
    save_file(ToyModel(ToyConfig(MEL, 6)).state_dict(), tmp_path / "toy" / "model.safetensors")
    return tmp_path / "toy"


@pytest.fixture
def toy(folder: Path) -> tts_infer.Vocoder:
    return tts_infer.load_vocoder(folder, device="cpu")


MELS = torch.randn(2, 8, 50, generator=torch.Generator().manual_seed(1))


def test_a_toy_family_decodes_batches_and_streams(toy: tts_infer.Vocoder) -> None:
    whole = toy.decode(MELS)
    assert whole.shape == (2, 800) and toy.sample_rate == 8000
    stream = toy.stream()
    assert relative_error(torch.cat(list(stream.decode(MELS.split(7, dim=2))), 1), whole) <= 1e-5  # float32 sums
    for got, want in zip(
        toy.decode([MELS[0], MELS[1, :, :31]]), (whole[0], toy.decode(MELS[1, :, :31])[0]), strict=True
    ):
        assert relative_error(got, want) <= 1e-5  # as above
    copied = toy(torch.randn(1, 1600, generator=torch.Generator().manual_seed(2)) * 0.1)
    assert copied.shape == (1, 1600)
    with pytest.raises(tts_infer.InputError, match="leave refine at 0"):
        toy.decode(MELS, refine=2)


def test_a_toy_family_is_placed_timed_and_tested(toy: tts_infer.Vocoder, folder: Path) -> None:
    assert str(toy.placement) == "mel=cpu/fft,generator=cpu/torch"
    assert [row["stage"] for row in toy.synthesize(audio=np.zeros(160, np.float32)).stages] == ["mel", "generator"]
    with pytest.raises(tts_infer.PlacementError, match="the stages are: mel, generator"):
        tts_infer.load_vocoder(folder, placement="backbone=cpu")
    report = doctor.examine("cpu", str(folder))
    assert list(report["placement"]) == ["mel", "generator"]
    assert {check["stage"] for check in report["checks"]} == {"mel", "generator"}
    assert all(check["passed"] for check in report["checks"])


def test_a_toy_family_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "mel.npy", MELS[0].numpy())
    out = tmp_path / "out.wav"
    command = ["decode", str(tmp_path / "mel.npy"), "-o", str(out), "--vocoder", str(folder), "--json"]
    assert main([*command, "--placement", "generator=cpu/torch"]) == 0
    assert [row["stage"] for row in json.loads(capsys.readouterr().out)["stages"]] == ["generator"]
    assert len(read_audio(out).samples) == 800
    assert main(["doctor", "--device", "cpu", "--vocoder", str(folder)]) == 0
    assert "generator cpu       torch" in capsys.readouterr().out


class Doubling:
    """A toy engine: torch's modules, computed twice to be sure."""

    automatic = False
    package = None
    examined = True

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        return None if stage.half else "it runs networks only"

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        def twice(*inputs: Any) -> Any:
            first, second = stage.module(*inputs), stage.module(*inputs)
            assert relative_error(first, second) == 0.0
            return second

        return stage.using(twice)

    def padded_frames(self, batch: int, frames: int) -> int | None:
        return None


def test_a_toy_engine(monkeypatch: pytest.MonkeyPatch, vocoder: tts_infer.Vocoder) -> None:
    monkeypatch.setitem(ENGINES, "doubling", Doubling())
    placed = tts_infer.load_vocoder(device="cpu", placement="head=cpu/doubling", refine=0)
    mel = torch.randn(1, 100, 20, generator=torch.Generator().manual_seed(0)) - 4
    assert relative_error(placed.decode(mel), vocoder.decode(mel)) <= 1e-5  # products summed in another order
    assert {row["stage"]: row["engine"] for row in placed.synthesize(mel).stages}["head"] == "doubling"
    with pytest.raises(tts_infer.PlacementError, match="'doubling', but it runs networks only"):
        tts_infer.make_placement("mel=cpu/doubling")
    checks = doctor.examine("cpu")["checks"]
    assert {check["stage"] for check in checks if check["engine"] == "doubling"} == {"backbone", "head"}
    assert all(check["passed"] for check in checks)


@dataclass(frozen=True)
class ToneStage(Stage):
    """A tone for each letter. Shape: (1, letters) -> (1, n_mels, 12 letters)"""

    def __call__(
        self, inputs: Any, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> Any:
        letters = inputs[0][0]
        mel = torch.full((1, 100, 12 * len(letters)), -11.0)
        for i, letter in enumerate(letters):
            mel[:, self.module + int(letter) % 26, 12 * i : 12 * i + 12] = 2.0
        return (mel,), {}

    def probe(self) -> Any:
        return (torch.tensor([[104, 105]]),)


class ToyVoice:
    """A voice of the toy front end: a part for each word."""

    gives, takes, reading = MelSpec(MelConfig()), "letters", ("spelling", "toy")

    def __init__(self, first: int) -> None:
        self.stages = [ToneStage("tones", first, ("letters",), ("mel",))]

    def read(self, text: str) -> Iterator[Part]:
        for word in text.split():
            yield Part(torch.tensor([list(map(ord, word))]))


class ToyFrontEnd:
    """A toy front end that gives features."""

    package = "json"
    voices = (Voice("high", "en", "a toy", "MIT"), Voice("low", "en", "a toy", "MIT"))

    def load(self, voice: str) -> ToyVoice:
        return ToyVoice(10 if voice == "low" else 40)


def test_a_toy_front_end(monkeypatch: pytest.MonkeyPatch, vocoder: tts_infer.Vocoder) -> None:
    monkeypatch.setitem(FRONTENDS, "tones", ToyFrontEnd())
    speaker = tts_infer.load_speaker("low", vocoder=vocoder, device="cpu")
    pieces = list(speaker.stream("say hello"))
    (mel,), _ = ToneStage("tones", 10, ("letters",), ("mel",))((torch.tensor([list(map(ord, "sayhello"))]),))
    assert relative_error(torch.cat(pieces, dim=1), vocoder.decode(mel)) <= 1e-5  # as above
    assert [row["stage"] for row in speaker.speak("hello").stages][:2] == ["spelling", "tones"]
    assert doctor.examine("cpu")["frontends"]["tones"] == ["high", "low"]
    embedded = tts_infer.load_speaker("tones/low", device="cpu").vocoder
    assert embedded is not None and embedded.name == tts_infer.DEFAULT_VOCODER
    monkeypatch.setattr(ToyVoice, "gives", MelSpec(MelConfig(n_mels=80)))
    with pytest.raises(tts_infer.InputError, match="'tones/low' gives mel of 80 channels at 24000 Hz, which needs a"):
        tts_infer.load_speaker("tones/low")
