"""The stages together: each where its placement says, pieces and several lengths included."""

from __future__ import annotations

import pytest
import torch

from tests.test_vocoder import small_vocoder
from tts_infer.errors import PlacementError
from tts_infer.runtime.pipeline import DecodeState, Pipeline
from tts_infer.runtime.placement import make_placement
from tts_infer.runtime.timing import StageTimer

MEL = torch.randn(2, 40, 30, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("refine", [0, 2])
def test_every_way_through_the_stages_agrees(refine: int) -> None:
    pipeline = small_vocoder()._pipeline
    with torch.inference_mode():
        whole = pipeline.decode(MEL, refine, StageTimer(enabled=False))
        ragged = pipeline.decode_ragged(MEL, torch.ones(2, 30, 1), refine, StageTimer(enabled=False))
        state, timer = DecodeState(pipeline, refine), StageTimer(enabled=True)
        first = pipeline.decode_piece(MEL[..., :13], state, timer, final=False)
        pieces = torch.cat([first, pipeline.decode_piece(MEL[..., 13:], state, timer, final=True)], dim=1)
    for audio in (ragged, pieces):  # float32 sums in another order
        assert audio.shape == whole.shape and (audio - whole).abs().max() <= 1e-5 * whole.abs().max()
    assert [record["stage"] for record in timer.records] == 2 * ["backbone", "head", *["refine"][:refine], "istft"]


@pytest.mark.parametrize("method", ["packed", "torch"])
def test_methods_are_obeyed(method: str) -> None:
    model = small_vocoder()._pipeline.model
    pipeline = Pipeline(model, make_placement(f"backbone=cpu/{method},head=cpu/{method}", "cpu"), "float32")
    assert (pipeline.backbone is model.backbone) == (pipeline.head is model.head) == (method == "torch")


def test_a_dtype_that_is_no_use_is_refused() -> None:
    model = small_vocoder()._pipeline.model
    with pytest.raises(PlacementError, match="dtype 'float16'"):
        Pipeline(model, make_placement(device="cpu"), "float16")
