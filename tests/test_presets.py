"""Entries of `configs/vocoders`: those without mels, files in other places of a repository, sizes from weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

import tts_infer
from tts_infer.cli import main
from tts_infer.config import VocoderPreset, build, known_vocoders
from tts_infer.errors import CheckpointError, ConfigError
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.checkpoint import resolve
from tts_infer.vocoders.family import read_document

COMMIT = "0" * 40


def filled(shapes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random weights of these shapes, small enough that no exponential overflows."""
    generator = torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in shapes.items()}


def section(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


DOCUMENTS = {
    "vocos-mel-24khz": {
        "feature_extractor": section("vocos.feature_extractors.MelSpectrogramFeatures"),
        "backbone": section("vocos.models.VocosBackbone", dim=24, intermediate_dim=40, num_layers=3),
        "head": section("vocos.heads.ISTFTHead", dim=24, padding="center"),
    },
    "vocos-encodec-24khz": {
        "feature_extractor": section("vocos.feature_extractors.EncodecFeatures"),
        "backbone": section(
            "vocos.models.VocosBackbone",
            input_channels=128,
            dim=24,
            intermediate_dim=40,
            num_layers=3,
            adanorm_num_embeddings=4,
        ),
        "head": section("vocos.heads.ISTFTHead", dim=24, n_fft=1280, hop_length=320, padding="same"),
    },
    "soprano-32khz": {
        "decoder": section(
            "soprano.vocos.decoder.SopranoDecoder",
            num_input_channels=20,
            decoder_num_layers=2,
            decoder_dim=24,
            decoder_intermediate_dim=40,
            n_fft=256,
            hop_length=64,
            dw_kernel=5,
        )
    },
}


def made(name: str, folder: Path) -> tts_infer.Vocoder:
    """A small vocoder of the kind of a known one, in a folder with a configuration and weights."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(DOCUMENTS[name]))
    family, config = read_document(DOCUMENTS[name], FAMILIES.values(), None, "")
    save_file(filled(family.build(config).state_dict()), folder / "model.safetensors")
    return tts_infer.load_vocoder(folder, device="cpu", check=False)


def decoded(vocoder: tts_infer.Vocoder) -> Tensor:
    features = torch.randn(1, vocoder.n_mels, 9, generator=torch.Generator().manual_seed(1)) - 3
    conditions: dict[str, Any] = {one.name: 1 for one in vocoder.features.conditions}
    return vocoder.decode(features, None, check_convention=False, **conditions)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_weights_say_the_sizes(name: str, tmp_path: Path) -> None:
    expected = decoded(made(name, tmp_path / "a"))
    (tmp_path / "a" / "model.safetensors").rename(tmp_path / "alone.safetensors")
    loaded = tts_infer.load_vocoder(tmp_path / "alone.safetensors", config=name, device="cpu", check=False)
    assert torch.equal(decoded(loaded), expected) and expected.abs().max() > 0
    shown = tts_infer.describe_vocoder(tmp_path / "alone.safetensors", config=name)
    assert shown["sample_rate"] == known_vocoders()[name].sample_rate


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("other", DOCUMENTS)
def test_weights_of_another_kind_are_refused(name: str, other: str, tmp_path: Path) -> None:
    if name == other:
        return
    made(other, tmp_path / "a")
    with pytest.raises(CheckpointError, match=f"does not hold weights like those of '{name}'") as caught:
        tts_infer.load_vocoder(tmp_path / "a" / "model.safetensors", config=name)
    assert len(str(caught.value)) < 300


def test_weights_that_do_not_say_the_sizes(tmp_path: Path) -> None:
    made("soprano-32khz", tmp_path / "a")
    with pytest.raises(CheckpointError, match="weights of the family bigvgan do not say all sizes of 'bigvgan-24khz"):
        tts_infer.load_vocoder(tmp_path / "a" / "model.safetensors", config="bigvgan-24khz-100band")


def test_every_entry_has_a_family_and_says_what_it_takes() -> None:
    for preset in known_vocoders().values():
        assert preset.family in FAMILIES, preset.name
        assert (preset.mel is None) == bool(preset.takes), preset.name
        assert preset.weights_file is not None or preset.config_file is None, preset.name
        assert len(preset.inputs) <= 17, "a column of `vocoders`"
    entry = {"name": "x", "source": "hub", "repo_id": "a/b", "description": "", "license": "MIT", "takes": "codes"}
    with pytest.raises(ConfigError, match="states no mel convention; then it must state takes and audio_rate"):
        build(VocoderPreset, entry, "x.yaml")


def test_the_published_sizes() -> None:
    """The megabytes in an entry are those of its parameters in float32, which checkpoints of these two hold."""
    shapes = {
        "vocos-encodec-24khz": {
            "backbone.embed.weight": (384, 128, 7),
            "backbone.norm.scale.weight": (4, 384),
            "feature_extractor.codebook_weights": (16384, 128),
            "head.out.weight": (1282, 384),
            **{f"backbone.convnext.{i}.pwconv1.weight": (1152, 384) for i in range(8)},
        },
        "soprano-32khz": {
            "decoder.embed.weight": (768, 512, 1),
            "decoder.convnext.0.dwconv.weight": (768, 1, 3),
            "head.out.weight": (2050, 768),
            **{f"decoder.convnext.{i}.pwconv1.weight": (2304, 768) for i in range(8)},
        },
    }
    for name, stored in shapes.items():
        preset = known_vocoders()[name]
        family: Any = FAMILIES[preset.family]
        read, config = read_document(family.document(stored, preset), FAMILIES.values(), preset, name)
        assert read is family
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in family.build(config).parameters())
        assert f"{count / 1e6:.1f} M parameters" in preset.description
        megabytes = 4 * count / 1e6
        assert preset.size_mb == pytest.approx(megabytes, abs=0.5)  # stated to a tenth, or to a whole one


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def snapshot(cache: Path, repo_id: str) -> Path:
    """The folder of a repository's files in the cache."""
    repository = cache / ("models--" + repo_id.replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


def test_files_in_places_of_their_own(cache: Path, tmp_path: Path) -> None:
    """Soprano's repository holds a language model under the usual names, and its decoder beside it."""
    expected = decoded(made("soprano-32khz", tmp_path / "a"))
    folder = snapshot(cache, "ekwek/Soprano-1.1-80M")
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    save_file({"model.embed_tokens.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    status = {row["name"]: row["status"] for row in tts_infer.list_vocoders()}
    assert status["soprano-32khz"] == "not cached"
    from safetensors.torch import load_file

    torch.save(load_file(tmp_path / "a" / "model.safetensors"), folder / "decoder.pth")
    for name in ("soprano-32khz", "ekwek/Soprano-1.1-80M"):
        assert torch.equal(decoded(tts_infer.load_vocoder(name, device="cpu", check=False)), expected)
    shown = tts_infer.describe_vocoder("soprano-32khz")
    assert (shown["status"], shown["takes"], shown["n_mels"]) == ("cached", "hidden frames", None)
    assert shown["stages"] == ["upsample", "backbone", "head", "istft"]


def test_files_in_a_folder_of_their_own(cache: Path) -> None:
    folder = snapshot(cache, "YatharthS/LuxTTS")
    (folder / "config.json").write_text(json.dumps({"model": {}}))
    blobs = folder.parents[1] / "blobs"
    for path in (folder / "vocoder", blobs):
        path.mkdir()
    for name in ("config.yaml", "vocos.bin"):  # as the Hub's client lays them out
        (blobs / name).write_text("x")
        (folder / "vocoder" / name).symlink_to(blobs / name)
    files = resolve("luxtts-48khz")
    assert (files.config, files.weights) == (folder / "vocoder" / "config.yaml", folder / "vocoder" / "vocos.bin")
    (folder / "vocoder" / "vocos.bin").unlink()
    (folder / "vocoder" / "vocos.bin").symlink_to("/etc/hostname")
    with pytest.raises(CheckpointError, match="vocos.bin in the Hub cache links to .*, outside of its repository"):
        resolve("luxtts-48khz")


def test_what_contradicts_an_entry(cache: Path, tmp_path: Path) -> None:
    made("vocos-mel-24khz", tmp_path / "mels")
    folder = snapshot(cache, "charactr/vocos-encodec-24khz")
    for name in ("config.yaml", "model.safetensors"):
        (tmp_path / "mels" / name).rename(folder / name)
    with pytest.raises(ConfigError, match="n_mels is 100, but vocoder 'vocos-encodec-24khz' is known with None"):
        tts_infer.load_vocoder("vocos-encodec-24khz")
    made("vocos-encodec-24khz", tmp_path / "codes")
    text = (tmp_path / "codes" / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("EncodecFeatures\n", "EncodecFeatures\n  zzz: 1\n"))
    with pytest.raises(ConfigError, match="unknown key 'zzz'"):
        tts_infer.load_vocoder("vocos-encodec-24khz")
    rate = text.replace("init_args: {}", "init_args: {encodec_model: encodec_48khz}")
    (folder / "config.yaml").write_text(rate)
    with pytest.raises(
        ConfigError, match="sample_rate is 48000, but vocoder 'vocos-encodec-24khz' is known with 24000"
    ):
        tts_infer.load_vocoder("vocos-encodec-24khz")
    with pytest.raises(ConfigError, match="it takes features, not mels, so it has no mel convention; leave out"):
        tts_infer.load_vocoder(tmp_path / "codes", convention="vocos-24k")


def test_they_are_shown(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocoders"]) == 0
    text = capsys.readouterr().out
    assert "vocos-encodec-24khz                  24000 Hz  codes of EnCodec  needs a download, about 40.3 MB" in text
    assert "soprano-32khz                        32000 Hz  hidden frames     needs a download, about 121 MB" in text
    assert main(["vocoders", "soprano-32khz"]) == 0
    page = capsys.readouterr().out
    assert "takes                hidden frames" in page and "gives                audio at 32000 Hz" in page
    assert "license              Apache-2.0" in page and "convention" not in page
