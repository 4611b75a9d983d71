"""Warming up: what comes after it has nothing left to make, and the same bits."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import tts_infer
from tests.helpers import small_vocoder
from tts_infer.dsp.passes import passed_at_once
from tts_infer.engines.torchscript import OneCall
from tts_infer.runtime import short
from tts_infer.vocoder import Vocoder

REFINE = 3


def everything(vocoder: Vocoder, features: Tensor) -> list[Tensor]:
    """Whole signals, long and short, several lengths, and a stream."""
    stream = vocoder.stream(refine=REFINE)
    pieces = [stream.push(features[..., :40]), stream.push(features[..., 40:50]), stream.push(features[..., 50:])]
    lengths = vocoder.decode([features[0], features[0, :, :7]], refine=REFINE)
    whole = [vocoder.decode(features[..., :frames], refine=refine) for frames in (5, 100) for refine in (0, REFINE)]
    return [*whole, *lengths, *pieces, stream.flush()]


def recorded(vocoder: Vocoder) -> int:
    """How many recordings there are."""
    return sum(len(stage.module._calls) for stage in vocoder.stages if isinstance(stage.module, OneCall))


def test_nothing_is_left_to_record() -> None:
    cold, warm = small_vocoder(), small_vocoder()
    if not any(isinstance(stage.module, OneCall) for stage in warm.stages):
        pytest.skip("no engine here records networks")
    mel = torch.randn(1, warm.n_mels, 100, generator=torch.Generator().manual_seed(0)) - 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tts_infer.warm_up(warm)
    before = recorded(warm)
    first = everything(warm, mel)
    assert recorded(warm) == before > 0
    for _ in range(3):
        everything(warm, mel)
    assert recorded(warm) == before  # no kind of call that would be recorded later
    assert all(map(torch.equal, first, everything(cold, mel)))


@pytest.mark.parametrize("frames", [5, 16])
def test_short_signals_have_their_graph_and_the_passes_are_read(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(passed_at_once, "_call", None)
    made, graph = [], short._graph

    def counted(*given: Any) -> Any:
        made.append(given)
        return graph(*given)

    monkeypatch.setattr(short, "_graph", counted)
    vocoder = tts_infer.load_vocoder(placement=f"backbone=cpu,short=cpu/onnxruntime/{frames}", device="cpu")
    assert vocoder.refine and not made  # a decode with passes uses no short graph
    tts_infer.warm_up(vocoder)
    assert len(made) == 1 and passed_at_once._call is not None
    vocoder.decode(torch.zeros(1, vocoder.n_mels, frames), refine=0, check_convention=False)
    assert len(made) == 1


def test_a_vocoder_of_whole_signals() -> None:
    vocoder = tts_infer.load_vocoder(engine="griffin-lim", device="cpu")
    tts_infer.warm_up(vocoder)
    assert torch.isfinite(vocoder.decode(torch.zeros(1, vocoder.n_mels, 5))).all()
