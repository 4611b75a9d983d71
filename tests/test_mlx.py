"""MLX as an engine, on a CPU: equal to torch in every length, piece, batch and thread; and what it refuses."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tts_infer
from tests.helpers import small_vocoder
from tts_infer.devices import CPU
from tts_infer.diagnose.doctor import _trials
from tts_infer.engines import ENGINES
from tts_infer.runtime.selftest import StageTrial
from tts_infer.stages import relative_error
from tts_infer.vocoders import family_of, usual_stages
from tts_infer.vocoders.convnext import BackboneConfig, VocosBackbone
from tts_infer.vocoders.heads import CosHeadConfig, IMDCTCosHead, IMDCTSymExpHead, SymExpHeadConfig, _head_stage
from tts_infer.vocoders.resnet import ResNetConfig, VocosResNetBackbone
from tts_infer.vocoders.vocos import backbone_stage

pytest.importorskip("mlx.core", reason="MLX is not installed: pip install 'tts-infer[mlx]'")
BY_MLX = {"backbone": "cpu/mlx", "head": "cpu/mlx"}
BY_TORCH = {"backbone": "cpu/torch", "head": "cpu/torch"}


def placed(places: dict[str, str]) -> tts_infer.Vocoder:
    """The small vocoder: on Linux, MLX takes a second for a second of a usual one."""
    model = small_vocoder().model
    return tts_infer.Vocoder(model, tts_infer.make_placement(places, "cpu", stages=family_of(model).stages(model)), "s")


@pytest.fixture(scope="module")
def ours() -> tts_infer.Vocoder:
    return placed(BY_MLX)


@pytest.fixture(scope="module")
def reference() -> tts_infer.Vocoder:
    return placed(BY_TORCH)


@pytest.fixture(scope="module")
def mel() -> Tensor:
    return torch.randn(1, 40, 938, generator=torch.Generator().manual_seed(1)) - 4


@pytest.mark.parametrize("frames", [1, 2, 3, 10, 94, 938])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_length_and_batch(
    frames: int, batch: int, ours: tts_infer.Vocoder, reference: tts_infer.Vocoder, mel: Tensor
) -> None:
    given = torch.cat([mel[..., i : i + frames] for i in range(batch)]) if frames < 900 else mel.repeat(batch, 1, 1)
    made, expected = ours.synthesize(given), reference.decode(given)
    assert made.audio.shape == expected.shape == (batch, 128 * (frames - 1))
    assert not expected.numel() or relative_error(made.audio, expected) <= 1e-5  # float32 sums in another order
    assert [row["engine"] for row in made.stages] == ["mlx", "mlx", "torch"]


@pytest.mark.slow
def test_a_trained_vocoder(speech: Tensor) -> None:
    ours, reference = (
        tts_infer.load_vocoder(device="cpu", placement=places, refine=0) for places in (BY_MLX, BY_TORCH)
    )
    mel = reference.mel(speech)[..., 40:64]
    # the reference BLAS of the Linux wheel sums one term after the other, and the trained network magnifies rounding
    assert relative_error(ours.decode(mel), reference.decode(mel)) <= 2e-4


@pytest.mark.parametrize("size", [1, 7, 64])
def test_pieces_are_exact(size: int, ours: tts_infer.Vocoder, mel: Tensor) -> None:
    pieces = torch.cat(list(ours.stream().decode(mel[..., :150].split(size, dim=2))), dim=1)
    assert relative_error(pieces, ours.decode(mel[..., :150])) <= 1e-5  # as above


def test_ragged_batches_are_exact(ours: tts_infer.Vocoder, mel: Tensor) -> None:
    lengths = (150, 3, 71)
    for got, n in zip(ours.decode([mel[0, :, :n] for n in lengths]), lengths, strict=True):
        assert relative_error(got, ours.decode(mel[..., :n])[0]) <= 1e-5  # as above


def stages() -> Iterator[Any]:
    """Every stage that has a form: the usual ones, a backbone with several norms, and the heads of MDCTs."""
    yield from (stage for stage in usual_stages() if stage.name in ("backbone", "head"))
    yield backbone_stage(VocosBackbone(BackboneConfig(20, 16, 48, 2, adanorm_num_embeddings=4)), "mel", 4)
    yield backbone_stage(VocosBackbone(BackboneConfig(20, 16, 48, 2, input_kernel_size=3, dw_kernel_size=5)), "mel")
    for head in (IMDCTCosHead(CosHeadConfig(16, 64)), IMDCTSymExpHead(SymExpHeadConfig(16, 64))):
        yield _head_stage(head, head.out, ("coefficients",))


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.slow), *range(1, 6)])
def test_it_passes_the_self_test(number: int) -> None:
    trial = StageTrial(list(stages())[number], CPU, "mlx")
    for check in (trial.check(), trial.on("few").check()):
        assert check.passed and check.error < 1e-5, check  # float32 sums in another order


@pytest.mark.parametrize("number", [2, 3])
def test_pieces_of_other_backbones(number: int) -> None:
    """With several norms, and with other kernels."""
    stage = list(stages())[number]
    (features, *numbers), made = stage.probe(), []
    ours, state = ENGINES["mlx"].prepare(stage, CPU, "float32"), stage.initial_state(len(features))
    with torch.inference_mode():
        (whole,), _ = stage((features, *numbers))
        for start in range(0, features.shape[2], 5):
            final = start + 5 >= features.shape[2]
            (piece,), state = ours((features[..., start : start + 5], *numbers), state, final=final)
            made.append(piece)
    assert relative_error(torch.cat(made, dim=1), whole) <= 1e-5  # as above


def test_threads_compute_side_by_side(ours: tts_infer.Vocoder, mel: Tensor) -> None:
    """Each with signals of its own, and in threads that did not load the vocoder."""
    given = [mel[..., 5 * i : 5 * i + 40 + i] for i in range(12)]
    alone = [ours.decode(one) for one in given]
    barrier = threading.Barrier(4)

    def run(i: int) -> Tensor:
        if i < 4:
            barrier.wait(30)
        return ours.decode(given[i])

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(len(given))))
    assert all(torch.equal(got, want) for got, want in zip(together, alone, strict=True))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list threads")
def test_threads_leave_no_threads_behind(ours: tts_infer.Vocoder, mel: Tensor) -> None:
    """As in servers with a thread for each call. MLX gives every thread another one, which stays."""
    (backbone,) = [stage for stage in ours.stages if stage.name == "backbone"]

    def run_and_count() -> int:
        thread = threading.Thread(target=backbone, args=((mel[..., :5],),))
        thread.start()
        thread.join()
        return len(list(Path("/proc/self/task").iterdir()))

    counts = [run_and_count() for _ in range(20)]
    assert counts[-1] - counts[4] < 5


def test_results_are_tensors_of_their_own(ours: tts_infer.Vocoder, mel: Tensor) -> None:
    """A later call, or a change of the input, does not change them."""
    (backbone,) = [stage for stage in ours.stages if stage.name == "backbone"]
    given = mel[..., :20].clone()
    (first,), _ = backbone((given,))
    kept = first.clone()
    given.zero_()
    (second,), _ = backbone((given,))
    first.add_(1)
    assert torch.equal(first - 1, (kept + 1) - 1) and not torch.equal(second, kept)
    assert torch.equal(backbone((mel[..., :20].mT.contiguous().mT,))[0][0], kept)  # whatever lies where in memory


def test_a_copy_computes(ours: tts_infer.Vocoder, mel: Tensor) -> None:
    copy = pickle.loads(pickle.dumps(ours))
    assert torch.equal(copy.decode(mel[..., :10]), ours.decode(mel[..., :10]))


def in_a_fork(run: Callable[[], Any]) -> Any:
    """What a function gives in a forked child, or the text of its error."""
    context = multiprocessing.get_context("fork")
    ours_end, its_end = context.Pipe()

    def child() -> None:
        try:
            its_end.send(run())
        except tts_infer.PlacementError as error:
            its_end.send(str(error))

    process = context.Process(target=child)
    process.start()
    try:
        assert ours_end.poll(60), "the child waits without end"
        return ours_end.recv()
    finally:
        process.kill()
        process.join()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_forked_child_computes_but_not_on_a_gpu(
    ours: tts_infer.Vocoder, mel: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = ours.decode(mel[..., :94])
    assert in_a_fork(lambda: relative_error(ours.decode(mel[..., :94]), want)) == 0
    monkeypatch.setattr("tts_infer.engines.mlx._has_gpu", lambda: True)
    assert "MLX cannot use the GPU in a forked child" in in_a_fork(lambda: ours.decode(mel[..., :94]).shape)


def test_doctor_examines_it_on_gpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU of Linux it would take minutes."""
    engine = ENGINES["mlx"]
    assert engine.examined == (sys.platform == "darwin")
    trials = {trial.engine for trial in _trials(usual_stages())}
    assert "torch" in trials and ("mlx" in trials) == engine.examined
    monkeypatch.setattr("tts_infer.engines.mlx._has_gpu", lambda: True)
    assert "mlx" in {trial.engine for trial in _trials(usual_stages())}


