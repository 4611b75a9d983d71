"""ONNX Runtime as an engine: exact in pieces, streams and ragged batches, and chosen only where it is faster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import tts_infer
from tts_infer.devices import CPU
from tts_infer.engines import ENGINES
from tts_infer.engines.onnxruntime import OnnxRuntimeEngine, Session
from tts_infer.engines.traced import export
from tts_infer.runtime import kept
from tts_infer.runtime.choice import clear_checks
from tts_infer.runtime.selftest import StageTrial
from tts_infer.stages import relative_error
from tts_infer.vocoders import usual_stages

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'tts-infer[onnx]'")
BY_ONNX = {"backbone": "cpu/onnxruntime", "head": "cpu/onnxruntime"}
BY_TORCH = {"backbone": "cpu/torch", "head": "cpu/torch"}


@pytest.fixture(scope="module")
def ours() -> tts_infer.Vocoder:
    return tts_infer.load_vocoder(device="cpu", placement=BY_ONNX, refine=0)


@pytest.fixture(scope="module")
def reference() -> tts_infer.Vocoder:
    return tts_infer.load_vocoder(device="cpu", placement=BY_TORCH, refine=0)


@pytest.fixture(scope="module")
def mel(reference: tts_infer.Vocoder) -> Tensor:
    clip = tts_infer.read_audio("examples/english.wav", reference.sample_rate)
    return reference.mel(clip.samples)


@pytest.mark.parametrize("frames", [1, 2, 3, 10, 94, 300])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_length_and_batch(
    frames: int, batch: int, ours: tts_infer.Vocoder, reference: tts_infer.Vocoder, mel: Tensor
) -> None:
    given = mel[..., :frames].repeat(batch, 1, 1)
    # the trained network magnifies the rounding of float32 sums, see `test_onednn`
    assert relative_error(ours.decode(given), reference.decode(given)) <= 5e-5 if frames > 1 else True
    assert [row["engine"] for row in ours.synthesize(given).stages] == ["onnxruntime", "onnxruntime", "torch"]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_pieces_are_exact(size: int, ours: tts_infer.Vocoder, mel: Tensor) -> None:
    pieces = torch.cat(list(ours.stream().decode(mel[..., :150].split(size, dim=2))), dim=1)
    assert relative_error(pieces, ours.decode(mel[..., :150])) <= 1e-4  # as above, of a few frames


def test_ragged_batches_are_exact(ours: tts_infer.Vocoder, mel: Tensor) -> None:
    lengths = (150, 3, 71)
    for got, n in zip(ours.decode([mel[0, :, :n] for n in lengths]), lengths, strict=True):
        assert relative_error(got, ours.decode(mel[..., :n])[0]) <= 1e-4  # as above


@pytest.mark.parametrize("stage", ["backbone", "head"])
def test_it_passes_the_self_test(stage: str) -> None:
    (one,) = [found for found in usual_stages() if found.name == stage]
    trial = StageTrial(one, CPU, "onnxruntime")
    for check in (trial.check(), trial.on("few").check()):
        assert check.passed and check.error < 1e-5  # float32 sums in another order


def test_what_it_does_not_run() -> None:
    engine = ENGINES["onnxruntime"]
    stages = {stage.name: stage for stage in usual_stages()}
    assert engine.unsupported(stages["backbone"], CPU, "float32") is None
    assert engine.unsupported(stages["istft"], CPU, "float32") == "ONNX Runtime runs networks, and istft is none"
    assert "not in bfloat16" in str(engine.unsupported(stages["head"], CPU, "bfloat16"))
    assert "not on cuda:1" in str(engine.unsupported(stages["head"], torch.device("cuda", 1), "float32"))


@pytest.fixture
def _measured_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(OnnxRuntimeEngine, "automatic", True)
    clear_checks()
    yield
    clear_checks()


@pytest.mark.usefixtures("_measured_anew")
def test_a_wrong_engine_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StageTrial, "is_faster_than", lambda trial, other, margin: trial.engine == "onnxruntime")
    right = Session.__call__
    monkeypatch.setattr(Session, "__call__", lambda session, *inputs: tuple(0 * x for x in right(session, *inputs)))
    place = tts_infer.make_placement(device="cpu")["backbone"]
    assert place.engine == "onednn"
    assert "backbone on cpu by onnxruntime differs from the CPU by 1.0e+00 of the peak" in place.reason


class Looping(nn.Module):
    """Its Python looks at values: a trace of it is right for the example only."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.sum())


def test_a_graph_for_the_example_only_is_refused() -> None:
    with pytest.raises(RuntimeError, match="right for the example only"):
        export(Looping().eval(), {"x": torch.ones(2, 3, 4)}, {"x": {0: "B", 2: "L"}})


@pytest.mark.usefixtures("_measured_anew")
def test_choices_are_looked_for_only_where_onnx_runtime_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tts_infer.engines.find_spec", lambda name: None)
    with pytest.raises(tts_infer.PlacementError, match="'onnxruntime', but onnxruntime is not installed; use 'torch'"):
        tts_infer.make_placement("head=cpu/onnxruntime")
    monkeypatch.setattr(kept, "_answers", {})
    assert tts_infer.make_placement(device="cpu")["head"].reason == "fused products, probed here"


def test_graphs_do_not_depend_on_the_default_device() -> None:
    with torch.device("meta"):
        vocoder = tts_infer.load_vocoder(device="cpu", refine=0, placement="backbone=cpu/onnxruntime")
        audio = vocoder.decode(torch.zeros(1, 100, 5, device="cpu"))
    assert (audio.shape, audio.device.type) == ((1, 1024), "cpu")
