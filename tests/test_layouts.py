"""Weights in every layout that people keep them in, alone and in any combination, are the same model."""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

import tts_infer
from tests.helpers import small_vocoder
from tts_infer.errors import CheckpointError, ConfigError, VocoderNotFoundError
from tts_infer.vocoders import family_of
from tts_infer.vocoders.checkpoint import ASSETS, load_model, resolve
from tts_infer.vocoders.layouts import fit
from tts_infer.vocoders.vocos import Vocos

Weights = dict[str, Tensor]
SMALL: Vocos = small_vocoder().model
WEIGHTS: Weights = {name: tensor.clone() for name, tensor in SMALL.state_dict().items()}
EMBED = "backbone.embed.weight"


def sections() -> dict[str, Any]:
    """The config.yaml of the small vocoder."""
    mel, backbone, head = (asdict(one) for one in (SMALL.config.mel, SMALL.config.backbone, SMALL.config.head))
    stated = ("sample_rate", "n_fft", "hop_length", "n_mels", "padding")
    return {
        "feature_extractor": {
            "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
            "init_args": {key: mel[key] for key in stated},
        },
        "backbone": {
            "class_path": "vocos.models.VocosBackbone",
            "init_args": {key: backbone[key] for key in ("input_channels", "dim", "intermediate_dim", "num_layers")},
        },
        "head": {
            "class_path": "vocos.heads.ISTFTHead",
            "init_args": {key: head[key] for key in ("dim", "n_fft", "hop_length", "padding")},
        },
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the configuration of the small vocoder, and no weights."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections()))
    return tmp_path


def difference(path: Path, expected: Weights = WEIGHTS, **how: Any) -> float:
    """The largest difference of what is loaded from what was saved."""
    loaded = load_model(resolve(path, **how)).state_dict()
    assert loaded.keys() == expected.keys()
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in loaded.values())
    return max(float((loaded[name] - expected[name]).abs().max()) for name in expected)


# Layouts that change names and tensors: state dict -> state dict.


def normed(weights: Weights, old: bool) -> Weights:
    """With the weight norm of torch itself on every convolution and linear layer."""
    out = dict(weights)
    for name, tensor in weights.items():
        if name.endswith(".weight") and tensor.ndim > 1:
            layer = nn.Linear(1, 1)
            layer.weight = nn.Parameter(tensor.clone())
            make: Callable[..., Any] = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
            out |= {
                f"{name.removesuffix('.weight')}.{k}": v.detach()
                for k, v in make(layer).state_dict().items()
                if "bias" not in k
            }
            del out[name]
    return out


def with_axes_of_mlx(weights: Weights) -> Weights:
    """As mlx.nn.Conv1d keeps them: (out, kernel, in)."""
    return {name: t.transpose(1, 2).contiguous() if t.ndim == 3 else t for name, t in weights.items()}


def with_training(weights: Weights) -> Weights:
    """With what VocosExp of gemelo-ai/vocos has beside the vocoder."""
    beside = {
        f"multiperioddisc.discriminators.{i}.convs.{j}.weight_{p}": torch.zeros(2, 1, 1)
        for i in range(5)
        for j in range(4)
        for p in "gv"
    }
    return (
        weights
        | beside
        | {"melspec_loss.mel_spec.mel_scale.fb": torch.zeros(3), "multiresddisc.a.bias": torch.zeros(2)}
    )


def prefixed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


LAYOUTS: dict[str, Callable[[Weights], Weights]] = {
    "as it is": dict,
    "weight norm": lambda weights: normed(weights, old=True),
    "weight norm as parametrization": lambda weights: normed(weights, old=False),
    "MLX": with_axes_of_mlx,
    "discriminators": with_training,
    "module.": prefixed("module."),
    "_orig_mod.": prefixed("_orig_mod."),
    "generator.": prefixed("generator."),
    "a prefix of somebody's": prefixed("my_system.vocoder_v2."),
    "compiled backbone": lambda weights: {
        name.replace("backbone.", "backbone._orig_mod.", 1): t for name, t in weights.items()
    },
    "with another model": lambda weights: {
        "acoustic.embed.weight": torch.zeros(3), **{"vocoder." + name: t for name, t in weights.items()},
    },
}  # fmt: skip

# Layouts of a file: state dict -> what is saved.

