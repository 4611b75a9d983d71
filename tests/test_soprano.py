"""Soprano's decoder, against the parts of the official vocos package with its kernel sizes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

import tts_infer
from tests.emulated_device import emulated
from tests.helpers import cut
from tts_infer.diagnose import doctor
from tts_infer.diagnose.audit import audit, our_paths, shipped_tables
from tts_infer.io.audio import read_audio
from tts_infer.stages import relative_error
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.soprano import Interpolation, SopranoConfig, SopranoDecoder

DIM, CHANNELS = 32, 24
SIZES = {"num_input_channels": CHANNELS, "decoder_num_layers": 3, "decoder_dim": DIM, "hop_length": 64, "n_fft": 256}


class Reference(nn.Module):
    """The decoder as ekwek1/soprano, soprano/vocos/decoder.py, puts it together."""

    def __init__(self, official: ModuleType) -> None:
        super().__init__()
        torch.manual_seed(0)
        dim, channels = DIM, CHANNELS
        self.decoder = official.models.VocosBackbone(channels, dim, 3 * dim, SIZES["decoder_num_layers"])
        self.decoder.embed = nn.Conv1d(channels, dim, 1)
        for block in self.decoder.convnext:
            block.dwconv = nn.Conv1d(dim, dim, 3, padding=1, groups=dim)
            block.pwconv1.weight.data *= 10
            block.pwconv2.weight.data *= 10
        self.head = official.heads.ISTFTHead(dim, SIZES["n_fft"], SIZES["hop_length"], "center")

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, size=4 * (x.shape[2] - 1) + 1, mode="linear", align_corners=True)
        magnitude, phase = self.head.out(self.decoder(x)).transpose(1, 2).chunk(2, dim=1)
        spectrum = torch.polar(magnitude.exp().clamp(max=1e2), phase)
        spectrum[:, [0, -1]] = 0
        audio: Tensor = self.head.istft(spectrum)
        return audio


@pytest.fixture(scope="module")
def reference(official: ModuleType) -> Reference:
    return Reference(official).eval()


@pytest.fixture(scope="module")
def folder(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("soprano")
    section = {"class_path": "soprano.vocos.decoder.SopranoDecoder", "init_args": SIZES}
    (path / "config.yaml").write_text(yaml.safe_dump({"decoder": section}))
    save_file(reference.state_dict(), path / "model.safetensors")
    return path


def hidden_of(batch: int, frames: int) -> Tensor:
    return torch.randn(batch, 24, frames, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("engine", ["torch", "onednn", "onnxruntime", "openvino"])
def test_parity_with_the_reference(reference: Reference, folder: Path, engine: str) -> None:
    ours = tts_infer.load_vocoder(folder, device="cpu", placement=f"backbone=cpu/{engine}")
    assert (ours.sample_rate, ours.hop_length, ours.n_mels) == (32000, 256, 24)
    assert ours.decode(hidden_of(3, 1)).shape == (3, 0)  # one frame has no end
    for batch, frames in [(3, 2), (1, 3), (3, 10), (1, 94), (3, 94)]:
        hidden = hidden_of(batch, frames)
        got, want = ours.decode(hidden), reference(hidden)
        assert got.shape == want.shape == (batch, (frames - 1) * 256)
        assert relative_error(got, want) <= 1e-5  # float32 sums in another order


@pytest.mark.parametrize("engine", ["torch", "onednn", "onnxruntime", "openvino"])
def test_streams_and_ragged_batches_are_exact(folder: Path, engine: str) -> None:
    ours = tts_infer.load_vocoder(folder, device="cpu", placement=f"backbone=cpu/{engine}")
    hidden = hidden_of(2, 61)
    whole = ours.decode(hidden)
    for sizes in ([1] * 61, [5, 1, 40], [60], []):
        joined = torch.cat(list(ours.stream().decode(cut(hidden, sizes))), dim=1)
        assert relative_error(joined, whole) <= 1e-5  # float32 sums
    ragged, short = ours.decode([hidden[0], hidden[1, :, :17]]), ours.decode(hidden[1, :, :17])
    for got, want in zip(ragged, (whole[0], short[0]), strict=True):
        assert relative_error(got, want) <= 1e-5  # as above


def test_a_stream_is_late_by_what_it_says(folder: Path) -> None:
    """Three convolutions reach 3 of the fine frames, and half a window 2: in all two frames of the language model."""
    ours = tts_infer.load_vocoder(folder, device="cpu")
    stream, given = ours.stream(), 0
    assert stream.delay_frames == 2
    for pushed, frame in enumerate(hidden_of(1, 12).split(1, dim=2), start=1):
        given += stream.push(frame).shape[1]
        assert ours.n_samples(pushed) - given <= 256 * stream.delay_frames
    assert given >= 256 * 9


@pytest.mark.parametrize("lookahead", [0, 1])
def test_less_lookahead_comes_earlier_and_is_close(folder: Path, lookahead: int) -> None:
    ours = tts_infer.load_vocoder(folder, device="cpu")
    hidden = hidden_of(1, 40)
    whole, stream = ours.decode(hidden), ours.stream(lookahead)
    assert stream.delay_frames <= lookahead + 1
    joined = torch.cat(list(stream.decode(hidden.split(1, dim=2))), dim=1)
    assert joined.shape == whole.shape
    assert relative_error(joined, whole) <= (1e-5 if lookahead == 1 else 1.0)  # 3 fine frames are less than 4
    with pytest.raises(tts_infer.InputError, match="0 to 1 frames"):
        ours.stream(2)


def test_interpolation_is_that_of_torch() -> None:
    for frames, factor in [(1, 4), (2, 3), (9, 4), (5, 1)]:
        x = torch.randn(2, 3, frames)
        want = F.interpolate(x, size=factor * (frames - 1) + 1, mode="linear", align_corners=True)
        torch.testing.assert_close(Interpolation(factor)(x), want, rtol=0, atol=1e-5)  # float32 products


def test_the_lowest_and_the_highest_bin_are_silent(folder: Path) -> None:
    vocoder = tts_infer.load_vocoder(folder, device="cpu")
    head = vocoder.stages[2]
    (real, imag), _ = head(head.probe())
    for part in (real, imag):
        assert not part[:, [0, -1]].any()
        assert part[:, 1:-1].abs().amin() > 0


def test_long_features_and_files(folder: Path, tmp_path: Path) -> None:
    vocoder = tts_infer.load_vocoder(folder, device="cpu")
    assert vocoder.max_frames == 1024
    hidden = hidden_of(1, 2500)
    audio = vocoder.decode(hidden)
    part = vocoder.decode(hidden[..., :1100])
    assert audio.shape == (1, 2499 * 256)
    assert relative_error(audio[:, : 1080 * 256], part[:, : 1080 * 256]) <= 1e-5  # float32 sums
    np.save(tmp_path / "hidden.npy", hidden.numpy())
    made = tts_infer.synthesize_file(vocoder, tmp_path / "hidden.npy", tmp_path / "o.wav", sample_format="float32")
    assert (made.sample_rate, made.frames) == (32000, 2500)
    got = read_audio(tmp_path / "o.wav").samples
    np.testing.assert_allclose(got, audio[0].numpy(), atol=1e-5 * float(audio.abs().max()))


def test_audit_self_test_and_report(folder: Path) -> None:
    rows = audit(our_paths(load_model(resolve(folder))), torch.zeros(2, 100), shipped_tables().values())
    ours = [row for row in rows if row.path.startswith("matmul")]
    assert {row.stage for row in ours} == {"upsample", "backbone", "head", "istft"}
    assert [row for row in ours if not row.clean] == []
    report = doctor.examine("cpu", str(folder))
    assert {check["stage"] for check in report["checks"]} == {"upsample", "backbone", "head", "istft"}
    assert all(check["passed"] for check in report["checks"])
    vocoder = tts_infer.load_vocoder(folder, device="cpu")
    assert [row["stage"] for row in vocoder.synthesize(hidden_of(1, 5)).stages] == [
        "upsample",
        "backbone",
        "head",
        "istft",
    ]
    with pytest.raises(tts_infer.InputError, match="cannot make features from audio"):
        vocoder.mel(torch.zeros(4000))


@pytest.mark.parametrize("release", ["2.4.1", "2.13.0"])
def test_an_apple_gpu_gives_the_same(folder: Path, release: str) -> None:
    usual = tts_infer.load_vocoder(folder, device="cpu", placement="head=cpu/torch", istft="matmul")
    hidden = hidden_of(2, 20)
    with emulated(release):
        there = tts_infer.load_vocoder(folder, device="emu", check=False)
        assert relative_error(there.decode(hidden).cpu(), usual.decode(hidden)) <= 1e-5  # float32 sums
        for got, want in zip(
            there.decode([hidden[0], hidden[1, :, :7]]), usual.decode([hidden[0], hidden[1, :, :7]]), strict=True
        ):
            assert relative_error(got.cpu(), want) <= 1e-5  # as above


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        model = SopranoDecoder(SopranoConfig())
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["decoder.embed.weight"] == (768, 512, 1)
    assert shapes["decoder.convnext.7.dwconv.weight"] == (768, 1, 3)
    assert shapes["decoder.convnext.7.pwconv1.weight"] == (2304, 768)
    assert shapes["head.out.weight"] == (2050, 768)
