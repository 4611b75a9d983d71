"""The real code, unchanged, on an emulated Apple GPU of every torch release; and proof that the emulation bites."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tts_infer
from tests.emulated_device import emulated
from tts_infer.devices import device_lock
from tts_infer.diagnose.audit import shipped_tables
from tts_infer.dsp.dft import dft_basis
from tts_infer.dsp.istft import ISTFT
from tts_infer.runtime import workers
from tts_infer.runtime.placement import make_placement
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders.checkpoint import load_model, resolve
from tts_infer.vocoders.reference import OfficialVocos
from tts_infer.vocoders.vocos import BackboneConfig, HeadConfig, VocoderConfig, Vocos

RELEASES = list(shipped_tables())
FRAMES = 21
STAGES_ON = {
    "all": {},
    "istft-on-cpu": {"istft": "cpu"},
    "spectral-on-cpu": {"mel": "cpu", "istft": "cpu"},
    "head-on-cpu": {"head": "cpu"},
}


@pytest.fixture(scope="module")
def mel() -> Tensor:
    """Shape: (2, 100, 21)"""
    return torch.randn(2, 100, FRAMES, generator=torch.Generator().manual_seed(0)) - 4


@pytest.fixture(scope="module")
def same_methods() -> Vocoder:
    """The CPU by the methods of an accelerator: logarithm and phase magnify what another order of sums rounds."""
    return tts_infer.load_vocoder(
        placement="mel=cpu/matmul,backbone=cpu/torch,head=cpu/torch,istft=cpu/matmul", refine=0
    )


def assert_equal(got: Tensor, want: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to 1e-5 of the peak: float32 sums in another order."""
    torch.testing.assert_close(got.cpu(), want, rtol=0, atol=tolerance * float(want.abs().max()))


@pytest.mark.parametrize("release", RELEASES)
def test_everything_equals_the_cpu(release: str, same_methods: Vocoder, mel: Tensor, speech: Tensor) -> None:
    with emulated(release) as device:
        there = tts_infer.load_vocoder(device="emu", refine=0, check=False)
        assert {str(there.placement[stage].device) for stage in there.placement} == {"emu:0"}
        audio = there.decode(mel)
        assert device.waits == 0  # nothing made the host wait
        assert str(audio.device) == "emu:0"
        assert_equal(audio, same_methods.decode(mel))
        assert_equal(there.synthesize(mel).audio, same_methods.decode(mel))
        clip = speech[:, :9000]
        assert_equal(there.mel(clip), same_methods.mel(clip))
        assert_equal(there(clip), same_methods(clip))
        assert_equal(there.decode(mel.to("emu")), same_methods.decode(mel))
        refined = there.synthesize(mel, refine=2)
        assert_equal(refined.audio, same_methods.decode(mel, refine=2))
        assert [record["device"] for record in refined.stages if record["stage"] == "refine"] == ["emu:0"]


@pytest.mark.parametrize("release", RELEASES)
def test_chosen_placement_equals_the_cpu(release: str, vocoder: Vocoder, mel: Tensor) -> None:
    """As users load it: proved first, methods chosen by speed."""
    tts_infer.clear_checks()
    with emulated(release):
        assert_equal(tts_infer.load_vocoder(device="emu", refine=0).decode(mel), vocoder.decode(mel))


@pytest.mark.parametrize("stages", STAGES_ON.values(), ids=STAGES_ON)
def test_every_transfer_is_reported(stages: dict[str, str], vocoder: Vocoder, mel: Tensor) -> None:
    """Features in and one crossing per stage border that changes device: what was counted is what the report says."""
    with emulated() as device:
        there = tts_infer.load_vocoder(device="emu", placement=stages, refine=0, check=False)
        device.transfers.clear()
        result = there.synthesize(mel)
        moved = [row for row in result.stages if row["stage"] == "transfer"]
        places = [torch.device("cpu"), *(there.placement[s].device for s in ("backbone", "head", "istft"))]
        borders = [f"{a}->{b}" for a, b in pairwise(places) if a != b]
        assert [row["device"] for row in moved] == borders
        spectrum = [row["bytes"] for row in moved if row["bytes"] == 2 * 513 * FRAMES * 2 * 4]
        copies = len(moved) + len(spectrum)  # real and imaginary part cross together, as two copies
        assert (len(device.transfers), sum(device.transfers)) == (copies, sum(row["bytes"] for row in moved))
        assert_equal(result.audio, vocoder.decode(mel))


