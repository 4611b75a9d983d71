"""The parity suite on a real GPU: run wherever there is one."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

import tts_infer
from tts_infer.config import DTypeName
from tts_infer.devices import dtype_refusal
from tts_infer.engines.cuda_graphs import unsupported_reason
from tts_infer.runtime.selftest import StageTrial
from tts_infer.stages import Stage
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import usual_stages

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
GPU = torch.device("cuda", 0)
EVERY = [
    pytest.param(stage, engine, method, id=f"{stage.name}-{engine}-{method}")
    for stage in usual_stages()
    for engine in ("torch", "cuda_graphs")
    for method in stage.methods or ("",)
]
PLACEMENTS = {
    "accelerator": {},
    "istft-on-cpu": {"istft": "cpu"},
    "spectral-on-cpu": {"mel": "cpu", "istft": "cpu"},
    "backbone-only": {"mel": "cpu", "head": "cpu", "istft": "cpu"},
}


@pytest.fixture
def mel(vocoder: Vocoder, speech: Tensor) -> Tensor:
    return vocoder.mel(speech)


def error_db(vocoder: Vocoder, got: Tensor, want: Tensor) -> float:
    return tts_infer.log_mel_error_db(vocoder.mel(want), vocoder.mel(got.cpu()), vocoder.mel_config)


@pytest.mark.parametrize(("stage", "engine", "method"), EVERY)
def test_every_stage_is_right(stage: Stage, engine: str, method: str) -> None:
    check = StageTrial(stage, GPU, engine, method, home=GPU).check()
    print(f"{check}; {check.ms:.2f} ms")  # pytest -rP shows the figures
    assert check.passed, str(check)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_right(dtype: DTypeName, vocoder: Vocoder, mel: Tensor) -> None:
    if dtype_refusal(GPU, dtype):
        pytest.skip(str(dtype_refusal(GPU, dtype)))
    for stage in usual_stages():
        method = stage.methods[-1] if stage.methods else ""
        check = StageTrial(stage, GPU, "torch", method, dtype, GPU).check()
        assert check.passed, str(check)
    half = tts_infer.load_vocoder(device="cuda", dtype=dtype, refine=0).decode(mel)
    assert error_db(vocoder, half, vocoder.decode(mel)) < 1.0  # the copy itself is several dB from its original


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_decoding_equals_the_cpu(placement: dict[str, str], vocoder: Vocoder, mel: Tensor) -> None:
    there = tts_infer.load_vocoder(device="cuda", placement=placement, refine=0)
    with torch.backends.cudnn.flags(allow_tf32=False):
        result = there.synthesize(mel)
    want = vocoder.decode(mel)
    # float32 sums in another order, which a phase of many turns magnifies
    torch.testing.assert_close(result.audio.cpu(), want, rtol=0, atol=1e-3 * float(want.abs().max()))
    places = ["cpu", *(str(there.placement[name].device) for name in ("backbone", "head", "istft"))]
    borders = [f"{a}->{b}" for a, b in zip(places, places[1:], strict=False) if a != b]  # noqa: RUF007
    assert [row["device"] for row in result.stages if row["stage"] == "transfer"] == borders
    assert error_db(vocoder, there.decode(mel), want) < 0.1  # with TF32, cuDNN's default


def test_auto_uses_the_gpu_where_it_is_right() -> None:
    placement = tts_infer.Placement.auto()
    assert placement["backbone"].device == GPU and placement["backbone"].check.passed  # type: ignore[union-attr]


def test_threads_share_the_gpu(vocoder: Vocoder, mel: Tensor) -> None:
    there = tts_infer.load_vocoder(device="cuda", refine=0)
    alone = there.decode(mel)
    with ThreadPoolExecutor(8) as pool:
        for audio in pool.map(lambda _: there.decode(mel), range(16)):
            torch.testing.assert_close(audio, alone, rtol=0, atol=1e-4 * float(alone.abs().max()))


@pytest.mark.parametrize("refine", [0, 2])
def test_graphs_are_replayed_and_right(refine: int, vocoder: Vocoder, mel: Tensor) -> None:
    assert unsupported_reason(GPU) is None
    there, plain = (tts_infer.load_vocoder(device="cuda", placement=p, refine=refine) for p in ("graphs", None))
    pieces = [mel[..., start : start + 90].to(GPU) for start in range(0, 225, 45)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no more graphs")
        audio = [there.decode(piece) for piece in pieces]
    for got, piece in zip(audio, pieces, strict=True):
        # other lengths run by other kernels, which sum in another order, and convolve by TF32
        assert error_db(vocoder, got, plain.decode(piece).cpu()) < 0.1
    started = [host_calls(v, pieces[0]) for v in (there, plain)]
    print(f"host calls of a decode: {started[0]} replayed, {started[1]} as it is")  # pytest -rP shows them
    assert started[0] < started[1] / 2


def host_calls(vocoder: Vocoder, mel: Tensor) -> int:
    """How often the host starts something on the GPU in one decode: kernels, graphs, copies, fills."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        vocoder.decode(mel)
        torch.cuda.synchronize()
    kinds = ("Launch", "Memcpy", "Memset")
    events = profile.key_averages()
    return sum(e.count for e in events if e.key.startswith("cu") and any(kind in e.key for kind in kinds))


def test_streams_share_the_graphs(mel: Tensor) -> None:
    there = tts_infer.load_vocoder(device="cuda", placement="graphs", refine=0)
    pieces = [mel[..., start : start + 60].to(GPU) for start in range(0, 240, 30)]
    alone = [there.decode(piece) for piece in pieces]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in pieces]
    together = []
    for _ in range(5):
        for piece, stream in zip(pieces, streams, strict=True):
            with torch.cuda.stream(stream):
                together.append(there.decode(piece))
    torch.cuda.synchronize()
    for got, want in zip(together, 5 * alone, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-4 * float(want.abs().max()))


def test_threads_share_the_graphs(mel: Tensor) -> None:
    there = tts_infer.load_vocoder(device="cuda", placement="graphs", refine=0)
    pieces = [mel[..., start : start + 60] for start in range(0, 240, 30)]
    alone = [there.decode(piece) for piece in pieces]
    with ThreadPoolExecutor(8) as pool:
        for got, want in zip(pool.map(there.decode, 4 * pieces), 4 * alone, strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=1e-4 * float(want.abs().max()))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs")
@pytest.mark.parametrize("method", ["graph", "torch"])
def test_the_second_gpu(method: str, vocoder: Vocoder, mel: Tensor) -> None:
    placement = {"backbone": f"cuda:1/{method}", "head": f"cuda:1/{method}"}
    there = tts_infer.load_vocoder(device="cuda:1", placement=placement, refine=0)
    for _ in range(3):
        result = there.synthesize(mel[..., :90])
    assert str(result.audio.device) == "cuda:1"
    assert error_db(vocoder, result.audio, vocoder.decode(mel[..., :90])) < 0.1