WRAPPERS: dict[str, Callable[[Weights], Any]] = {
    "bare": dict,
    "state_dict": lambda weights: {"state_dict": weights, "epoch": 3},
    "model": lambda weights: {"model": weights, "step": 5, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}},
    "generator": lambda weights: {"generator": weights, "mpd": {"a.weight": torch.zeros(2)}},
    "nested": lambda weights: {"checkpoint": {"model": {"vocoder": weights}}, "losses": [1.0]},
    "Lightning": lambda weights: {
        "state_dict": with_training(weights), "hyper_parameters": argparse.Namespace(lr=1e-4, path=Path("x")),
        "callbacks": {argparse.Namespace: {"best": torch.tensor(1.0)}}, "optimizer_states": [], "lr_schedulers": [],
    },
    "Lightning with settings": lambda weights: {
        "state_dict": weights,
        "hyper_parameters": {"optimizer": partial(torch.optim.Adam, lr=1e-4), "seen": defaultdict(list)},
    },
    "averaged": lambda weights: {
        "model": {name: tensor + 1 for name, tensor in weights.items()}, "ema_model_state_dict": weights,
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_names_and_tensors(folder: Path, layout: str) -> None:
    torch.save(LAYOUTS[layout](WEIGHTS), folder / "pytorch_model.bin")
    # weight norm divides and multiplies once in float32; all else only moves values
    assert difference(folder) <= (1e-6 if "norm" in layout else 0.0)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_wrappers_of_a_file(folder: Path, wrapper: str, suffix: str) -> None:
    path = folder / f"vocos{suffix}"
    torch.save(WRAPPERS[wrapper](WEIGHTS), path)
    assert difference(path) == 0.0  # the file
    assert difference(folder) == 0.0  # the folder with it


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precisions(folder: Path, dtype: torch.dtype) -> None:
    save_file({name: tensor.to(dtype) for name, tensor in WEIGHTS.items()}, folder / "model.safetensors")
    assert difference(folder, {name: tensor.to(dtype).float() for name, tensor in WEIGHTS.items()}) == 0.0


def save_shards(folder: Path, weights: Weights) -> Path:
    """Two files and their index, as `save_pretrained` of transformers writes them."""
    names = sorted(weights)
    files = {f"model-{i + 1:05}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, held in files.items():
        save_file({name: weights[name].contiguous() for name in held}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"metadata": {}, "weight_map": {n: file for file, held in files.items() for n in held}})
    )
    return index


def test_shards_with_an_index(folder: Path) -> None:
    index = save_shards(folder, WEIGHTS)
    assert difference(folder) == difference(index) == 0.0
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot read .*model-00002-of-00002.safetensors: No such file"):
        load_model(resolve(folder))


@pytest.mark.parametrize("names", [["../config.yaml"], ["/etc/passwd"], ["a/b.bin"], [1], [], ["model.json"]])
def test_an_index_stays_in_its_folder(folder: Path, names: list[Any]) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {str(i): name for i, name in enumerate(names)}}))
    with pytest.raises(CheckpointError, match="is no index of weights"):
        load_model(resolve(folder))


def test_blocks_without_layer_scale(folder: Path) -> None:
    document = sections()
    document["backbone"]["init_args"]["layer_scale_init_value"] = -1.0
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    torch.save({name: t for name, t in WEIGHTS.items() if not name.endswith("gamma")}, folder / "pytorch_model.bin")
    expected = {name: torch.ones_like(t) if name.endswith("gamma") else t for name, t in WEIGHTS.items()}
    assert difference(folder, expected) == 0.0
    # one that is missing among others is no layout
    torch.save({k: t for k, t in WEIGHTS.items() if k != "backbone.convnext.1.gamma"}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"1 missing: backbone.convnext.1.gamma\."):
        load_model(resolve(folder))


