"""The precision in which networks compute: bfloat16 where it is right and was measured to be faster, else float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch

from tts_infer.config import DTypeName
from tts_infer.devices import CPU, device_lock, dtype_refusal
from tts_infer.engines import usable_engines
from tts_infer.runtime import kept, workers
from tts_infer.runtime.choice import BUSY
from tts_infer.runtime.selftest import Size, StageTrial
from tts_infer.sentences import Sentence
from tts_infer.stages import Stage

# How many times faster bfloat16 must be, on few frames and on many: it costs some accuracy.
MARGIN = 1.15
_ROUNDS = 5

_NO_NETWORK = Sentence("there is no network", code="no-network")
_UNMEASURED: tuple[DTypeName, str] = ("float32", BUSY)


def best_dtype(stages: Sequence[Stage], device: torch.device) -> tuple[DTypeName, str]:
    """The precision for matrix products, and why.

    As with the choice of engines, what was measured on a CPU is kept on disk, and a busy machine is not measured.
    """
    networks = [stage for stage in stages if stage.half]
    refusal = dtype_refusal(device, "bfloat16")
    if refusal is not None or not networks:
        refused = Sentence("bfloat16 is {reason}", code="no-bfloat16", reason=refusal)
        return "float32", refused if refusal else _NO_NETWORK
    key = ("dtype", tuple(stage.signature for stage in networks), device)
    return kept.once(key, lambda: _remembered(key, networks, device))


def _remembered(key: object, networks: Sequence[Stage], device: torch.device) -> tuple[DTypeName, str]:
    """What another process found on this very machine; else what is found now."""
    entry = kept.read(key) if device == CPU else None
    if entry is not None and entry["method"] in get_args(DTypeName):
        return ("bfloat16" if entry["method"] == "bfloat16" else "float32"), entry["reason"]
    if device != CPU:
        return _measured(networks, device)
    disturbed = workers.is_disturbed()
    dtype, reason = _UNMEASURED if disturbed else workers.alone(lambda: _measured(networks, device))
    # kept either way, as in `choice.py`
    about = {"engine": "", "method": dtype, "reason": reason if disturbed else kept.before(reason)}
    kept.write(key, about, instead=not disturbed)
    return dtype, reason


def _measured(networks: Sequence[Stage], device: torch.device) -> tuple[DTypeName, str]:
    """Compare both precisions on all networks together, each by the engine that is preferred for it."""
    sizes: tuple[Size, ...] = get_args(Size)
    trials: dict[DTypeName, list[StageTrial]] = {"float32": [], "bfloat16": []}
    for dtype, found in trials.items():
        engines = [usable_engines(stage, device, dtype)[0] for stage in networks]
        pairs = zip(networks, engines, strict=True)
        found += [StageTrial(stage, device, engine, "", dtype, device) for stage, engine in pairs]
    failed = [check for trial in trials["bfloat16"] if not (check := trial.check()).passed]
    if failed:
        return "float32", failed[0].problem
    ratios = {}
    with device_lock(device):
        for size in sizes:
            both = {dtype: [trial.on(size) for trial in found] for dtype, found in trials.items()}
            rounds = [{dtype: sum(t.once_ms() for t in ts) for dtype, ts in both.items()} for _ in range(_ROUNDS + 1)]
            ratios[size] = min(one["float32"] / one["bfloat16"] for one in rounds[1:])  # the first one warms up
    faster = all(ratio > MARGIN for ratio in ratios.values())
    text = "bfloat16 against float32, times as fast: "
    text += "{few:.2f} on few frames, {usual:.2f} on usual frames, {many:.2f} on many frames"
    return ("bfloat16" if faster else "float32"), Sentence(text, code="bfloat16-speed", **ratios)
