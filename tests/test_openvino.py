"""OpenVINO as an engine: exact in pieces, streams and ragged batches, in workers and in forked children."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest
import torch
from torch import Tensor

import tts_infer
from tts_infer.config import DTypeName
from tts_infer.devices import CPU, dtype_refusal
from tts_infer.engines import ENGINES
from tts_infer.runtime import workers
from tts_infer.runtime.selftest import StageTrial
from tts_infer.stages import relative_error
from tts_infer.vocoders import usual_stages

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'tts-infer[openvino]'")
BY_OPENVINO = {"backbone": "cpu/openvino", "head": "cpu/openvino"}
BY_TORCH = {"backbone": "cpu/torch", "head": "cpu/torch"}


@pytest.fixture(scope="module")
def ours() -> tts_infer.Vocoder:
    return tts_infer.load_vocoder(device="cpu", placement=BY_OPENVINO, refine=0)


@pytest.fixture(scope="module")
def reference() -> tts_infer.Vocoder:
    return tts_infer.load_vocoder(device="cpu", placement=BY_TORCH, refine=0)


@pytest.fixture(scope="module")
def mel(reference: tts_infer.Vocoder, speech: Tensor) -> Tensor:
    return reference.mel(speech)


@pytest.mark.parametrize("frames", [2, 3, 10, 300])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_length_and_batch(
    frames: int, batch: int, ours: tts_infer.Vocoder, reference: tts_infer.Vocoder, mel: Tensor
) -> None:
    given = mel[..., :frames].repeat(batch, 1, 1)
    # the trained network magnifies the rounding of float32 sums, see `test_onednn`
    assert relative_error(ours.decode(given), reference.decode(given)) <= 5e-5
    assert [row["engine"] for row in ours.synthesize(given).stages] == ["openvino", "openvino", "torch"]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_pieces_are_exact(size: int, ours: tts_infer.Vocoder, mel: Tensor) -> None:
    pieces = torch.cat(list(ours.stream().decode(mel[..., :150].split(size, dim=2))), dim=1)
    assert relative_error(pieces, ours.decode(mel[..., :150])) <= 1e-4  # as above, of a few frames


def test_ragged_batches_are_exact(ours: tts_infer.Vocoder, mel: Tensor) -> None:
    lengths = (150, 3, 71)
    for got, n in zip(ours.decode([mel[0, :, :n] for n in lengths]), lengths, strict=True):
        assert relative_error(got, ours.decode(mel[..., :n])[0]) <= 1e-4  # as above


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-5), ("bfloat16", 2e-2)])  # sums in another order; 8 bits
@pytest.mark.parametrize("stage", ["backbone", "head"])
def test_it_passes_the_self_test(stage: str, dtype: DTypeName, most: float) -> None:
    (one,) = [found for found in usual_stages() if found.name == stage]
    trial = StageTrial(one, CPU, "openvino", "", dtype)
    for check in (trial.check(), trial.on("few").check()):
        assert check.passed and check.error < most
        # it really computes in that precision, where the processor can
        assert dtype == "float32" or dtype_refusal(CPU, "bfloat16") or check.error > 1e-5


def test_what_it_does_not_run() -> None:
    engine = ENGINES["openvino"]
    stages = {stage.name: stage for stage in usual_stages()}
    assert engine.unsupported(stages["backbone"], CPU, "bfloat16") is None
    assert engine.unsupported(stages["istft"], CPU, "float32") == "OpenVINO runs networks, and istft is none"
    assert "in float32 and bfloat16, not in float16" in str(engine.unsupported(stages["head"], CPU, "float16"))
    assert "not on cuda:1" in str(engine.unsupported(stages["head"], torch.device("cuda", 1), "float32"))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tts_infer.engines.find_spec", lambda name: None)
    with pytest.raises(tts_infer.PlacementError, match="'openvino', but openvino is not installed; use 'torch'"):
        tts_infer.make_placement("head=cpu/openvino")


def test_a_worker_has_one_thread(ours: tts_infer.Vocoder, mel: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """And as many workers as torch has threads compute side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fresh = tts_infer.load_vocoder(device="cpu", placement=BY_OPENVINO, refine=0)
        monkeypatch.setattr(workers._others, "are_busy", lambda: True)
        audio = fresh.decode(mel)
    finally:
        torch.set_num_threads(before)
    assert relative_error(audio, ours.decode(mel)) <= 5e-5  # as above
    (session,) = [s.module.session("whole") for s in fresh._pipeline.stages if s.name == "backbone"]
    for (_, threads), compiled in session._compiled.items():
        said: Any = compiled.model.get_property
        assert (said("INFERENCE_NUM_THREADS"), said("NUM_STREAMS")) == ((2, 1) if threads == 2 else (2, 2))
    assert {threads for _, threads in session._compiled} == {1, 2}


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_computes(threads: int, ours: tts_infer.Vocoder, mel: Tensor) -> None:
    want = ours.decode(mel[..., :94])
    context = multiprocessing.get_context("fork")
    ours_end, its_end = context.Pipe()

    def child() -> None:
        torch.set_num_threads(threads)
        its_end.send(relative_error(ours.decode(mel[..., :94]), want))

    process = context.Process(target=child)
    process.start()
    try:
        assert ours_end.poll(60), "the child waits without end"
        assert ours_end.recv() <= 5e-5  # as above
    finally:
        process.kill()
        process.join()
