"""Who takes part: every combination of vocoders, engines, placements and passes of refinement, loaded and labelled."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence

from tts_infer.arguments import checked
from tts_infer.errors import InputError, TTSInferError
from tts_infer.evaluation.systems import System, number_equal_labels, system_of
from tts_infer.loading import load_vocoder
from tts_infer.runtime.placement import PlacementSpec
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import PEERS
from tts_infer.vocoders.checkpoint import DEFAULT_VOCODER

VocoderName = str | os.PathLike[str]


@checked()
def contestants(
    vocoders: Sequence[VocoderName] = (DEFAULT_VOCODER,),
    engines: Sequence[str] = ("auto",),
    placements: Sequence[PlacementSpec] = (None,),
    refine: Sequence[int | None] = (None,),
    *,
    load: Callable[..., Vocoder] = load_vocoder,
) -> list[System]:
    """Load every combination. Labels say what differs.

    Peers ("vocos", "griffin-lim") have stages of their own, and no refinement. So they take part once for each vocoder,
    and placements and passes are not for them.

    Args:
        vocoders, engines, placements: see `load_vocoder`.
        refine: numbers of passes; None: the default of the vocoder.
        load: what loads one; for settings of all, such as `partial(load_vocoder, device="cpu")`.

    Raises:
        TTSInferError: see `load_vocoder`; of several, the message begins with the label.
    """
    if any(passes is not None and passes < 0 for passes in refine):
        worst = min(passes for passes in refine if passes is not None)
        raise InputError("refine is {refine}; allowed: 0 or more passes", code="refine-negative", refine=worst)
    found: list[System] = []
    for vocoder, engine in itertools.product(vocoders, engines):
        peer = engine in PEERS
        for placement in (None,) if peer else placements:
            label = _label(vocoder, engine, placement, (vocoders, engines, (None,) if peer else placements))
            try:
                loaded = load(vocoder, engine=engine, placement=placement)
            except TTSInferError as error:
                raise (error.within(label) if len(vocoders) * len(engines) * len(placements) > 1 else error) from None
            for passes in (None,) if peer else refine:
                found.append(system_of(loaded, label if passes is None else f"{label} refine={passes}", passes))
    return number_equal_labels(found)


def _label(vocoder: VocoderName, engine: str, placement: PlacementSpec, all_of: tuple[Sequence[object], ...]) -> str:
    """The settings that differ among all; the vocoder, if none does."""
    settings = (os.fspath(vocoder), engine, "auto" if placement is None else str(placement))
    differing = [text for text, values in zip(settings, all_of, strict=True) if len(values) > 1]
    return " ".join(differing) or settings[0]
