"""Vocos with codes of EnCodec as input, against the official package on the same random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

import tts_infer
from tests.emulated_device import emulated
from tests.helpers import cut
from tts_infer.cli import main
from tts_infer.diagnose import doctor
from tts_infer.diagnose.audit import audit, our_paths, shipped_tables
from tts_infer.io.audio import read_audio
from tts_infer.runtime import workers
from tts_infer.runtime.placement import make_placement
from tts_infer.stages import relative_error
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.checkpoint import load_model, resolve

DIM, LAYERS = 32, 3
CONFIG = {
    "feature_extractor": {
        "class_path": "vocos.feature_extractors.EncodecFeatures",
        "init_args": {"encodec_model": "encodec_24khz", "bandwidths": [1.5, 3.0, 6.0, 12.0]},
    },
    "backbone": {
        "class_path": "vocos.models.VocosBackbone",
        "init_args": {
            "input_channels": 128,
            "dim": DIM,
            "intermediate_dim": 3 * DIM,
            "num_layers": LAYERS,
            "adanorm_num_embeddings": 4,
        },
    },
    "head": {
        "class_path": "vocos.heads.ISTFTHead",
        "init_args": {"dim": DIM, "n_fft": 1280, "hop_length": 320, "padding": "same"},
    },
}


class Official:
    """The official package's vocoder with random weights; its EnCodec model is built, but not downloaded."""

    def __init__(self, vocos: Any) -> None:
        from encodec import EncodecModel

        untrained = partial(EncodecModel.encodec_model_24khz, False)
        with patch.object(EncodecModel, "encodec_model_24khz", lambda pretrained: untrained()):
            torch.manual_seed(0)
            parts = {name: vocos.pretrained.instantiate_class((), section) for name, section in CONFIG.items()}
        self.model = vocos.Vocos(**parts).eval()
        self.model.feature_extractor.codebook_weights.data.normal_()
        for name, parameter in self.model.backbone.named_parameters():
            if "norm." in name and "final" not in name:  # the four norms differ
                parameter.data += 0.3 * torch.randn_like(parameter)
            elif parameter.ndim > 1:
                parameter.data *= 10

    def weights(self) -> dict[str, Tensor]:
        """The tensors of the published checkpoint: EnCodec itself is not among them."""
        return {k: v for k, v in self.model.state_dict().items() if not k.startswith("feature_extractor.encodec.")}


@pytest.fixture(scope="module")
def reference(official: Any) -> Official:
    return Official(official)