def test_audio_out_is_one_more_transfer(mel: Tensor) -> None:
    with emulated() as device:
        there = tts_infer.load_vocoder(device="emu", refine=0, check=False)
        device.transfers.clear()
        audio = there.decode(mel).cpu()
        assert device.transfers == [mel.numel() * 4, audio.numel() * 4]


def test_eight_threads_never_meet_on_the_device(vocoder: Vocoder, mel: Tensor) -> None:
    with emulated(linger_s=2e-4), ThreadPoolExecutor(8) as pool:
        there = tts_infer.load_vocoder(device="emu", placement={"head": "cpu"}, refine=0, check=False)
        started = threading.Barrier(8)

        def work(i: int) -> Tensor:
            started.wait()
            audio = there.synthesize(mel).audio if i % 2 else there.decode(mel)
            with device_lock(audio.device):
                return audio.cpu()

        for audio in pool.map(work, range(8)):
            assert_equal(audio, vocoder.decode(mel))


def test_two_threads_without_the_lock_are_caught() -> None:
    with emulated() as device, ThreadPoolExecutor(2) as pool:
        x = torch.ones(3).to("emu")
        device.linger_s = 0.05
        started = threading.Barrier(2)

        def work(_: int) -> str:
            started.wait()
            try:
                return str((x + 1).device)
            except RuntimeError as error:
                return str(error)

        assert any("two threads" in outcome for outcome in pool.map(work, range(2)))


def test_memory_is_given_back_after_long_work() -> None:
    config = VocoderConfig(
        backbone=BackboneConfig(dim=8, intermediate_dim=8, num_layers=1), head=HeadConfig(dim=8, padding="center")
    )
    with emulated() as device:
        there = Vocoder(Vocos(config).eval(), make_placement(device="emu", check=False), "small")
        there.decode(torch.zeros(1, 100, 94))  # a second
        assert device.emptied == 0
        there.decode(torch.zeros(2, 100, 3000))  # more than a minute, over the batch
        assert device.emptied == 1


def fold_overlap_add(device: str) -> Tensor:
    frames = torch.ones(1, 16, 5, device=device)
    return F.fold(frames, (1, 32), (1, 16), stride=(1, 4))


def float64_basis(device: str) -> Tensor:
    return torch.from_numpy(dft_basis(16)[0]).to(device)


def istft_without_to(device: str) -> Tensor:
    """A stage whose constants were left on the CPU."""
    istft = ISTFT(16, 4)
    audio: Tensor = istft(*torch.ones(2, 1, 9, 6).to(device).unbind())
    return audio


MISTAKES: dict[str, tuple[str, Callable[[str], Tensor], type[Exception], str]] = {
    "fold": ("2.6.0", fold_overlap_add, NotImplementedError, "The operator 'aten::col2im' is not currently"),
    "angle": ("2.4.1", lambda d: torch.ones(3).to(d).angle(), NotImplementedError, "'aten::angle' is not currently"),
    "float64 basis": ("2.15.0", float64_basis, TypeError, "doesn't support float64"),
    "float64": ("2.15.0", lambda d: torch.ones(3).to(d).double(), TypeError, "doesn't support float64"),
    "mixed add": ("2.15.0", lambda d: torch.ones(3).to(d) + torch.ones(3), RuntimeError, "same device"),
    "no .to()": ("2.15.0", istft_without_to, RuntimeError, "same device"),
    "numpy": ("2.15.0", lambda d: torch.from_numpy(torch.ones(3).to(d).numpy()), RuntimeError, "numpy"),
}


