"""Who takes part: every combination of vocoders, engines and other settings, loaded and labelled."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence

from tts_infer.arguments import checked
from tts_infer.errors import InputError, TTSInferError
from tts_infer.evaluation.systems import System, number_equal_labels, system_of
from tts_infer.loading import DTypeChoice, load_vocoder
from tts_infer.runtime.placement import MethodChoice, PlacementSpec
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
    istft: Sequence[MethodChoice] = ("auto",),
    dtypes: Sequence[DTypeChoice] = ("float32",),
    load: Callable[..., Vocoder] = load_vocoder,
) -> list[System]:
    """Load every combination. Labels say what differs. The last of the settings changes first, and refine is the last.

    Peers ("vocos", "griffin-lim") have stages of their own, float32 and no refinement. So they take part once for each
    vocoder, and the other settings are not for them.

    Args:
        vocoders, engines, placements: see `load_vocoder`.
        refine: numbers of passes; None: the default of the vocoder.
        istft, dtypes: methods of the inverse STFT and number formats, see `load_vocoder`.
        load: what loads one, with the same arguments; for settings of all, such as
            `partial(load_vocoder, device="cpu")`.

    Raises:
        TTSInferError: see `load_vocoder`; of several, the message begins with the label.
    """
    if any(passes is not None and passes < 0 for passes in refine):
        worst = min(passes for passes in refine if passes is not None)
        raise InputError("refine is {refine}; allowed: 0 or more passes", code="refine-negative", refine=worst)
    found: list[System] = []
    for vocoder, engine in itertools.product(vocoders, engines):
        peer = engine in PEERS
        chosen = ((None,), ("auto",), ("float32",)) if peer else (placements, istft, dtypes)
        for placement, method, dtype in itertools.product(*chosen):
            values = (os.fspath(vocoder), engine, "auto" if placement is None else placement, method, dtype)
            label = _label(values, (vocoders, engines, *chosen))
            try:
                loaded = load(vocoder, engine=engine, placement=placement, istft=method, dtype=dtype)
            except TTSInferError as error:
                several = len(vocoders) * len(engines) * math.prod(map(len, (placements, istft, dtypes))) > 1
                raise (error.within(label) if several else error) from None
            for passes in (None,) if peer else refine:
                found.append(system_of(loaded, label if passes is None else f"{label} refine={passes}", passes))
    return number_equal_labels(found)


def _label(values: Sequence[object], all_of: Sequence[Sequence[object]]) -> str:
    """The settings of which there are several; the vocoder, if there are none."""
    differing = [str(value) for value, others in zip(values, all_of, strict=True) if len(others) > 1]
    return " ".join(differing) or str(values[0])