def test_what_it_does_not_run() -> None:
    engine = ENGINES["mlx"]
    known = {stage.name: stage for stage in usual_stages()}
    assert engine.unsupported(known["backbone"], CPU, "float32") is None
    assert engine.unsupported(known["istft"], CPU, "float32") == "MLX has no form of ISTFT"
    assert engine.unsupported(known["head"], CPU, "bfloat16") == "MLX computes in float32, not in bfloat16"
    assert "memory of the CPU, not of mps" in str(engine.unsupported(known["head"], torch.device("mps"), "float32"))
    other = backbone_stage(VocosResNetBackbone(ResNetConfig(20, 16, 1)), "mel")
    assert engine.unsupported(other, CPU, "float32") == "MLX has no form of VocosResNetBackbone"
    strange = VocosBackbone(BackboneConfig(20, 16, 48, 1))
    strange.convnext[0].act = nn.SiLU()
    assert engine.unsupported(backbone_stage(strange, "mel"), CPU, "float32") == "MLX has no form of SiLU"
    with pytest.raises(tts_infer.PlacementError, match="but MLX has no form of ISTFT; use 'torch'"):
        tts_infer.make_placement("istft=cpu/mlx", "cpu", check=False)


def test_it_is_never_chosen_unasked() -> None:
    assert not ENGINES["mlx"].automatic
    assert "mlx" not in str(tts_infer.make_placement(device="cpu"))