@pytest.mark.parametrize(("release", "mistake", "kind", "text"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_caught(release: str, mistake: Callable[[str], Tensor], kind: type[Exception], text: str) -> None:
    assert torch.isfinite(mistake("cpu")).all()  # the CPU forgives it
    with emulated(release), torch.inference_mode(), pytest.raises(kind, match=text):
        mistake("emu")


def test_official_vocos_fails_on_2_4_1_as_users_saw_it(mel: Tensor) -> None:
    official = OfficialVocos(load_model(resolve(tts_infer.DEFAULT_VOCODER)).config).eval()
    text = "The operator 'aten::unfold_backward' is not currently implemented for the MPS device"
    with emulated("2.4.1"), torch.inference_mode():
        there = official.to("emu")
        with pytest.raises(NotImplementedError, match=text):
            there(mel.to("emu"))


@pytest.mark.parametrize("release", [RELEASES[0], RELEASES[-1]])
@pytest.mark.parametrize("stages", STAGES_ON.values(), ids=STAGES_ON)
def test_long_ragged_and_streamed_equal_the_cpu(
    release: str, stages: dict[str, str], vocoder: Vocoder, mel: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tts_infer.runtime.pipeline.Pipeline.max_frames", 16)
    lengths = [9, FRAMES]
    with emulated(release) as device:
        there = tts_infer.load_vocoder(device="emu", placement=stages, refine=0, check=False)
        assert_equal(there.decode(mel), vocoder.decode(mel))
        for passes, tolerance in ((0, 1e-5), (2, 4e-5)):  # passes correct by ratios, which magnify what sums round
            audio = [piece.cpu() for piece in there.stream(refine=passes).decode(mel.split(4, dim=2))]
            assert_equal(torch.cat(audio, dim=1), vocoder.decode(mel, refine=passes), tolerance)
            for got, want in zip(
                there.decode(mel, lengths, refine=passes), vocoder.decode(mel, lengths, refine=passes), strict=True
            ):
                assert_equal(got, want, tolerance)
        assert device.waits == 0


def test_first_pushes_without_a_frame_by_fft(vocoder: Vocoder, mel: Tensor) -> None:
    """An FFT of no frames is an error, and the first pushes give none."""
    with emulated():
        stream = tts_infer.load_vocoder(device="emu", istft="fft", refine=0, check=False).stream()
        assert stream.push(mel[..., :4]).shape == (2, 0)
        assert_equal(torch.cat([stream.push(mel[..., 4:]), stream.flush()], dim=1), vocoder.decode(mel))


@pytest.mark.parametrize("busy", [False, True])
def test_audio_is_where_the_last_stage_is(busy: bool, mel: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when workers share a mel that comes from an accelerator."""
    monkeypatch.setattr(workers._others, "are_busy", lambda: busy)
    monkeypatch.setattr(workers, "count", lambda: 2)
    long = mel.repeat(1, 1, 20)
    vocoder = tts_infer.load_vocoder(device="cpu", refine=0)
    want = vocoder.decode(long)
    with emulated():
        made = vocoder.synthesize(long.to("emu"))
        assert made.audio.device.type == "cpu"
        assert_equal(made.audio, want)
        assert sum(row["stage"] == "transfer" for row in made.stages) == 1


def test_pieces_of_a_stream_may_change_their_device(vocoder: Vocoder, mel: Tensor) -> None:
    with emulated():
        stream = vocoder.stream(timed=True)
        pieces = [stream.push(mel[..., :7]), stream.push(mel[..., 7:14].to("emu")), stream.push(mel[..., 14:])]
        assert_equal(torch.cat([*pieces, stream.flush()], dim=1), vocoder.decode(mel))
        assert {row["device"] for row in stream.stages} == {"cpu", "emu:0->cpu"}


def test_threads_never_meet_whatever_they_decode(
    vocoder: Vocoder, mel: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long, ragged, streamed and copied, from the CPU and from the device, all at once."""
    monkeypatch.setattr("tts_infer.runtime.pipeline.Pipeline.max_frames", 100)
    long = mel.repeat(1, 1, 3)
    with emulated(linger_s=1e-4), ThreadPoolExecutor(8) as pool:
        there = tts_infer.load_vocoder(device="emu", refine=0, check=False)
        on_device = mel.to("emu")
        started = threading.Barrier(8)
        calls: list[Callable[[Vocoder, Tensor], object]] = [
            lambda v, m: v.decode(long),
            lambda v, m: v.decode(m, [9, FRAMES]),
            lambda v, m: list(v.stream().decode([m, m])),
            lambda v, m: v.synthesize(m),
            lambda v, m: v(torch.ones(2000)),
            lambda v, m: v.decode(m),
            lambda v, m: v.decode([m[0], m[1]]),
            lambda v, m: v.mel(torch.ones(2000)),
        ]

        def work(call: Callable[[Vocoder, Tensor], object]) -> bool:
            started.wait()
            call(there, on_device)
            return True

        assert all(pool.map(work, calls))
