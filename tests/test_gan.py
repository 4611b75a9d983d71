"""HiFi-GAN and BigVGAN against modules written after their repositories, from the files that those save."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import librosa
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tts_infer
from tests.emulated_device import emulated
from tts_infer.config import MelConfig, VocoderPreset, known_vocoders
from tts_infer.diagnose.audit import audit, installed_table, our_paths, shipped_tables
from tts_infer.errors import CheckpointError, ConfigError
from tts_infer.runtime.selftest import StageTrial
from tts_infer.stages import relative_error
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.bigvgan import BigVGAN, BigVGANConfig
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.family import read_config
from tts_infer.vocoders.hifigan import TRAINING_KEYS, HiFiGAN, HiFiGANConfig

# What the repositories' own files state, at small sizes. Source: configs/bigvgan_v2_24khz_100band_256x.json of
# NVIDIA/BigVGAN and config_v1.json of jik876/hifi-gan.
SIZES: dict[str, Any] = {
    "resblock": "1",
    "num_gpus": 0,
    "batch_size": 4,
    "learning_rate": 0.0001,
    "dist_config": {"dist_backend": "nccl", "dist_url": "tcp://localhost:54321", "world_size": 1},
    "upsample_rates": [4, 2, 2],
    "upsample_kernel_sizes": [8, 4, 6],
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3], [1, 3]],
    "num_mels": 12,
    "num_freq": 1025,
    "n_fft": 64,
    "hop_size": 16,
    "win_size": 64,
    "sampling_rate": 24000,
    "fmin": 0,
    "fmax": None,
    "fmax_for_loss": None,
}
V2 = {"use_tanh_at_final": False, "use_bias_at_final": False, "use_cqtd_instead_of_mrd": True}
KINDS: dict[str, dict[str, Any]] = {
    "HiFi-GAN, blocks 1": {},
    "HiFi-GAN, blocks 2": {"resblock": "2", "resblock_dilation_sizes": [[1, 2, 3], [2, 6]], "fmax": 8000},
    "BigVGAN v1": {"activation": "snakebeta", "snake_logscale": True},
    "BigVGAN v2": {"activation": "snakebeta", "snake_logscale": True, **V2},
    "BigVGAN, blocks 2": {"activation": "snakebeta", "snake_logscale": False, "resblock": "2"},
    "BigVGAN, Snake": {"activation": "snake", "snake_logscale": False},
    "BigVGAN, logarithms of Snake": {"activation": "snake", "snake_logscale": True},
}
MELS = torch.randn(3, 12, 94, generator=torch.Generator().manual_seed(1))


# The reference: the generators as functions of a state dict in the layout of the repositories, weight norm included.


def low_pass() -> Tensor:
    """12 taps. Source: NVIDIA/BigVGAN alias_free_activation/torch/filter.py, cutoff 0.25, half_width 0.3."""
    beta = 0.1102 * (2.285 * 5 * math.pi * 1.2 + 7.95 - 8.7)
    taps = torch.kaiser_window(12, periodic=False, beta=beta) * torch.sinc(0.5 * (torch.arange(-6, 6) + 0.5))
    return taps / taps.sum()


class Reference:
    """Compute a generator by the operators of its repository.

    Source: NVIDIA/BigVGAN bigvgan.py, activations.py, alias_free_activation/torch; jik876/hifi-gan models.py.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        self.config, self.weights, self.snake = config, weights, config.get("activation")

    def convolve(self, name: str, x: Tensor, dilation: int = 1, rate: int = 0) -> Tensor:
        g, v = self.weights[f"{name}.weight_g"], self.weights[f"{name}.weight_v"]
        weight, bias = v * g / v.norm(dim=(1, 2), keepdim=True), self.weights.get(f"{name}.bias")
        size = v.shape[2]
        if rate:
            return F.conv_transpose1d(x, weight, bias, stride=rate, padding=(size - rate) // 2)
        return F.conv1d(x, weight, bias, dilation=dilation, padding=(size * dilation - dilation) // 2)

    def activate(self, name: str, x: Tensor, slope: float = 0.1) -> Tensor:
        if self.snake is None:
            return F.leaky_relu(x, slope)
        channels = x.shape[1]
        taps = low_pass().expand(channels, 1, 12)
        x = 2 * F.conv_transpose1d(F.pad(x, (5, 5), mode="replicate"), taps, stride=2, groups=channels)[..., 15:-15]
        alpha = self.weights[f"{name}.act.alpha"][None, :, None]
        beta = self.weights[f"{name}.act.{'alpha' if self.snake == 'snake' else 'beta'}"][None, :, None]
        if self.config["snake_logscale"]:
            alpha, beta = alpha.exp(), beta.exp()
        x = x + torch.sin(x * alpha) ** 2 / (beta + 1e-9)
        return F.conv1d(F.pad(x, (5, 6), mode="replicate"), taps, stride=2, groups=channels)

    def block(self, name: str, x: Tensor, dilations: list[int]) -> Tensor:
        for i, dilation in enumerate(dilations):
            if self.config["resblock"] == "2":
                y = self.activate(f"{name}.activations.{i}", x)
                x = x + self.convolve(f"{name}.convs.{i}", y, dilation)
                continue
            y = self.convolve(f"{name}.convs1.{i}", self.activate(f"{name}.activations.{2 * i}", x), dilation)
            x = x + self.convolve(f"{name}.convs2.{i}", self.activate(f"{name}.activations.{2 * i + 1}", y))
        return x

    def __call__(self, mel: Tensor) -> Tensor:
        x, dilations = self.convolve("conv_pre", mel), self.config["resblock_dilation_sizes"]
        for i, rate in enumerate(self.config["upsample_rates"]):
            x = F.leaky_relu(x, 0.1) if self.snake is None else x
            x = self.convolve(f"ups.{i}" if self.snake is None else f"ups.{i}.0", x, rate=rate)
            names = [f"resblocks.{i * len(dilations) + j}" for j in range(len(dilations))]
            blocks = [self.block(name, x, sizes) for name, sizes in zip(names, dilations, strict=True)]
            x = torch.stack(blocks).mean(dim=0)
        x = self.convolve("conv_post", self.activate("activation_post", x, 0.01))[:, 0]
        return x.tanh() if self.config.get("use_tanh_at_final", True) else x.clamp(-1, 1)


def official_weights(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Random weights under the names of the repositories, of a size that lets every layer matter."""
    g, snake, blocks = torch.Generator().manual_seed(0), config.get("activation"), config["resblock_dilation_sizes"]
    weights: dict[str, Tensor] = {}

    def convolution(name: str, shape: tuple[int, int, int], biases: int, length: float = 1.0) -> None:
        weights[f"{name}.weight_v"] = torch.randn(*shape, generator=g)
        weights[f"{name}.weight_g"] = length * (0.7 + 0.6 * torch.rand(shape[0], 1, 1, generator=g))
        if biases:
            weights[f"{name}.bias"] = 0.1 * torch.randn(biases, generator=g)

    def activation(name: str, channels: int) -> None:
        if snake is None:
            return
        for one in ("alpha", "beta")[: 1 if snake == "snake" else 2]:
            weights[f"{name}.act.{one}"] = torch.rand(channels, generator=g) + (not config["snake_logscale"])
        for part in ("upsample", "downsample.lowpass"):
            weights[f"{name}.{part}.filter"] = low_pass()[None, None]

    width = config["upsample_initial_channel"]
    convolution("conv_pre", (width, config["num_mels"], 7), width)
    for i, size in enumerate(config["upsample_kernel_sizes"]):
        convolution(f"ups.{i}" if snake is None else f"ups.{i}.0", (width, width // 2, size), width // 2)
        width //= 2
        for j, (kernel, dilations) in enumerate(zip(config["resblock_kernel_sizes"], blocks, strict=True)):
            name, rows = f"resblocks.{i * len(blocks) + j}", ["convs1", "convs2"]
            rows = rows if config["resblock"] == "1" else ["convs"]
            for row in rows:
                for k in range(len(dilations)):
                    convolution(f"{name}.{row}.{k}", (width, width, kernel), width, 0.5)
            for k in range(len(rows) * len(dilations)):
                activation(f"{name}.activations.{k}", width)
    activation("activation_post", width)
    convolution("conv_post", (1, width, 7), int(config.get("use_bias_at_final", True)), 0.25 if snake else 2.0)
    return weights


def save(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Path:
    """A folder as the repositories publish it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    name = "bigvgan_generator.pt" if "activation" in config else "g_02500000"
    torch.save({"generator": dict(weights)}, folder / name)
    return folder


@pytest.fixture(params=KINDS, scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[tts_infer.Vocoder, Any]:
    """A vocoder loaded from files, and the reference with the same weights."""
    config = SIZES | KINDS[request.param]
    weights = official_weights(config)
    folder = save(tmp_path_factory.mktemp("gan"), config, weights)
    return tts_infer.load_vocoder(folder, device="cpu", check=False), Reference(config, weights)


def test_parity(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    vocoder, reference = pair
    for frames in (1, 2, 3, 10, 94):
        for batch in (1, 3):
            mel = MELS[:batch, :, :frames]
            want = reference(mel)
            got = vocoder.decode(mel)
            assert got.shape == (batch, 16 * frames)
            assert relative_error(got, want) <= 1e-5  # float32 sums in another order
    assert want.std() > 0.1 and want.abs().quantile(0.95) < 0.98  # the network matters, and is not clipped


def test_pieces_ragged_batches_and_streams(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    """The context is the receptive field, so all of them are exact."""
    vocoder, _ = pair
    whole = vocoder.decode(MELS)
    for sizes in ([1] * 10 + [84], [5, 40, 0, 49], [94]):
        stream = vocoder.stream()
        pieces = torch.cat(list(stream.decode(MELS.split(sizes, dim=2))), dim=1)
        assert relative_error(pieces, whole) <= 1e-5  # as above
    lengths = [94, 1, 37]
    items = [MELS[i, :, :n] for i, n in enumerate(lengths)]
    for got, item in zip(vocoder.decode(items), items, strict=True):
        assert relative_error(got, vocoder.decode(item)[0]) <= 1e-5  # as above
    padded = torch.stack([F.pad(item, (0, 94 - item.shape[1]), value=9.0) for item in items])
    for got, item in zip(vocoder.decode(padded, lengths), items, strict=True):
        assert relative_error(got, vocoder.decode(item)[0]) <= 1e-5  # as above


def test_long_input_is_decoded_in_pieces(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    vocoder, reference = pair
    mel = torch.randn(1, 12, vocoder.max_frames + 100, generator=torch.Generator().manual_seed(2))
    assert relative_error(vocoder.decode(mel), reference(mel)) <= 1e-5  # as above


def test_the_receptive_field_is_exact(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    """By gradients: they show even the weakest of all paths, where outputs would round it away."""
    model, middle = copy.deepcopy(pair[0].model).double(), 47
    mel = MELS[:1].double().requires_grad_()
    model(mel)[0, 16 * middle : 16 * middle + 16].sum().backward()
    assert mel.grad is not None
    touched = mel.grad.abs().amax(dim=(0, 1)).nonzero().flatten()
    reach = max(middle - int(touched[0]), int(touched[-1]) - middle)
    assert reach == model.receptive_field
    assert pair[0].stream().delay_frames == reach


def test_less_lookahead_comes_earlier(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    vocoder, _ = pair
    whole, full = vocoder.decode(MELS), vocoder.stream().delay_frames
    errors = []
    for lookahead in (full, full // 2, 0):
        stream = vocoder.stream(lookahead)
        assert stream.push(MELS[..., :50]).shape == (3, 16 * (50 - lookahead))
        stream.reset()
        audio = torch.cat(list(stream.decode(MELS.split(20, dim=2))), dim=1)
        assert audio.shape == whole.shape
        errors.append(relative_error(audio, whole))
    assert errors[0] <= 1e-5 < errors[2] and errors[1] < errors[2]  # the first as above


def test_the_mel_is_that_of_the_repositories(pair: tuple[tts_infer.Vocoder, Reference], speech: Tensor) -> None:
    """Source: meldataset.py mel_spectrogram of both repositories."""
    vocoder, reference = pair
    config = reference.config
    sizes = {"sr": 24000, "n_fft": 64, "n_mels": 12, "fmin": 0, "fmax": config["fmax"]}
    basis = torch.from_numpy(librosa.filters.mel(**sizes)).float()
    padded = F.pad(speech[:, None, :8000], (24, 24), mode="reflect")[:, 0]
    window = torch.hann_window(64)
    spectrum = torch.stft(padded, 64, 16, 64, window, center=False, return_complex=True)
    want = (basis @ (spectrum.abs().square() + 1e-9).sqrt()).clamp(min=1e-5).log()
    got = vocoder.mel(speech[:, :8000])
    assert got.shape == want.shape == (1, 12, 500)
    assert (got - want).abs().max() <= 1e-3  # logarithms magnify what float32 rounds, where the mel is near its floor
    assert vocoder(speech[:, :8000]).shape == (1, 8000)


def test_self_test_stage_report_and_placement(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    vocoder, _ = pair
    for stage in FAMILIES["bigvgan"].stages(vocoder.model):
        check = StageTrial(stage, torch.device("cpu"), "torch", "fft" if stage.methods else "").check()
        assert check.passed and check.error < 1e-5  # the same code on the same device
    rows = vocoder.synthesize(audio=torch.zeros(1, 320)).stages
    assert [row["stage"] for row in rows] == ["mel", "generator"]
    assert str(vocoder.placement) == "mel=cpu/fft,generator=cpu/torch"
    with pytest.raises(tts_infer.InputError, match="leave refine at 0"):
        vocoder.decode(MELS, refine=1)


@pytest.mark.parametrize("kind", ["HiFi-GAN, blocks 1", "BigVGAN v2"])
def test_the_audit_is_clean_in_every_release(kind: str, tmp_path: Path) -> None:
    config = SIZES | KINDS[kind]
    model = load_model(resolve(save(tmp_path / "gan", config, official_weights(config))))
    audio = torch.randn(2, 320, generator=torch.Generator().manual_seed(0)) * 0.1
    rows = audit(our_paths(model), audio, [*shipped_tables().values(), installed_table()])
    ours = [row for row in rows if row.path in ("matmul", "matmul, in pieces")]
    assert {row.stage for row in ours} == {"mel", "generator"} and all(row.operators for row in ours)
    assert [row for row in ours if not row.clean] == []
    # items of several lengths run one by one, and their lengths are read from the device: nothing else is reported
    ragged = [row for row in rows if row.path == "matmul, ragged batch" and row.stage == "generator"]
    assert ragged and all(row.syncs and not (row.missing or row.complex or row.float64) for row in ragged)


def test_the_emulated_device_equals_the_cpu(pair: tuple[tts_infer.Vocoder, Reference]) -> None:
    vocoder, _ = pair
    with emulated("2.4.1") as device:
        placement = tts_infer.make_placement(device="emu", check=False, stages=vocoder.stages)
        there = tts_infer.Vocoder(copy.deepcopy(vocoder.model), placement, "there")
        mel = MELS[:2, :, :30]
        audio = there.decode(mel)
        assert device.waits == 0
        assert relative_error(audio.cpu(), vocoder.decode(mel)) <= 1e-5  # float32 sums in another order
        mixed = "mel=cpu/fft,generator=emu"
        split = tts_infer.make_placement(mixed, check=False, stages=vocoder.stages)
        copied = tts_infer.Vocoder(copy.deepcopy(vocoder.model), split, "mixed")(torch.ones(1, 320))
        assert relative_error(copied.cpu(), vocoder(torch.ones(1, 320))) <= 1e-5  # as above


# Files


def read(folder: Path, preset: VocoderPreset | None = None) -> Any:
    return read_config(folder / "config.json", FAMILIES.values(), preset)[1]


BIGVGAN = SIZES | KINDS["BigVGAN v2"]


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


# n_mels, n_fft, f_max. Source: README.md of NVIDIA/BigVGAN, and the files in its configs/.
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
