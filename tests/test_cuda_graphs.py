"""Graphs of short inputs, on the emulated device, which runs them as a GPU would; `test_gpu.py` has a real one."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

import tts_infer
from tests.emulated_device import EmulatedDevice, Graph, Stream, emulated
from tts_infer.engines import cuda_graphs as graphs
from tts_infer.engines.cuda_graphs import LONGEST, Replayed, padded_length, unsupported_reason
from tts_infer.runtime.selftest import StageTrial
from tts_infer.stages import Stage
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import family_of, usual_stages

EMU = torch.device("emu", 0)


@pytest.fixture
def device() -> Iterator[EmulatedDevice]:
    with emulated(graphs=True) as device:
        yield device


@pytest.fixture(scope="module")
def same_methods() -> Vocoder:
    """The CPU by the methods of an accelerator."""
    return tts_infer.load_vocoder(
        placement="mel=cpu/matmul,backbone=cpu/torch,head=cpu/torch,istft=cpu/matmul", refine=0
    )


def there(**placement: str) -> Vocoder:
    placement = dict.fromkeys(("backbone", "head", "istft"), "emu/cuda_graphs") | placement
    return tts_infer.load_vocoder(device="emu", placement=placement, refine=0, check=False)


def stage(name: str) -> Stage:
    return next(stage for stage in usual_stages() if stage.name == name)


def mels(batch: int, frames: int, count: int) -> Iterator[Tensor]:
    """Shape: (B, 100, L) each"""
    generator = torch.Generator().manual_seed(frames)
    for _ in range(count):
        yield torch.randn(batch, 100, frames, generator=generator) - 4


def assert_equal(got: Tensor, want: Tensor) -> None:
    """Equal to 1e-5 of the peak: float32 sums of other lengths may be taken in another order."""
    torch.testing.assert_close(got.cpu(), want, rtol=0, atol=1e-5 * float(want.abs().max()))


def test_lengths_are_few_and_little_is_padding() -> None:
    padded = {n: padded_length(n) for n in range(1, LONGEST + 1)}
    assert sorted(set(padded.values())) == [12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
    assert all(n <= length and (n < 13 or 3 * (length - n) < length) for n, length in padded.items())


@pytest.mark.parametrize("refine", [0, 2])
@pytest.mark.parametrize(("batch", "frames"), [(1, 2), (1, 96), (3, 21)])
def test_replays_equal_the_cpu(
    device: EmulatedDevice, same_methods: Vocoder, batch: int, frames: int, refine: int
) -> None:
    vocoder, launched = there(), []
    audio, expected = [], []
    for mel in mels(batch, frames, 4):
        before = device.launched
        audio.append(vocoder.decode(mel, refine=refine))
        launched.append(device.launched - before)
        expected.append(same_methods.decode(mel, refine=refine))
    assert launched[2] == launched[3] < launched[0] / 5  # as they are; recorded; replayed
    for got, want in zip(audio, expected, strict=True):  # only now, in case a replay wrote to an earlier result
        assert_equal(got, want)


def test_a_graph_serves_every_length_that_is_padded_to_it(device: EmulatedDevice, same_methods: Vocoder) -> None:
    vocoder, launched = there(), []
    for frames in (65, 96, 80, 66):
        before = device.launched
        for mel in mels(1, frames, 1):
            assert_equal(vocoder.decode(mel), same_methods.decode(mel))
        launched.append(device.launched - before)
    assert max(launched[2:]) < launched[0] / 5


def test_numbers_are_a_part_of_the_graph(device: EmulatedDevice, same_methods: Vocoder) -> None:
    vocoder = there()
    for passes in (1, 2, 1, 2, 1, 2):
        for mel in mels(1, 20, 1):
            assert_equal(vocoder.decode(mel, refine=passes), same_methods.decode(mel, refine=passes))


def test_ragged_batches_are_replayed(device: EmulatedDevice, same_methods: Vocoder) -> None:
    vocoder = there()
    for lengths in ([9, 30], [30, 2], [17, 25], [31, 32]):
        before = device.launched
        for mel in mels(2, 32, 1):
            items = vocoder.decode(mel, lengths, refine=1)
            for got, want in zip(items, same_methods.decode(mel, lengths, refine=1), strict=True):
                assert_equal(got, want)
    assert device.launched - before < 40


@pytest.mark.parametrize("stages", [{"istft"}, {"head"}, {"head", "istft"}])
def test_the_mask_goes_with_the_signal(device: EmulatedDevice, same_methods: Vocoder, stages: set[str]) -> None:
    methods = {"head": "cpu/torch", "istft": "cpu/matmul"}
    vocoder = there(**{stage: methods[stage] for stage in stages})
    for mel in mels(1, 20, 3):
        result = vocoder.synthesize(mel, refine=1)
        assert_equal(result.audio, same_methods.decode(mel, refine=1))
    ways = ["cpu", *(str(vocoder.placement[name].device) for name in ("backbone", "head", "istft"))]
    crossings = sum(a != b for a, b in zip(ways, ways[1:], strict=False))  # noqa: RUF007
    # refinement asks for the mel, which is where the backbone was; it comes with the spectrum if that is there, too
    alone = ways[1] != ways[3] and ways[2] != ways[1]
    assert sum(row["stage"] == "transfer" for row in result.stages) == crossings + alone


def test_only_who_asks_has_graphs(device: EmulatedDevice) -> None:
    plain = tts_infer.load_vocoder(device="emu", check=False, refine=0)
    assert plain.placement["backbone"].engine == "torch"
    for mel in mels(1, 20, 3):
        before = device.launched
        plain.decode(mel)
        assert device.launched - before > 90


def test_what_is_proved_is_the_replay(device: EmulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    check = StageTrial(stage("backbone"), EMU, "cuda_graphs").check()
    assert check.passed and not check.failure
    monkeypatch.setattr(Graph, "replay", lambda graph: None)
    with pytest.warns(UserWarning, match="no more graphs on emu:0, short inputs will be slower: it is wrong by"):
        wrong = StageTrial(stage("head"), EMU, "cuda_graphs").check()
    assert not wrong.passed and wrong.failure.startswith("it is wrong by")


def test_what_is_long_runs_as_it_is(device: EmulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "LONGEST", 64)
    vocoder = there()
    for batch, frames in ((1, 65), (3, 30)):
        for mel in mels(batch, frames, 3):
            before = device.launched
            vocoder.decode(mel)
            assert device.launched - before > 90


def test_only_so_many_shapes_are_recorded(device: EmulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_MOST", 2)
    double = Replayed(lambda x: x + x, EMU, 0.0)
    for _ in range(3):
        for n in (3, 4, 5):
            assert double(torch.ones(n).to(EMU)).cpu().tolist() == [2.0] * n
    assert sum(graph is not None for graph in double._graphs.values()) == 2


def test_threads_share_the_graphs(device: EmulatedDevice, same_methods: Vocoder) -> None:
    vocoder, started = there(), threading.Barrier(8)
    device.linger_s = 1e-4
    inputs = list(mels(1, 20, 24))

    def work(i: int) -> list[Tensor]:
        started.wait()
        audio = [vocoder.decode(mel) for mel in inputs[i::8]]
        with tts_infer.devices.device_lock(EMU):
            return [a.cpu() for a in audio]

    with ThreadPoolExecutor(8) as pool:
        for i, audio in enumerate(pool.map(work, range(8))):
            for got, mel in zip(audio, inputs[i::8], strict=True):
                assert_equal(got, same_methods.decode(mel))


def test_no_replay_overtakes_the_last(device: EmulatedDevice) -> None:
    """They share memory, so none may begin before the results of the one before are copied, whoever asked for it."""
    double, x, other = Replayed(lambda x: x + x, EMU, 0.0), torch.ones(2).to(EMU), Stream()
    for _ in range(2):
        double(x)
    done = double._recorder.done
    for stream in (device.stream, other, device.stream):
        with torch.emu.stream(stream):  # type: ignore[attr-defined]
            waited, told = stream.waited_for.count(done), stream.told.count(done)
            double(x)
            assert (stream.waited_for.count(done), stream.told.count(done)) == (waited + 1, told + 1)
    recording = double._recorder.stream
    waited = recording.waited_for.count(done)
    for _ in range(2):
        double(torch.ones(3).to(EMU))
    assert recording.waited_for.count(done) == waited + 1  # nor does a recording


def waits(x: Tensor) -> Tensor:
    return x + float(x.sum())


def depends_on_the_host(x: Tensor, seen: list[int]) -> Tensor:
    """Multiplies by the number of the call, which a graph cannot know."""
    seen.append(0)
    return x * len(seen)


def test_what_cannot_be_recorded_runs_as_it_is(device: EmulatedDevice) -> None:
    function, x = Replayed(waits, EMU, 1e-6), torch.ones(3).to(EMU)
    around = device.stream
    assert function(x).cpu().tolist() == [4.0] * 3
    with pytest.warns(UserWarning, match="no more graphs on emu:0.*not permitted when stream is capturing$"):
        assert function(x).cpu().tolist() == [4.0] * 3
    assert device.stream is around
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert [function(x).cpu().tolist() for _ in range(3)] == 3 * [[4.0] * 3]
    # on a real device the next recording would fail as well
    other, before = Replayed(lambda x: x + x, EMU, 0.0), device.launched
    assert [other(x).cpu().tolist() for _ in range(3)] == 3 * [[2.0] * 3] and other.refusal
    assert device.launched - before == 6  # an addition and a copy each


def test_a_wrong_recording_is_not_used(device: EmulatedDevice) -> None:
    seen: list[int] = []
    function, x = Replayed(lambda x: depends_on_the_host(x, seen), EMU, 1e-6), torch.ones(2).to(EMU)
    assert function(x).cpu().tolist() == [1.0, 1.0]
    with pytest.warns(UserWarning, match="it is wrong by 1.0e"):
        assert function(x).cpu().tolist() == [2.0, 2.0]
    assert function(x).cpu().tolist() == [len(seen)] * 2


def test_silence_is_no_mistake(device: EmulatedDevice) -> None:
    function, x = Replayed(lambda x: x * 2, EMU, 1e-6), torch.zeros(2).to(EMU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [function(x).cpu().tolist() for _ in range(3)] == 3 * [[0.0, 0.0]]


def test_problems_are_told(device: EmulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unsupported_reason(EMU) is None
    assert unsupported_reason(torch.device("cpu")) == "torch has no graphs for cpu"
    monkeypatch.setattr(Graph, "replay", lambda graph: None)
    unsupported_reason.cache_clear()
    assert "graphs are wrong on emu:0" in str(unsupported_reason(EMU))

    def refuse(graph: Graph) -> None:
        raise RuntimeError("no such thing. And more")

    monkeypatch.setattr(Graph, "replay", refuse)
    unsupported_reason.cache_clear()
    assert unsupported_reason(EMU) == "graphs do not run on emu:0: no such thing"
    with pytest.raises(tts_infer.PlacementError, match="'cuda_graphs', but graphs do not run .*: no such thing; use"):
        there()


def test_weights_stay_where_graphs_read_them(device: EmulatedDevice) -> None:
    """A module that is moved gets new memory. The stage still holds the old memory, which its graphs read."""
    model = tts_infer.load_vocoder(device="cpu").model  # on the CPU, where tensors have addresses
    inner = next(stage for stage in family_of(model).stages(model) if stage.name == "backbone")
    replayed = graphs.ReplayedStage.of(inner, EMU, 1e-3)
    before = {p.data_ptr() for p in model.backbone.parameters()}
    model.backbone.to(torch.float64)
    assert before.isdisjoint(p.data_ptr() for p in model.backbone.parameters())
    assert before <= {tensor.data_ptr() for tensor in replayed.weights}