@pytest.fixture(scope="module")
def folder(reference: Official, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encodec")
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    save_file(reference.weights(), path / "model.safetensors")
    return path


@pytest.fixture(scope="module")
def vocoder(folder: Path) -> tts_infer.Vocoder:
    return tts_infer.load_vocoder(folder, device="cpu")


def codes_of(codebooks: int, batch: int, frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 * codebooks + frames)
    return torch.randint(1024, (codebooks, batch, frames), generator=generator)


@pytest.mark.parametrize("engine", ["torch", "onednn", "onnxruntime", "openvino"])
def test_parity_with_the_official_package(reference: Official, folder: Path, engine: str) -> None:
    ours = tts_infer.load_vocoder(folder, device="cpu", placement=f"backbone=cpu/{engine}")
    for number, codebooks in enumerate([2, 4, 8, 16]):
        for batch, frames in [(1, 1), (3, 2), (1, 3), (3, 10), (1, 94), (3, 94)]:
            codes = codes_of(codebooks, batch, frames)
            features = reference.model.codes_to_features(codes)
            torch.testing.assert_close(ours.codes_to_features(codes), features, rtol=0, atol=1e-5)  # sums of 16 floats
            expected = reference.model.decode(features, bandwidth_id=torch.tensor([number]))
            got = ours.decode(features, bandwidth_id=number)
            assert got.shape == (batch, 320 * frames)
            assert relative_error(got, expected) <= 1e-5  # float32 products in another order


def test_norms_differ_and_items_choose_their_own(vocoder: tts_infer.Vocoder) -> None:
    features = vocoder.codes_to_features(codes_of(8, 3, 40))
    singles = [vocoder.decode(features, bandwidth_id=number) for number in range(4)]
    assert relative_error(singles[1], singles[0]) > 0.05
    mixed = vocoder.decode(features, bandwidth_id=torch.tensor([3, 0, 1]))
    for item, number in enumerate([3, 0, 1]):
        assert relative_error(mixed[item], singles[number][item]) <= 1e-5  # float32 sums
    given: list[Any] = [torch.tensor(2), torch.tensor([2]), np.array([2, 2, 2]), np.int64(2), [2]]
    for one in given:
        assert relative_error(vocoder.decode(features, bandwidth_id=one), singles[2]) == 0


def test_the_layouts_of_codes(vocoder: tts_infer.Vocoder) -> None:
    codes = codes_of(4, 1, 10)
    want = vocoder.codes_to_features(codes)
    assert want.shape == (1, 128, 10)
    for same in (codes[:, 0], codes[:, 0].int(), codes[:, 0].to(torch.int16).numpy(), codes.numpy()[:, :, ::1]):
        assert torch.equal(vocoder.codes_to_features(same), want)


@pytest.mark.parametrize("engine", ["torch", "onednn", "onnxruntime", "openvino"])
def test_streams_and_ragged_batches_are_exact(folder: Path, engine: str) -> None:
    vocoder = tts_infer.load_vocoder(folder, device="cpu", placement=f"backbone=cpu/{engine}")
    features = vocoder.codes_to_features(codes_of(8, 2, 61))
    numbers = torch.tensor([1, 3])
    whole = vocoder.decode(features, bandwidth_id=numbers)
    for sizes in ([1] * 61, [5, 1, 40], []):
        stream = vocoder.stream(bandwidth_id=numbers)
        joined = torch.cat(list(stream.decode(cut(features, sizes))), dim=1)
        assert relative_error(joined, whole) <= 1e-5  # float32 sums
    ragged = vocoder.decode([features[0], features[1, :, :17]], bandwidth_id=numbers)
    assert relative_error(ragged[0], whole[0]) <= 1e-5  # as above
    assert relative_error(ragged[1], vocoder.decode(features[1, :, :17], bandwidth_id=3)[0]) <= 1e-5  # as above


def test_long_features_are_decoded_in_pieces(vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    features = vocoder.codes_to_features(codes_of(2, 3, 100))
    numbers = [0, 3, 2]
    whole = vocoder.decode(features, bandwidth_id=numbers)
    monkeypatch.setattr("tts_infer.runtime.pipeline.Pipeline.max_frames", 40)
    assert relative_error(vocoder.decode(features, bandwidth_id=numbers), whole) <= 1e-5  # float32 sums
    for got, want in zip(vocoder.decode(list(features), bandwidth_id=numbers), whole, strict=True):
        assert relative_error(got, want) <= 1e-5  # as above


def test_the_receptive_field_is_3_frames_a_convolution(vocoder: tts_infer.Vocoder) -> None:
    backbone = vocoder.stages[1]
    assert (backbone.name, backbone.takes, backbone.receptive_field) == (
        "backbone",
        ("features", "bandwidth_id"),
        3 + 3 * LAYERS,
    )


def refusals() -> Iterator[tuple[dict[str, Any], str, type]]:
    yield {}, "bandwidth_id is missing; give bandwidth_id=0 to 3, for 1.5, 3.0, 6.0, 12.0", tts_infer.InputError
    wrongs: list[Any] = [4, -1, 1.0, "1", True, [], torch.tensor([0, 9])]
    for wrong in wrongs:
        yield {"bandwidth_id": wrong}, "allowed: 0 to 3, for 1.5", tts_infer.InputError
    yield {"bandwidth_id": [0, 1]}, "has 2 numbers; give one, or one for each of 3 items", tts_infer.InputError
    yield {"bandwith_id": 1}, "'bandwith_id' is no argument.*bandwidth_id", tts_infer.InputTypeError


@pytest.mark.parametrize(("conditions", "message", "kind"), list(refusals()))
def test_wrong_conditions_are_refused(
    vocoder: tts_infer.Vocoder, conditions: dict[str, Any], message: str, kind: type[Exception]
) -> None:
    features = vocoder.codes_to_features(codes_of(2, 3, 4))
    with pytest.raises(kind, match=message):
        vocoder.decode(features, **conditions)
    with pytest.raises(kind, match=message):
        vocoder.stream(**conditions).push(features)


def test_wrong_codes_and_features_are_refused(vocoder: tts_infer.Vocoder) -> None:
    for wrong, message in [
        (torch.zeros(17, 4).long(), "up to 16 codebooks"),
        (torch.zeros(4).long(), r"codes have shape \(4,\)"),
        (torch.zeros(2, 0).long(), "L over 0"),
        (torch.tensor([[0, 1024]]), "reach from 0 to 1024; allowed: 0 to 1023"),
        (torch.tensor([[-1, 3]]), "reach from -1 to 3"),
    ]:
        with pytest.raises(tts_infer.InputError, match=message):
            vocoder.codes_to_features(wrong)
    for kind in (torch.zeros(2, 4), np.zeros((2, 4)), [[1]], torch.zeros(2, 4) > 0):
        with pytest.raises(tts_infer.InputTypeError, match="expected a dense tensor or array of whole numbers"):
            vocoder.codes_to_features(kind)  # type: ignore[arg-type]
    with pytest.raises(tts_infer.InputError, match=r"expected \(B, 128, L\)"):
        vocoder.decode(torch.zeros(1, 100, 5), bandwidth_id=0)
    with pytest.raises(tts_infer.InputError, match="NaN or infinite"):
        vocoder.decode(torch.full((1, 128, 5), torch.nan), bandwidth_id=0)
    with pytest.raises(tts_infer.InputError, match="cannot make features from audio; give features"):
        vocoder.mel(torch.zeros(4000))
    with pytest.raises(tts_infer.InputError, match="takes no mels"):
        _ = vocoder.mel_config


def test_mel_vocoders_take_no_codes() -> None:
    mel = tts_infer.load_vocoder(device="cpu", refine=0)
    with pytest.raises(tts_infer.InputError, match="cannot make mel from codes"):
        mel.codes_to_features(codes_of(2, 1, 5))
    with pytest.raises(tts_infer.InputTypeError, match="besides the usual ones it has: none"):
        mel.decode(torch.zeros(1, 100, 5), bandwidth_id=1)


def test_a_stage_report_begins_with_the_codes(vocoder: tts_infer.Vocoder) -> None:
    codes = codes_of(8, 1, 20)
    result = vocoder.synthesize(codes=codes)  # 8 codes a frame are 6 kilobits a second
    assert [row["stage"] for row in result.stages] == ["codes", "backbone", "head", "istft"]
    assert torch.equal(result.audio, vocoder.decode(vocoder.codes_to_features(codes), bandwidth_id=2))
    with pytest.raises(tts_infer.InputError, match="bandwidth_id is missing"):
        vocoder.synthesize(codes=codes_of(3, 1, 20))


def test_decode_on_the_command_line(
    vocoder: tts_infer.Vocoder, folder: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    codes, out = codes_of(8, 1, 30), tmp_path / "out.wav"
    np.save(tmp_path / "codes.npy", codes[:, 0].numpy().astype(np.int16))
    torch.save(codes, tmp_path / "codes.pt")
    command = ["--vocoder", str(folder), "--device", "cpu"]
    want = {n: vocoder.decode(vocoder.codes_to_features(codes), bandwidth_id=n)[0].numpy() for n in (1, 2)}
    for name, bandwidth, number in [("codes.npy", ["--bandwidth", "6"], 2), ("codes.pt", ["--bandwidth", "3"], 1),
                                    ("codes.npy", [], 2)]:  # fmt: skip
        arguments = [str(tmp_path / name), "-o", str(out), "--sample-format", "float32", "--json"]
        assert main(["decode", *arguments, *command, *bandwidth]) == 0
        report = json.loads(capsysbinary.readouterr().out)
        assert (report["sample_rate"], report["frames"], report["stages"][0]["stage"]) == (24000, 30, "codes")
        np.testing.assert_allclose(read_audio(out).samples, want[number], atol=1e-6 * np.abs(want[number]).max())
    assert main(["decode", str(tmp_path / "codes.npy"), "--stream", "--raw", *command, "--bandwidth", "6"]) == 0
    assert len(capsysbinary.readouterr().out) == 2 * 320 * 30
    assert main(["decode", str(tmp_path / "codes.npy"), "-o", str(out), *command, "--bandwidth", "5"]) == 2
    assert b"has no number for 5.0; allowed: 1.5, 3.0, 6.0, 12.0" in capsysbinary.readouterr().err


def test_long_files_of_codes_are_decoded_in_pieces(
    vocoder: tts_infer.Vocoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = codes_of(2, 1, 120)
    np.save(tmp_path / "codes.npy", codes[:, 0].numpy())
    want = vocoder.decode(vocoder.codes_to_features(codes), bandwidth_id=0)[0].numpy()
    monkeypatch.setattr("tts_infer.runtime.pipeline.Pipeline.max_frames", 40)
    monkeypatch.setattr("tts_infer.files.READ_FRAMES", 50)
    made = tts_infer.synthesize_file(vocoder, tmp_path / "codes.npy", tmp_path / "o.wav", sample_format="float32")
    assert made.frames == 120
    np.testing.assert_allclose(read_audio(tmp_path / "o.wav").samples, want, atol=1e-5 * np.abs(want).max())


def test_the_audit_of_the_default_path_is_clean(folder: Path) -> None:
    model = load_model(resolve(folder))
    rows = audit(our_paths(model), torch.zeros(2, 9600), shipped_tables().values())
    ours = [row for row in rows if row.path.startswith("matmul")]
    assert {row.stage for row in ours} == {"codes", "backbone", "head", "istft"}
    assert len({row.path for row in ours}) == 3
    assert [row for row in ours if not row.clean] == []


@pytest.mark.parametrize("release", ["2.4.1", "2.13.0"])
def test_an_apple_gpu_gives_the_same(folder: Path, release: str) -> None:
    usual = tts_infer.load_vocoder(folder, device="cpu", istft="matmul")
    codes = codes_of(8, 2, 20)
    features = usual.codes_to_features(codes)
    want = usual.decode(features, bandwidth_id=[2, 0])
    with emulated(release):
        there = tts_infer.load_vocoder(folder, device="emu", check=False)
        got = there.decode(there.codes_to_features(codes), bandwidth_id=[2, 0]).cpu()
        stream = there.stream(bandwidth_id=[2, 0])
        joined = torch.cat([piece.cpu() for piece in stream.decode(features.split(3, dim=2))], dim=1)
    assert relative_error(got, want) <= 1e-5  # float32 sums
    assert relative_error(joined, want) <= 1e-5  # as above


def test_the_self_test_passes(folder: Path) -> None:
    report = doctor.examine("cpu", str(folder))
    assert {check["stage"] for check in report["checks"]} == {"codes", "backbone", "head", "istft"}
    assert {check["engine"] for check in report["checks"] if check["stage"] == "backbone"} == {
        "torch",
        "onednn",
        "onnxruntime",
        "openvino",
    }
    assert all(check["passed"] for check in report["checks"])


def test_bandwidths_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    family = FAMILIES["encodec"]
    sections = json.loads(json.dumps(CONFIG))
    sections["feature_extractor"]["init_args"]["bandwidths"] = [6.0]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(tts_infer.ConfigError, match="adanorm_num_embeddings is 4, but there are 1 bandwidths"):
        tts_infer.load_vocoder(tmp_path)
    sections["feature_extractor"]["init_args"]["bandwidths"] = [6.0, "much"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections))
    with pytest.raises(tts_infer.ConfigError, match=r"bandwidths\[1\] is 'much'; allowed: float"):
        tts_infer.load_vocoder(tmp_path)
    model = load_model(resolve(folder))
    assert family.n_samples(model.config, 7) == 7 * 320


def test_placements_name_the_stages(folder: Path) -> None:
    model = load_model(resolve(folder))
    stages = FAMILIES["encodec"].stages(model)
    placement = make_placement("istft=cpu/matmul", device="cpu", stages=stages)
    assert list(placement) == ["codes", "backbone", "head", "istft"]
    placed = tts_infer.Vocoder(model, placement, "encodec")
    usual = tts_infer.load_vocoder(folder, device="cpu")
    features = usual.codes_to_features(codes_of(2, 1, 30))
    got, want = placed.decode(features, bandwidth_id=0), usual.decode(features, bandwidth_id=0)
    assert relative_error(got, want) <= 1e-5  # two transforms of one spectrum


def test_workers_decode_the_same(vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy CPU, workers share the items of a batch and the parts of a long signal, each with its own number."""
    features = vocoder.codes_to_features(codes_of(8, 3, 400))
    numbers = torch.tensor([3, 0, 2])
    whole = vocoder.decode(features, bandwidth_id=numbers)
    ragged = vocoder.decode([features[0], features[1, :, :90], features[2]], bandwidth_id=numbers)
    monkeypatch.setattr(workers, "should_share", lambda: True)
    monkeypatch.setattr(workers, "count", lambda: 2)
    assert relative_error(vocoder.decode(features, bandwidth_id=numbers), whole) <= 1e-5  # float32 sums
    assert relative_error(vocoder.decode(features[:1], bandwidth_id=3), whole[:1]) <= 1e-5  # as above
    again = vocoder.decode([features[0], features[1, :, :90], features[2]], bandwidth_id=numbers)
    for got, want in zip(again, ragged, strict=True):
        assert relative_error(got, want) <= 1e-5  # as above
    with pytest.raises(tts_infer.InputError, match="one for each of 3 items"):
        vocoder.decode(features, bandwidth_id=[0, 1])


def test_it_is_warmed_up_with_conditions(vocoder: tts_infer.Vocoder) -> None:
    tts_infer.warm_up(vocoder)
    assert torch.isfinite(vocoder.decode(torch.zeros(1, vocoder.n_mels, 5), bandwidth_id=1)).all()
