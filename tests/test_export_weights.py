"""Weights in fewer bits: what is stored is what torch computed with, and its cost is that of real speech."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tts_infer
from tests.conftest import ROOT
from tests.helpers import small_vocoder
from tts_infer.cli import main
from tts_infer.export import onnx as writing
from tts_infer.export import rounding
from tts_infer.export.weights import round_blocks, stored_exactly
from tts_infer.stages import relative_error
from tts_infer.vocoders.networks import Framewise

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'tts-infer[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'tts-infer[onnx]'")

CLIP = ROOT / "examples/english.wav"
KIND = {"float16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}


def blocks(width: int = 128) -> Framewise:
    torch.manual_seed(0)
    repeated = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
    module = nn.Sequential()
    module.add_module("embed", nn.Linear(width, width))
    module.add_module("blocks", nn.Sequential(*repeated))
    module.add_module("out", nn.Linear(width, width))
    return Framewise("backbone", module.requires_grad_(False), ("x",), ("y",), half=True)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_weights_of_the_blocks_are_rounded(dtype: Any) -> None:
    before, stage = blocks(), blocks()
    stage.module.blocks[0].weight[3] = before.module.blocks[0].weight[3] = 0.0  # a channel without a peak
    assert round_blocks([stage], dtype) == 2 * 128 * 128
    for end in ("embed", "out"):
        assert torch.equal(getattr(stage.module, end).weight, getattr(before.module, end).weight)
    for got, given in zip(stage.module.blocks, before.module.blocks, strict=True):
        peaks = given.weight.abs().amax(1, keepdim=True)
        # half a step of 127; the scale itself is rounded up by less than a thousandth. float16 has 11 bits
        step = peaks / 127 * 1.001 / 2 if dtype == "int8" else given.weight.abs() * 2**-11 + 1e-7
        assert ((got.weight - given.weight).abs() <= step).all() and not torch.equal(got.weight, given.weight)


def test_small_layers_and_spectral_stages_stay() -> None:
    assert round_blocks([blocks(32)], "int8") == 0
    whole = blocks()
    assert round_blocks([Framewise("istft", whole.module, ("x",), ("y",))], "int8") == 0
    assert round_blocks([whole], "float32") == 0


def graph(*weights: np.ndarray) -> Any:
    """A chain of products."""
    helper, names = onnx.helper, [f"w{i}" for i in range(len(weights))]
    ends = ["x", *(f"y{i}" for i in range(len(weights) - 1)), "y"]
    nodes = [helper.make_node("MatMul", [ends[i], name], [ends[i + 1]]) for i, name in enumerate(names)]
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 128]) for name in ("x", "y")]
    tensors = [onnx.numpy_helper.from_array(w, name) for w, name in zip(weights, names, strict=True)]
    made = helper.make_graph(nodes, "g", infos[:1], infos[1:], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_what_is_stored_is_exact(dtype: Any) -> None:
    stage = blocks()
    round_blocks([stage], dtype)
    plain = stage.module.out.weight.numpy().T.copy()
    rounded = [one.weight.numpy() for one in stage.module.blocks]
    model = graph(rounded[0].T.copy(), rounded[1], plain)  # channels last, and first
    x = np.random.default_rng(0).standard_normal((5, 128), dtype=np.float32)
    expected = run(model, x)
    small = stored_exactly(model)
    onnx.checker.check_model(small)
    kinds = [tensor.data_type for tensor in small.graph.initializer if np.prod(tensor.dims) == 128 * 128]
    assert kinds == [KIND[dtype], KIND[dtype], onnx.TensorProto.FLOAT]
    assert np.array_equal(run(small, x), expected)


def run(model: Any, x: np.ndarray) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_int8(tmp_path: Path, vocoder: tts_infer.Vocoder, speech: Tensor) -> None:
    done = tts_infer.export_onnx(vocoder, tmp_path / "v.onnx", dtype="int8", speech=CLIP)
    assert [path.name for path in tmp_path.iterdir()] == ["v.onnx"] and done.size == done.path.stat().st_size
    model = onnx.load(done.path)
    stored = [tensor for tensor in model.graph.initializer if tensor.data_type == KIND["int8"]]
    assert sum(int(np.prod(tensor.dims)) for tensor in stored) == 16 * 256 * 768  # two layers of eight blocks
    assert {one.version for one in model.opset_import} == {17}
    assert 0 < max(check.error for check in done.checks) <= 1e-4
    cost, small = done.cost, tts_infer.load_vocoder(done.path)
    assert cost is not None and cost.size == done.size < 0.4 * cost.unrounded_size
    mel = vocoder.mel(speech)
    copies = [one.decode(mel) for one in (vocoder, small)]
    before, after = (tts_infer.log_mel_error_db(mel, vocoder.mel(copy)) for copy in copies)
    assert cost.unrounded_error_db == pytest.approx(before, abs=1e-3)
    assert cost.error_db == pytest.approx(after, abs=1e-3)
    apart = tts_infer.log_mel_error_db(vocoder.mel(copies[0]), vocoder.mel(copies[1]))
    assert cost.difference_db == pytest.approx(apart, abs=2e-3) and 0.01 < apart < 0.1


def test_slower_and_worse_is_refused(
    tmp_path: Path, vocoder: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is slower is the machine's affair; here every time is, and every error is too large."""
    monkeypatch.setattr(rounding, "SLOWER", 0.0)
    monkeypatch.setattr(rounding, "WORSE_DB", -1.0)
    (tmp_path / "v.onnx").write_bytes(b"of yesterday")
    refusal = r"slower, .* of the time, and worse, 1\.[89]\d* dB after 1\.[89]\d* dB"
    with pytest.raises(tts_infer.ExportError, match=refusal):
        tts_infer.export_onnx(vocoder, tmp_path / "v.onnx", dtype="int8", speech=CLIP)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"of yesterday"]