@pytest.mark.parametrize("seed", range(40))
def test_any_combination(folder: Path, seed: int) -> None:
    """Several layouts of tensors and names, in a wrapper, in a file of some kind, in some precision."""
    chance = random.Random(seed)
    tensors = chance.sample(["weight norm", "weight norm as parametrization", "MLX", "discriminators"], k=2)
    if all("norm" in one for one in tensors):
        tensors = tensors[:1]
    names = chance.sample(["module.", "_orig_mod.", "generator.", "a prefix of somebody's", "compiled backbone"], k=2)
    # the axes of MLX change before weight norm splits a tensor, and prefixes come last
    weights = WEIGHTS
    for layout in sorted(tensors, key=lambda one: one != "MLX") + sorted(
        names, key=lambda one: one != "compiled backbone"
    ):
        weights = LAYOUTS[layout](weights)
    kind = chance.choice(["pickle", "safetensors", "shards"])
    half = chance.random() < 0.5 and not any("norm" in one for one in tensors)
    if half:
        weights = {name: tensor.half() for name, tensor in weights.items()}
    if kind == "pickle":
        torch.save(WRAPPERS[chance.choice(list(WRAPPERS))](weights), folder / "pytorch_model.bin")
    elif kind == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    else:
        save_shards(folder, weights)
    # float32 sums of weight norm; float16 has 11 bits, of values up to 1
    assert difference(folder) <= (5e-4 if half else 1e-6), (tensors, names, kind)


