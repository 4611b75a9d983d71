"""Stages: pieces join to the whole, states are values, errors are measured."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.refine import Refinement
from tts_infer.stages import Stage, relative_error
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.networks import Contextual
from tts_infer.vocoders.vocos import BackboneConfig, HeadConfig, VocoderConfig, Vocos

SPLITS = ([20], [7, 13], [1] * 20, [0, 3, 0, 17, 0])


def stages() -> list[Stage]:
    """Those of a small Vocos, refined twice; a hop that does not divide n_fft."""
    mel = MelConfig(n_fft=64, hop_length=24, n_mels=8)
    torch.manual_seed(0)
    model = Vocos(VocoderConfig(mel, BackboneConfig(8, 16, 32, 2), HeadConfig(16, 64, 24, "center")), "fft")
    found = FAMILIES["vocos"].stages(model.eval().requires_grad_(False))
    return [stage if stage.passes is None else replace(stage, passes=2) for stage in found]


def whole_input(stage: Stage, frames: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    bins = (33, frames)
    sizes = {"audio": (frames * 24,), "mel": (8, frames), "hidden": (frames, 16), "real": bins, "imag": bins}

    def make(name: str) -> Tensor:
        return torch.randn(2, *sizes[name], generator=generator)

    return tuple(make(name) for name in stage.takes)


def cut(name: str, whole: Tensor, start: int, stop: int) -> Tensor:
    if name == "audio":
        return whole[:, start * 24 : stop * 24]
    return whole[:, start:stop] if name == "hidden" else whole[..., start:stop]


def push(stage: Stage, inputs: tuple[Tensor, ...], split: list[int], between: Any = lambda state: state) -> list[Any]:
    state, start, pieces = stage.initial_state(2), 0, []
    for i, size in enumerate(split):
        part = tuple(cut(name, x, start, start + size) for name, x in zip(stage.takes, inputs, strict=True))
        outputs, state = stage(part, between(state), final=i == len(split) - 1)
        pieces.append(outputs)
        start += size
    return pieces


def joined(stage: Stage, pieces: list[Any]) -> tuple[Tensor, ...]:
    axis = {"mel": 2, "hidden": 1, "real": 2, "imag": 2, "audio": 1}
    return tuple(torch.cat([p[i] for p in pieces], dim=axis[name]) for i, name in enumerate(stage.gives))


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("name", ["mel", "backbone", "head", "refine", "istft"])
def test_pieces_join_to_the_whole(name: str, split: list[int]) -> None:
    (stage,) = [stage for stage in stages() if stage.name == name]
    inputs = whole_input(stage, 20)
    expected, _ = stage(inputs)
    got = joined(stage, push(stage, inputs, split))
    assert relative_error(got, expected) <= 1e-5  # the same sums, in matrices of other sizes


@pytest.mark.parametrize("name", ["backbone", "refine", "istft"])
def test_the_delay_is_what_it_says(name: str) -> None:
    (stage,) = [stage for stage in stages() if stage.name == name]
    (first,) = push(stage, whole_input(stage, 20), [20])[:1]
    early, _ = stage(whole_input(stage, 20), stage.initial_state(2), final=False)
    missing = first[0].numel() - early[0].numel()
    per_frame = first[0].numel() / 20 if name != "istft" else 2 * 24
    assert missing == pytest.approx(stage.delay_frames * per_frame, abs=per_frame)


@pytest.mark.parametrize("name", ["mel", "backbone", "refine", "istft"])
def test_states_are_values(name: str) -> None:
    """A state can be copied, stored and used twice: no call changes it."""
    (stage,) = [stage for stage in stages() if stage.name == name]
    inputs = whole_input(stage, 20)

    def through_bytes(state: Any) -> Any:
        part = tuple(cut(n, x, 0, 3) for n, x in zip(stage.takes, inputs, strict=True))
        stage(part, state, final=False)  # must leave no trace
        return pickle.loads(pickle.dumps(copy.deepcopy(state)))

    plain, stored = push(stage, inputs, [7, 13]), push(stage, inputs, [7, 13], through_bytes)
    for got, want in zip(joined(stage, stored), joined(stage, plain), strict=True):
        assert torch.equal(got, want)


def test_less_lookahead_is_earlier_and_close_to_exact_where_nothing_follows() -> None:
    (stage,) = [stage for stage in stages() if stage.name == "backbone"]
    inputs = whole_input(stage, 20)
    early = stage.with_lookahead(2)
    pieces = push(early, inputs, [5, 5, 10])
    assert [piece[0].shape[1] for piece in pieces] == [3, 5, 12]
    whole = stage(inputs)[0][0]
    exact_from = 20 - 10 - 2  # the last piece sees everything that its frames depend on
    assert relative_error(joined(early, pieces)[0][:, exact_from:], whole[:, exact_from:]) <= 1e-5  # as above


def test_frames_that_a_stream_does_not_wait_for_are_copies_of_the_last_one() -> None:
    (stage,) = [stage for stage in stages() if stage.name == "backbone"]
    features, *others = whole_input(stage, 12)
    held = torch.cat([features, features[..., -1:].expand(-1, -1, 40)], dim=2)
    ((piece,), _) = stage.with_lookahead(2)((features, *others), stage.initial_state(2), final=False)
    assert relative_error(piece, stage((held, *others))[0][0][:, :10]) <= 1e-5  # other frame counts round differently


def test_hops_of_pieces_join_to_the_hops_of_the_whole() -> None:
    istft = ISTFT(64, 24, method="fft")
    real, imag = torch.randn(2, 2, 33, 20, generator=torch.Generator().manual_seed(0))
    state: Any = {}
    pieces = []
    for start in range(0, 21, 3):
        part = slice(start, start + 3)
        hops, state = istft.advance(real[..., part], imag[..., part], state, final=start == 18)
        pieces.append(hops)
    # a frame's first hop is complete with it; the hops that no other frame begins come at the end
    assert [piece.shape[1] for piece in pieces] == [3, 3, 3, 3, 3, 3, 2 + istft.overlap - 1]
    assert torch.equal(torch.cat(pieces, dim=1), istft.hops(real, imag))


def test_marked_frames_can_come_in_pieces_too() -> None:
    """Refinement of several lengths, in pieces of a stream: the window envelope of each item is its own."""
    refinement = Refinement(MelConfig(n_fft=64, hop_length=16, n_mels=8), ISTFT(64, 16, method="fft"))
    real, imag = torch.randn(2, 2, 33, 20, generator=torch.Generator().manual_seed(0))
    mel, valid = torch.zeros(2, 8, 20), torch.ones(2, 20, 1)
    valid[1, 11:] = 0.0
    whole = refinement((real, imag), mel, 2, valid)
    state: Any = {}
    pieces = []
    for start, stop in ((0, 9), (9, 10), (10, 20)):
        part = slice(start, stop)
        spectrum = real[..., part], imag[..., part]
        out, state = refinement.advance(spectrum, mel[..., part], state, 2, valid[:, part], stop == 20)
        pieces.append(out)
    got = tuple(torch.cat([piece[i] for piece in pieces], dim=2) for i in range(2))
    for item, frames in ((0, 20), (1, 11)):
        ours, want = (tuple(x[item, :, :frames] for x in both) for both in (got, whole))
        assert relative_error(ours, want) <= 1e-5  # as above


class _Up(nn.Module):
    """A toy generator: three convolutions of 3, then 4 samples a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.Sequential(*[nn.Conv1d(5, 5, 3, padding=1) for _ in range(3)])
        self.out = nn.Conv1d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.stack(x).tanh()).transpose(1, 2).flatten(1)


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_a_generator_with_context(split: list[int]) -> None:
    torch.manual_seed(0)
    stage = Contextual("generator", _Up().requires_grad_(False), ("mel",), ("audio",), channels=5, hop=4, context=3)
    mel = torch.randn(2, 5, 20)
    (whole,), _ = stage((mel,))
    state, start, pieces = stage.initial_state(2), 0, []
    for i, size in enumerate(split):
        (audio,), state = stage((mel[..., start : start + size],), state, final=i == len(split) - 1)
        pieces.append(audio)
        start += size
    assert relative_error(torch.cat(pieces, dim=1), whole) <= 1e-5  # as above
    valid = torch.ones(2, 20, 1)
    valid[1, 13:] = 0.0
    (ragged,), _ = stage((mel,), valid=valid)
    assert relative_error(ragged[1, :52], stage((mel[1:, :, :13],))[0][0][0]) <= 1e-5  # as above


def test_nan_is_a_mistake_wherever_it_is() -> None:
    one, nan = torch.ones(2), torch.tensor([1.0, torch.nan])
    assert relative_error((one, 2 * one), (one, one)) == 1.0
    assert math.isnan(relative_error((one, nan), (one, one))) and math.isnan(relative_error(nan, one))
    assert relative_error(one, torch.ones(3)) == math.inf
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0.0
    # each by its own peak: 0.5 of 1, and 1 of 100
    assert relative_error((1.5 * one, 101 * one), (one, 100 * one)) == 0.5