@pytest.mark.parametrize(("disturbed", "slow"), [(rounding.RUNS, False), (rounding.RUNS * rounding.ROUNDS, True)])
def test_a_disturbed_round_does_not_decide(disturbed: int, slow: bool) -> None:
    pauses = iter([0.004] * disturbed + [0.001] * rounding.RUNS * rounding.ROUNDS)
    ratio = rounding.time_ratio(lambda: time.sleep(0.001), lambda: time.sleep(next(pauses)))
    assert (ratio > rounding.SLOWER) == slow


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, path = small_vocoder(), tmp_path / "v.onnx"
    with pytest.raises(tts_infer.InputError, match="in int8 are checked on real speech; give an audio file"):
        tts_infer.export_onnx(small, path, dtype="int8")
    with pytest.raises(tts_infer.ExportError, match="small has no blocks with large weights"):
        tts_infer.export_onnx(small, path, dtype="int8", speech=CLIP)
    with pytest.raises(tts_infer.InputError, match="dtype is 'int4'; allowed: float32, float16, int8"):
        tts_infer.export_onnx(small, path, dtype="int4", speech=CLIP)  # type: ignore[arg-type]
    with pytest.raises(tts_infer.FileError, match="no such file: none.wav"):
        tts_infer.export_onnx(small, path, speech="none.wav")
    assert main(["export", "vocos-mini-24khz", "-o", str(tmp_path), "--for", "web", "--dtype", "int8"]) == 2
    assert "--dtype goes with a file, not with --for web" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "vocos-mini-24khz", "--dtype", "float16", "--speech", str(CLIP), "-o"]
    assert main([*arguments, str(tmp_path / "v.onnx")]) == 0
    said = capsys.readouterr().out
    assert "with weights in float16, beside float32:" in said and "two copies 0.000 dB" in said  # as it is published
    assert main([*arguments, str(tmp_path / "w.onnx"), "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)["cost"]
    assert cost["difference_db"] < 1e-3 and cost["size"] < 0.6 * cost["unrounded_size"]


def test_a_large_graph_has_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the format is lowered; everything else is real."""
    small = small_vocoder("same")
    whole = tts_infer.export_onnx(small, tmp_path / "whole.onnx")
    monkeypatch.setattr(writing, "MOST_BYTES", whole.size - 1)
    (tmp_path / "link.onnx").symlink_to(tmp_path / "folder" / "v.onnx")
    (tmp_path / "folder").mkdir()
    done = tts_infer.export_onnx(small, tmp_path / "link.onnx")
    files = sorted((tmp_path / "folder").iterdir())
    assert [path.name for path in files] == ["v.onnx", "v.onnx.data"] and done.path == files[0]
    sizes = [path.stat().st_size for path in files]
    assert done.size == sum(sizes) and sizes[0] < whole.size - 100_000 < whole.size < done.size + 10_000
    mel = torch.randn(2, 40, 30, generator=torch.Generator().manual_seed(0))
    expected = small.decode(mel, check_convention=False)
    assert relative_error(tts_infer.load_vocoder(done.path).decode(mel, check_convention=False), expected) <= 1e-4
    files[1].unlink()
    with pytest.raises(tts_infer.CheckpointError, match=r"keeps weights in 'v.onnx.data'"):
        tts_infer.load_vocoder(done.path)
