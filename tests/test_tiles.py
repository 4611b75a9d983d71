"""Tiles hold everything once, and what is computed in them is what the whole would be."""

from __future__ import annotations

import math

import pytest
import torch

import tts_infer
from tts_infer.devices import CPU
from tts_infer.dsp.tiles import TILE_FRAMES, tiles


@pytest.mark.parametrize(("count", "frames"), [(0, 1), (1, 1), (1000, 1), (1000, 3), (5, 100), (5, 1000), (3, 0)])
def test_tiles_follow_each_other_and_fit(count: int, frames: int) -> None:
    cut = tiles(count, frames, CPU)
    assert [i for block in cut for i in range(count)[block]] == list(range(count))
    sizes = [block.stop - block.start for block in cut]
    most = TILE_FRAMES * torch.get_num_threads()
    assert all(size * frames <= max(most, frames) for size in sizes)
    assert len(cut) == math.ceil(count / max(1, most // max(1, frames)))  # and are as few as can be
    assert not cut or max(sizes) - min(sizes) < len(cut)


def test_accelerators_take_the_whole() -> None:
    assert tiles(1000, 1, torch.device("meta")) == [slice(0, 1000)]


@pytest.mark.parametrize("block", [1, 7, 40])
def test_a_batch_refined_in_tiles(
    vocoder: tts_infer.Vocoder, speech: torch.Tensor, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mel = vocoder.mel(speech)[0]
    items = [mel[:, :frames] for frames in (20, 3, 19, 12)]
    whole = vocoder.decode(items, refine=2)
    monkeypatch.setattr("tts_infer.dsp.tiles.TILE_FRAMES", block)
    for got, want in zip(vocoder.decode(items, refine=2), whole, strict=True):
        # the same sums in matrices of other sizes
        assert (got - want).abs().max() <= 1e-5 * want.abs().max()