def test_a_wrong_result_is_refused(reference: tts_infer.Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a device might compute it on which nobody has run this engine."""
    from tts_infer.engines import mlx_forms

    right = mlx_forms.FORMS[nn.GELU]
    monkeypatch.setitem(mlx_forms.FORMS, nn.GELU, lambda module: lambda x: 1.1 * right(module)(x))
    with pytest.raises(tts_infer.PlacementError, match="MLX computes 'backbone' wrongly here, by .* use 'torch'"):
        placed(BY_MLX)
    stage = next(stage for stage in family_of(reference.model).stages(reference.model) if stage.name == "backbone")
    assert "wrongly here" in StageTrial(stage, CPU, "mlx").check().failure


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tts_infer.engines.find_spec", lambda name: None)
        with pytest.raises(tts_infer.PlacementError, match="'mlx', but mlx is not installed; use 'torch'"):
            tts_infer.make_placement("head=cpu/mlx")
    monkeypatch.delitem(sys.modules, "tts_infer.engines.mlx_forms")
    monkeypatch.setitem(sys.modules, "mlx.core", None)  # as on Linux without its library
    with pytest.raises(tts_infer.PlacementError, match=r"but MLX does not load: .*pip install 'tts-infer\[mlx\]'; use"):
        tts_infer.make_placement("head=cpu/mlx")
