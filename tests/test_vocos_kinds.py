"""The other backbone and the other heads of the official package, loaded, decoded and streamed."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import scipy.signal
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

import tts_infer
from tests.emulated_device import emulated
from tests.helpers import cut
from tts_infer.diagnose import doctor
from tts_infer.diagnose.audit import audit, our_paths, shipped_tables
from tts_infer.stages import relative_error
from tts_infer.vocoders.checkpoint import load_model, resolve

DIM, MELS, HOP = 24, 20, 64
MEL = {"sample_rate": 8000, "n_fft": 256, "hop_length": HOP, "n_mels": MELS}
BACKBONES: dict[str, dict[str, Any]] = {
    "VocosBackbone": {"input_channels": MELS, "dim": DIM, "intermediate_dim": 48, "num_layers": 2},
    "VocosResNetBackbone": {"input_channels": MELS, "dim": DIM, "num_blocks": 2},
}
HEADS: dict[str, dict[str, Any]] = {
    "ISTFTHead": {"dim": DIM, "n_fft": 256, "hop_length": HOP},
    "IMDCTSymExpHead": {"dim": DIM, "mdct_frame_len": 2 * HOP, "sample_rate": 8000},
    "IMDCTCosHead": {"dim": DIM, "mdct_frame_len": 2 * HOP},
}
# all but the usual pair, which has a file of its own
KINDS = [pair for pair in itertools.product(BACKBONES, HEADS) if pair != ("VocosBackbone", "ISTFTHead")]


@pytest.fixture(autouse=True, scope="module")
def _cosine_window_of_old_scipy() -> None:
    """vocos 0.1.0 calls scipy.signal.cosine, which has moved."""
    scipy.signal.cosine = scipy.signal.windows.cosine


def config_of(backbone: str, head: str, padding: str, **head_args: Any) -> dict[str, Any]:
    sections = {
        "feature_extractor": ("feature_extractors.MelSpectrogramFeatures", {**MEL, "padding": padding}),
        "backbone": (f"models.{backbone}", BACKBONES[backbone]),
        "head": (f"heads.{head}", {**HEADS[head], "padding": padding, **head_args}),
    }
    return {name: {"class_path": f"vocos.{path}", "init_args": args} for name, (path, args) in sections.items()}


def official_model(official: ModuleType, config: dict[str, Any]) -> Any:
    """The official modules with random weights, large enough that every layer matters."""
    torch.manual_seed(0)
    make = official.pretrained.instantiate_class
    model = official.Vocos(**{name: make((), section) for name, section in config.items()}).eval()
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            parameter.data += torch.rand_like(parameter)
        elif name.endswith("weight") and "convnext" in name:
            parameter.data *= 5.0
    return model


def folded_weights(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model without weight norm."""
    for module in model.modules():
        if hasattr(module, "weight_g"):
            nn.utils.remove_weight_norm(module)
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module", params=KINDS, ids=" ".join)
def made(request: Any, official: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The official model of each padding, and the folder of its checkpoint."""
    found: dict[str, Any] = {}
    for padding in ("same", "center"):
        config = config_of(request.param[0], request.param[1], padding)
        folder = tmp_path_factory.mktemp("kind")
        model = official_model(official, config)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        save_file(folded_weights(model), folder / "model.safetensors")
        found[padding] = model, folder
    return found


def mel_of(batch: int, frames: int) -> Tensor:
    return torch.randn(batch, MELS, frames, generator=torch.Generator().manual_seed(frames)) * 2 - 4


@pytest.mark.parametrize("padding", ["same", "center"])
def test_parity_with_the_official_package(made: dict[str, Any], padding: str) -> None:
    official, folder = made[padding]
    ours = tts_infer.load_vocoder(folder, device="cpu")
    for batch, frames in [(1, 1), (3, 2), (1, 3), (3, 10), (1, 94), (3, 94)]:
        if padding == "center" and frames == 1:  # the official package fails here
            assert ours.decode(mel_of(batch, 1)).shape == (batch, 0)
            continue
        got, want = ours.decode(mel_of(batch, frames)), official.decode(mel_of(batch, frames))
        assert want.abs().max() > 1e-3
        assert relative_error(got, want) <= 1e-5  # float32 sums in another order


@pytest.mark.parametrize(("padding", "engine"), [("same", "torch"), ("center", "torch"), ("same", "onnxruntime")])
def test_streams_and_ragged_batches_are_exact(made: dict[str, Any], padding: str, engine: str) -> None:
    ours = tts_infer.load_vocoder(made[padding][1], device="cpu", placement=f"backbone=cpu/{engine}")
    mel = mel_of(2, 61)
    whole = ours.decode(mel)
    for sizes in ([1] * 61, [5, 1, 40], [60], []):
        joined = torch.cat(list(ours.stream().decode(cut(mel, sizes))), dim=1)
        assert relative_error(joined, whole) <= 1e-5  # float32 sums
    for got, want in zip(
        ours.decode([mel[0], mel[1, :, :17]]), (whole[0], ours.decode(mel[1, :, :17])[0]), strict=True
    ):
        assert relative_error(got, want) <= 1e-5  # as above


def test_the_receptive_field_is_as_stated(made: dict[str, Any]) -> None:
    """A frame further away changes nothing; the one at its border does."""
    ours = tts_infer.load_vocoder(made["same"][1], device="cpu", placement="backbone=cpu/torch")
    backbone = ours.stages[1]
    reach, mel = backbone.receptive_field, mel_of(1, 101)
    assert reach == (1 + 12 * 2 if "ResNet" in type(backbone.module).__name__ else 3 + 3 * 2)
    (hidden,), _ = backbone((mel,))
    for distance, changes in ((reach, True), (reach + 1, False)):
        other = mel.clone()
        other[..., 50 + distance] += 5
        (moved,), _ = backbone((other,))
        assert bool((moved[:, 50] != hidden[:, 50]).any()) == changes


def test_audit_and_self_test(made: dict[str, Any]) -> None:
    folder = made["same"][1]
    rows = audit(our_paths(load_model(resolve(folder))), torch.zeros(2, 30 * HOP), shipped_tables().values())
    ours = [row for row in rows if row.path.startswith("matmul")]
    assert [row for row in ours if not row.clean] == []
    report = doctor.examine("cpu", str(folder))
    assert {check["stage"] for check in report["checks"]} == {row.stage for row in ours} >= {"mel", "backbone", "head"}
    assert all(check["passed"] for check in report["checks"])
    vocoder = tts_infer.load_vocoder(folder, device="cpu")
    names = [row["stage"] for row in vocoder.synthesize(mel_of(1, 10)).stages]
    assert names == ["backbone", "head", "istft" if "refine" in {row.stage for row in ours} else "imdct"]


def test_an_apple_gpu_gives_the_same(made: dict[str, Any]) -> None:
    usual = tts_infer.load_vocoder(made["same"][1], device="cpu", placement="backbone=cpu/torch,head=cpu/torch")
    mel = mel_of(2, 20)
    want = usual.decode(mel)
    with emulated("2.4.1"):
        there = tts_infer.load_vocoder(made["same"][1], device="emu", check=False)
        got = there.decode(mel).cpu()
        joined = torch.cat([piece.cpu() for piece in there.stream().decode(mel.split(3, dim=2))], dim=1)
    assert relative_error(got, want) <= 1e-5  # float32 sums
    assert relative_error(joined, want) <= 1e-5  # as above


@pytest.mark.parametrize("head", ["IMDCTSymExpHead", "IMDCTCosHead"])
def test_clipped_audio_is_clipped_also_in_streams(official: ModuleType, head: str, tmp_path: Path) -> None:
    """The official heads return clipped coefficients here, in another shape than audio."""
    config = config_of("VocosBackbone", head, "same", clip_audio=True)
    model = official_model(official, config)
    model.head.out.weight.data *= 20
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    save_file(folded_weights(model), tmp_path / "model.safetensors")
    mel = mel_of(1, 30)
    got = tts_infer.load_vocoder(tmp_path, device="cpu").decode(mel)
    model.head.clip_audio = False
    want = model.decode(mel)
    assert want.abs().max() > 1.1
    assert relative_error(got, want.clamp(-1, 1)) <= 1e-5 * float(want.abs().max())  # of the peak before clipping
    stream = tts_infer.load_vocoder(tmp_path, device="cpu").stream()
    assert relative_error(torch.cat(list(stream.decode(mel.split(4, dim=2))), 1), got) <= 1e-5 * float(want.abs().max())


def test_another_frame_length_than_the_mel_is_refused(tmp_path: Path) -> None:
    config = config_of("VocosResNetBackbone", "IMDCTCosHead", "same", mdct_frame_len=4 * HOP)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(tts_infer.ConfigError, match=r"hop_length is 64 but head\.hop_length is 128"):
        tts_infer.load_vocoder(tmp_path)
