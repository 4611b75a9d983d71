"""Files of HiFi-GAN and BigVGAN: what loads, what is refused, and the published repositories."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tts_infer
from tests.gan import BIGVGAN, MELS, SIZES, official_weights, save
from tts_infer.config import MelConfig, VocoderPreset, known_vocoders
from tts_infer.errors import CheckpointError, ConfigError
from tts_infer.stages import relative_error
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.bigvgan import BigVGAN, BigVGANConfig
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.family import read_config
from tts_infer.vocoders.hifigan import TRAINING_KEYS, HiFiGAN, HiFiGANConfig


def read(folder: Path, preset: VocoderPreset | None = None) -> Any:
    return read_config(folder / "config.json", FAMILIES.values(), preset)[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "bigvgan", BIGVGAN, official_weights(BIGVGAN))


def rewrite(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(BIGVGAN | changes))


def test_the_family_is_known_by_its_file(folder: Path, tmp_path: Path) -> None:
    assert type(load_model(resolve(folder))) is BigVGAN and type(read(folder)) is BigVGANConfig
    other = save(tmp_path / "hifigan", SIZES, official_weights(SIZES))
    assert type(load_model(resolve(other))) is HiFiGAN and type(read(other)) is HiFiGANConfig
    assert not set(TRAINING_KEYS) & {field.name for field in dataclasses.fields(BigVGANConfig)}


def test_weights_under_other_names(folder: Path) -> None:
    """Weight norm as a parametrization, or folded before; no filters; half precision; other files of HiFi-GAN."""
    expected = tts_infer.load_vocoder(folder, device="cpu").decode(MELS)
    weights = official_weights(BIGVGAN)
    (folder / "bigvgan_generator.pt").unlink()
    forms = ("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1")
    renamed = dict(weights)
    for old, new in forms:
        renamed = {key.replace(old, new): tensor for key, tensor in renamed.items()}
    plain = {key: tensor for key, tensor in load_model_weights(folder, weights).items() if "filter" not in key}
    for name, content, tolerance in (
        ("generator_v1", {"generator": renamed}, 1e-6),  # the same numbers, folded in another order
        ("g_00000010", {"generator": plain}, 1e-6),
        ("g_02500000", {key: tensor.half() for key, tensor in plain.items()}, 1e-1),  # 11 bits, through many layers
    ):
        torch.save(content, folder / name)
        assert resolve(folder).weights.name == name  # the preferred one so far; of training's own, the latest
        got = tts_infer.load_vocoder(folder, device="cpu").decode(MELS)
        assert relative_error(got, expected) <= tolerance
        if name == "generator_v1":
            (folder / name).unlink()


def load_model_weights(folder: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    torch.save({"generator": dict(weights)}, folder / "bigvgan_generator.pt")
    found: dict[str, Tensor] = load_model(resolve(folder)).state_dict()
    (folder / "bigvgan_generator.pt").unlink()
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, "unknown key 'extra'; allowed: activation, fmax"),
        ({"upsample_rates": "4"}, "upsample_rates is '4'; allowed: list of int"),
        ({"upsample_rates": [4, 2.5, 2]}, r"upsample_rates\[1\] is 2.5; allowed: int"),
        ({"resblock_dilation_sizes": [[1], 3]}, r"resblock_dilation_sizes\[1\] is 3; allowed: list of int"),
        ({"upsample_rates": [4, 4, 2]}, r"upsample_rates is \(4, 4, 2\); allowed: a product of hop_size = 16"),
        ({"upsample_rates": [1, 16]}, "allowed: numbers greater than 1"),
        ({"upsample_kernel_sizes": [8, 4]}, "allowed: as many as upsample_rates"),
        ({"upsample_kernel_sizes": [8, 4, 5]}, "each its upsample_rate plus 0 or an even number"),
        ({"upsample_kernel_sizes": [2, 4, 6]}, "each its upsample_rate plus 0 or an even number"),
        ({"upsample_initial_channel": 7}, "upsample_initial_channel is 7; allowed: at least 8"),
        ({"resblock_kernel_sizes": [3, 4]}, "resblock_kernel_sizes is .*; allowed: odd numbers"),
        ({"resblock_dilation_sizes": [[1, 3]]}, "a list for each of resblock_kernel_sizes"),
        ({"resblock_dilation_sizes": [[1], [0]]}, "lists of numbers greater than 0"),
        ({"resblock": "3"}, "resblock is '3'; allowed: '1' or '2'"),
        ({"activation": "relu"}, "activation is 'relu'; allowed: 'snake' or 'snakebeta'"),
        ({"fmax": 13000}, "mel range 0.0 to 13000.0 Hz must lie within"),
        ({"num_mels": 0}, "num_mels is 0; it must be greater than 0"),
    ],
)
def test_sizes_that_do_not_fit(folder: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        read(folder)
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value).replace(str(folder), "")) <= 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "is not valid JSON: key 'a' is given twice"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[1]", "expected a mapping of names to values, got list"),
        ('{"a": 1}', "unknown key 'a'; allowed: backbone, feature_extractor, head"),
    ],
)
def test_broken_json(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(folder)


def test_weights_of_another_size(folder: Path) -> None:
    rewrite(folder, upsample_initial_channel=16)
    with pytest.raises(CheckpointError, match=r"another shape: .*conv_pre.bias \(32,\) instead of \(16,\)"):
        load_model(resolve(folder))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"upsample_initial_channel": 64}, "upsample_initial_channel is 64; with these weights it can be at most 32"),
        ({"resblock_kernel_sizes": [3, 10**9 + 1]}, r"resblock_kernel_sizes\[1\] is 1000000001; with these weights"),
        ({"resblock_dilation_sizes": [[1, 10**9], [1]]}, r"resblock_dilation_sizes\[0\]\[1\] is 1000000000; .* 1024"),
        ({"resblock_dilation_sizes": [[1], [1] * 100_000]}, "its lists hold 1000.. numbers; with these weights"),
    ],
)
def test_sizes_that_the_weights_refute(folder: Path, values: dict[str, Any], message: str) -> None:
    rewrite(folder, **{"resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1], [1]]} | values)
    with pytest.raises(ConfigError, match=message):
        load_model(resolve(folder))


def test_filters_of_another_design(folder: Path) -> None:
    weights = official_weights(BIGVGAN)
    weights["activation_post.upsample.filter"] = torch.ones(1, 1, 12) / 12
    save(folder, BIGVGAN, weights)
    with pytest.raises(CheckpointError, match="stored activation_post.upsample.filter differs"):
        load_model(resolve(folder))


def test_a_known_repository_must_state_its_convention(folder: Path) -> None:
    mel = read(folder).mel
    assert mel == MelConfig(24000, 64, 16, None, 12, 0.0, None, "slaney", "slaney", 1, 1e-9, "same", 1e-5)
    rewrite(folder, fmax=12000)  # half the sample rate by its number
    assert read(folder, VocoderPreset("a", "hub", "", "MIT", mel, repo_id="o/a")).mel == mel
    other = dataclasses.replace(mel, f_max=8000.0)
    with pytest.raises(ConfigError, match="f_max is None, but vocoder 'b' is known with 8000.0"):
        read(folder, VocoderPreset("b", "hub", "", "MIT", other, repo_id="o/b"))


def test_a_repository_in_the_hub_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "hub" / "models--nvidia--bigvgan_base_24khz_100band"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    files = resolve("bigvgan-base-24khz-100band")
    assert [path.name for path in (files.config, files.weights) if path] == ["config.json", "bigvgan_generator.pt"]
    with pytest.raises(ConfigError, match="n_fft is 64, but vocoder 'bigvgan-base-24khz-100band' is known with 1024"):
        load_model(files)


# sample rate, hop, n_mels, n_fft, f_max. Source: README.md of NVIDIA/BigVGAN, and the files in its configs/.
PUBLISHED = {
    "bigvgan-v2-24khz-100band-256x": (24000, 256, 100, 1024, None),
    "bigvgan-v2-22khz-80band-256x": (22050, 256, 80, 1024, None),
    "bigvgan-v2-22khz-80band-fmax8k-256x": (22050, 256, 80, 1024, 8000),
    "bigvgan-v2-44khz-128band-256x": (44100, 256, 128, 1024, None),
    "bigvgan-v2-44khz-128band-512x": (44100, 512, 128, 2048, None),
    "bigvgan-24khz-100band": (24000, 256, 100, 1024, None),
    "bigvgan-base-24khz-100band": (24000, 256, 100, 1024, None),
    "bigvgan-22khz-80band": (22050, 256, 80, 1024, 8000),
    "bigvgan-base-22khz-80band": (22050, 256, 80, 1024, 8000),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_repositories_agree_with_their_presets(name: str, tmp_path: Path) -> None:
    preset = known_vocoders()[name]
    assert preset.repo_id == f"nvidia/{name.replace('-', '_')}" and preset.license == "MIT"
    rate, hop, n_mels, n_fft, f_max = PUBLISHED[name]
    base = "base" in name
    rates = [8, 8, 2, 2] if base else [hop // 64, 4, 2, 2, 2, 2]
    sizes = {
        "upsample_rates": rates,
        "upsample_kernel_sizes": [2 * one for one in rates],
        "upsample_initial_channel": 512 if base else 1536,
        "resblock_kernel_sizes": [3, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    }
    mel = {"sampling_rate": rate, "hop_size": hop, "num_mels": n_mels, "n_fft": n_fft, "win_size": n_fft, "fmax": f_max}
    (tmp_path / "config.json").write_text(json.dumps(BIGVGAN | sizes | mel))
    config = read(tmp_path, preset)
    with torch.device("meta"):
        model = BigVGAN(config)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert abs(millions - (14 if base else 122 if hop == 512 else 112)) < 1  # as the README says
    assert model.receptive_field == (18 if base else 21 if hop == 512 else 38)
