"""`python -m training.finetune`: a folder of recordings in, an adapted vocoder out that both packages load."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

import tts_infer
from tests.conftest import ROOT
from training.finetune import divide, main, starting_point
from training.recipe import read_recipe
from tts_infer.errors import InputError
from tts_infer.vocoders.resnet import ResNetConfig
from tts_infer.vocoders.vocos import HeadConfig, VocoderConfig, Vocos


def test_whole_files_are_kept_out() -> None:
    files = [Path(f"{i}.wav") for i in range(30)]
    taken, kept = divide(files)
    assert len(kept) == 3 and sorted(taken + kept) == sorted(files)
    assert divide(files[::-1]) == (taken, kept)
    assert [len(part) for part in divide(files[:4])] == [3, 1]
    assert len(divide([Path(f"{i}.wav") for i in range(1000)])[1]) == 10
    with pytest.raises(InputError, match="3 recordings are too few: give 4 or more"):
        divide(files[:3])


def test_only_what_the_trainer_builds_is_adapted(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    assert starting_point(tts_infer.DEFAULT_VOCODER) == vocoder.model.config
    shipped = ROOT / "tts_infer" / "assets" / tts_infer.DEFAULT_VOCODER
    document = yaml.safe_load((shipped / "config.yaml").read_text())
    sizes = {"input_channels": 100, "dim": 16, "num_blocks": 1}
    document["backbone"] = {"class_path": "vocos.models.VocosResNetBackbone", "init_args": sizes}
    document["head"]["init_args"]["dim"] = 16
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
    other = Vocos(VocoderConfig(backbone=ResNetConfig(**sizes), head=HeadConfig(16, padding="center")))  # type: ignore[arg-type]
    save_file({name: value.contiguous() for name, value in other.state_dict().items()}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"cannot be adapted: it is no Vocos with ConvNeXt blocks and mel input"):
        starting_point(str(tmp_path))


@pytest.mark.slow
def test_a_folder_becomes_a_vocoder(
    tmp_path: Path, official: ModuleType, vocoder: tts_infer.Vocoder, capsys: pytest.CaptureFixture[str]
) -> None:
    voice, out = tmp_path / "voice", tmp_path / "adapted"
    voice.mkdir()
    samples, rate = soundfile.read(ROOT / "examples" / "english.wav", dtype="float32")
    pieces = len(samples) // 4
    for i in range(4):
        soundfile.write(voice / f"{i}.flac", samples[i * pieces : (i + 1) * pieces], rate)
    command = [str(voice), "--out", str(out), "--minutes", "0.03", "--pitch-tracker", "none"]
    assert main(command) == 0
    said = capsys.readouterr().out
    for what in ("before, refine=0", "after, refine=16 - before, refine=16", "PESQ", "the same command continues"):
        assert what in said
    with (out / "training" / "recordings.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    (kept,) = (row["file"] for row in rows if row["role"] == "validation")
    assert said.count(f"{kept}  ") == 4 and not [row for row in rows if row["role"] == "train" and row["file"] in said]
    steps = read_recipe(out / "training" / "recipe.yaml").steps
    assert steps >= 1

    adapted = tts_infer.load_vocoder(out, device="cpu")
    mel = vocoder.mel(torch.from_numpy(samples)[None, :rate])
    moved = relative(adapted.decode(mel), vocoder.decode(mel))
    assert 1e-4 < moved < 0.5  # it moved, and is no other vocoder after a few steps
    theirs = official.Vocos.from_hparams(str(out / "config.yaml"))
    theirs.load_state_dict(load_file(out / "model.safetensors"))
    with torch.no_grad():
        assert (
            relative(theirs.eval().decode(mel), adapted.decode(mel)) <= 1e-4
        )  # float32 rounding, multiplied by the layers

    state = torch.load(out / "training" / "state.pt", weights_only=True)
    assert main([*command[:-4], "--minutes", "0.05", *command[-2:]]) == 0  # goes on by the same recipe
    after = torch.load(out / "training" / "state.pt", weights_only=True)
    assert state["step"] <= after["step"] <= steps == read_recipe(out / "training" / "recipe.yaml").steps


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


def test_too_few_recordings_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", torch.zeros(24000).numpy(), 24000)
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: 1 recordings are too few: give 4 or more")
    assert not (tmp_path / "out").exists()