def test_stored_constants_are_compared_below_a_prefix_too(folder: Path) -> None:
    constants = family_of(SMALL).constants(SMALL)
    torch.save({"state_dict": prefixed("vocoder.")(WEIGHTS | constants)}, folder / "pytorch_model.bin")
    assert difference(folder) == 0.0
    wrong = {name: 0.5 * tensor for name, tensor in constants.items()}
    torch.save({"state_dict": prefixed("vocoder.")(WEIGHTS | wrong)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="differs from the one that config.yaml describes"):
        load_model(resolve(folder))


def test_weight_norm_of_one_value_for_all(folder: Path) -> None:
    """weight_norm(dim=None)."""
    embed = WEIGHTS[EMBED]
    split = {"backbone.embed.weight_g": embed.norm(), "backbone.embed.weight_v": 3 * embed}
    torch.save({k: t for k, t in WEIGHTS.items() if k != EMBED} | split, folder / "pytorch_model.bin")
    assert difference(folder) <= 1e-6  # as above
    for wrong in (torch.ones(5, 1, 1), torch.ones(0), torch.ones(2, 2)):
        split["backbone.embed.weight_g"] = wrong
        torch.save({k: t for k, t in WEIGHTS.items() if k != EMBED} | split, folder / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="1 of another shape: backbone.embed.weight"):
            load_model(resolve(folder))


def test_surplus_that_is_not_of_training_is_refused(folder: Path) -> None:
    """A part that the config does not state would change the sound: it must not be left out in silence."""
    torch.save(WEIGHTS | {"upsampler.conv.weight": torch.zeros(3)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"1 surplus: upsampler.conv.weight\. .* fewer layers"):
        load_model(resolve(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 4}, r"18 missing: backbone.convnext.2.gamma, .*and 15 more\. .* more layers than the weights"),
        ({"num_layers": 1}, r"9 surplus: .* and 6 more\. .*fewer layers than the weights"),
        ({"intermediate_dim": 48}, r"6 of another shape: backbone.convnext.0.pwconv1.weight \(64, 32\) instead of"),
    ],
)
def test_sizes_of_another_model(folder: Path, change: dict[str, int], message: str) -> None:
    document = sections()
    document["backbone"]["init_args"].update(change)
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    torch.save(WEIGHTS, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(resolve(folder))
    assert len(str(caught.value)) <= 500


def test_another_model(folder: Path) -> None:
    torch.save(
        {f"layers.{i}.attention.query.weight": torch.zeros(99) for i in range(5000)}, folder / "pytorch_model.bin"
    )
    with pytest.raises(
        CheckpointError, match="None of its names is one of this model's: it holds another model"
    ) as caught:
        load_model(resolve(folder))
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize("n", [1, 30, 3000])
def test_messages_are_short_however_much_is_wrong(n: int) -> None:
    wanted = {f"{'part.' * 9}{i}.weight": torch.zeros(1) for i in range(n)}
    stored = {f"{'part.' * 9}{i}.weight": torch.zeros(3, 3, 3, 3) for i in range(n // 2)}
    stored |= {f"{'part.' * 9}{i}.surplus": torch.zeros(1) for i in range(n)}
    with pytest.raises(CheckpointError) as caught:
        fit(stored, wanted, [], Path("/long" * 50 + "/model.bin"), "config.yaml")
    assert len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


# Configurations.


def test_the_yaml_of_a_training_run(folder: Path) -> None:
    """Of LightningCLI: the whole run, the model's sections inside. Layout: configs/vocos.yaml of gemelo-ai/vocos."""
    torch.save({"state_dict": with_training(WEIGHTS)}, folder / "last.ckpt")
    expected = load_model(resolve(folder / "last.ckpt")).config
    arguments = sections() | {"sample_rate": 16000, "initial_learning_rate": 0.0002, "mel_loss_coeff": 45}
    run: dict[str, Any] = {
        "seed_everything": 4444,
        "model": {"class_path": "vocos.experiment.VocosExp", "init_args": arguments},
        "data": {"class_path": "vocos.dataset.VocosDataModule", "init_args": {}},
        "trainer": {"max_steps": 10},
    }
    for document in (run, {"model": sections(), "trainer": {}}):
        (folder / "config.yaml").write_text(yaml.safe_dump(document))
        assert load_model(resolve(folder / "last.ckpt")).config == expected
    run["model"]["init_args"]["backbone"]["class_path"] = "os.system"
    (folder / "config.yaml").write_text(yaml.safe_dump(run))
    with pytest.raises(ConfigError, match="backbone: class_path 'os.system' is not supported"):
        load_model(resolve(folder))


def test_a_configuration_is_found_beside_weights(tmp_path: Path) -> None:
    run = tmp_path / "lightning_logs" / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    weights = run / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": WEIGHTS}, weights)
    with pytest.raises(VocoderNotFoundError, match="last.ckpt has no config.yaml beside it: give config=PATH"):
        resolve(weights)
    text = yaml.safe_dump(sections())
    for place in (run / "config.yaml", weights.parent / "config.yml", weights.with_suffix(".yaml")):
        place.write_text(text)  # each comes before the last
        assert resolve(weights).config == place
    (weights.parent / "last.json").write_text(json.dumps(sections()))
    assert difference(weights, config=weights.parent / "last.json") == 0.0


def test_weights_without_a_configuration(tmp_path: Path) -> None:
    """As ChatTTS has them: the mels are those of a known vocoder, the sizes are those of the weights."""
    path = tmp_path / "Vocos.safetensors"
    path.write_bytes((ASSETS / "vocos-mini-24khz" / "model.safetensors").read_bytes())
    mel = torch.full((1, 100, 20), -5.0)
    expected = tts_infer.load_vocoder(device="cpu", refine=0)
    loaded = tts_infer.load_vocoder(path, config="vocos-mel-24khz", device="cpu")
    assert torch.equal(loaded.decode(mel), expected.decode(mel))
    assert loaded.mel_config == tts_infer.known_vocoders()["vocos-mel-24khz"].mel
    with pytest.raises(CheckpointError, match="like those of 'vocos-mel-22khz', which takes 80 mels and has 22050 Hz"):
        tts_infer.load_vocoder(path, config="vocos-mel-22khz")
    with pytest.raises(ConfigError, match="config 'nothing' is neither a file nor one of: vocos-mini-24khz"):
        tts_infer.load_vocoder(path, config="nothing")


@pytest.mark.parametrize("layout", ["weight norm", "MLX", "a prefix of somebody's"])
def test_sizes_are_seen_in_any_layout(tmp_path: Path, layout: str) -> None:
    weights = load_model(resolve(tts_infer.DEFAULT_VOCODER)).state_dict()
    torch.save({"model": LAYOUTS[layout](weights)}, tmp_path / "a.pt")
    assert difference(tmp_path / "a.pt", weights, config="vocos-mel-24khz") <= 1e-5  # of weights up to 10


def test_folders_that_do_not_say_which(folder: Path) -> None:
    for name in ("g.pt", "last.ckpt"):
        torch.save(WEIGHTS, folder / name)
    with pytest.raises(VocoderNotFoundError, match="several files of weights: g.pt, last.ckpt; give the path of one"):
        resolve(folder)
    (folder / "vocos.tflite").write_bytes(b"x")
    with pytest.raises(VocoderNotFoundError, match=r"vocos.tflite is no file of weights; allowed: .safetensors .bin"):
        resolve(folder / "vocos.tflite")
    with pytest.raises(VocoderNotFoundError, match="'nothing/x.ckpt' is neither a local directory or file"):
        resolve("nothing/x.ckpt")
