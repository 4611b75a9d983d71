"""The stages together: each where its placement says, pieces and several lengths included."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import small_vocoder
from tts_infer.errors import InputError, PlacementError
from tts_infer.runtime.pipeline import Pipeline
from tts_infer.runtime.placement import make_placement
from tts_infer.runtime.timing import StageTimer

MEL = torch.randn(2, 40, 30, generator=torch.Generator().manual_seed(0))
UNTIMED = StageTimer(enabled=False)


@pytest.mark.parametrize("refine", [0, 2])
def test_every_way_through_the_stages_agrees(refine: int) -> None:
    pipeline = small_vocoder()._pipeline
    chain = pipeline.decoding(refine)
    with torch.inference_mode():
        whole = pipeline.decode(MEL, chain, UNTIMED)
        ragged = pipeline.decode(MEL, chain, UNTIMED, torch.ones(2, 30, 1))
        state, timer = pipeline.initial_state(chain, 2), StageTimer(enabled=True)
        first, state = pipeline.run(chain, {"mel": MEL[..., :13]}, timer, state=state, final=False)
        second, _ = pipeline.run(chain, {"mel": MEL[..., 13:]}, timer, state=state, final=True)
        pieces = torch.cat([first["audio"], second["audio"]], dim=1)
    for audio in (ragged, pieces):  # float32 sums in another order
        assert audio.shape == whole.shape and (audio - whole).abs().max() <= 1e-5 * whole.abs().max()
    assert [record["stage"] for record in timer.records] == 2 * ["backbone", "head", *["refine"][:refine], "istft"]


@pytest.mark.parametrize("engine", ["onednn", "torch"])
def test_engines_are_obeyed(engine: str) -> None:
    model = small_vocoder()._pipeline.model
    pipeline = Pipeline(model, make_placement(f"backbone=cpu/{engine},head=cpu/{engine}", "cpu"), "float32")
    stages = {stage.name: stage for stage in pipeline.stages}
    same = [stages[name].module is getattr(model, name) for name in ("backbone", "head")]
    assert same == [engine == "torch"] * 2


def test_a_dtype_that_is_no_use_is_refused() -> None:
    model = small_vocoder()._pipeline.model
    with pytest.raises(PlacementError, match="dtype 'float16'"):
        Pipeline(model, make_placement(device="cpu"), "float16")


def test_what_has_no_repeated_stage_is_not_refined() -> None:
    pipeline = small_vocoder()._pipeline
    pipeline._decoding = [placed for placed in pipeline._decoding if placed.stage.passes is None]
    with pytest.raises(InputError, match="leave refine at 0"):
        pipeline.decoding(refine=1)
