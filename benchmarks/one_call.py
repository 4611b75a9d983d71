"""Networks and passes as one call of TorchScript, against their operators called from Python.

`python -m benchmarks.one_call`. Backbone and head by oneDNN, with the same weights, take turns; so do the default's
passes of refinement. The title of a table says what recording a network takes, or what torch takes to read the passes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor

from benchmarks.common import environment, finish, measure, table
from benchmarks.vocoders import SIZES, make, speech_mel
from tts_infer import load_vocoder
from tts_infer.config import DTypeName
from tts_infer.dsp.passes import passed, passed_at_once
from tts_infer.dsp.two_bands import TwoBandRefinement
from tts_infer.engines.onednn import PackedBackbone, PackedHead, unsupported_reason
from tts_infer.engines.torchscript import RECORDED_CALL, OneCall


def networks(size: str, dtype: DTypeName) -> tuple[Callable[[Tensor], Any], Callable[[Tensor], Any]]:
    """Backbone and head of one vocoder: as one call each, and as their operators."""
    model: Any = make(size).model
    backbone, head = PackedBackbone(model.backbone, dtype), PackedHead(model.head, dtype)
    once, last = OneCall(backbone), OneCall(head)
    return lambda mel: last(once(mel)), lambda mel: head(backbone(mel))


def refinements() -> tuple[Callable[[Tensor], Any], Callable[[Tensor], Any], float]:
    """The default's passes as one call a band, and as their operators; and the ms until the one call can be made."""
    vocoder: Any = load_vocoder(device="cpu")
    once, many = (TwoBandRefinement(vocoder.mel_config, vocoder.model.head.istft) for _ in range(2))
    many.wide.passed_on_cpu = many.low.passed_on_cpu = passed
    start = time.perf_counter()
    passed_at_once.compiled()
    reading = (time.perf_counter() - start) * 1e3

    def run(refinement: TwoBandRefinement, mel: Tensor) -> Any:
        bins = vocoder.model.head.istft.n_fft // 2 + 1
        return refinement(
            (mel.new_ones(1, bins, mel.shape[2]), mel.new_zeros(1, bins, mel.shape[2])), mel, vocoder.refine
        )

    return partial(run, once), partial(run, many), reading


def compared(title: str, one: Callable[[Tensor], Any], many: Callable[[Tensor], Any], args: argparse.Namespace) -> Any:
    """Print the table of one call against its operators. Returns its rows."""
    rows = []
    for frames in args.frames:
        mel = speech_mel(1, frames)
        ms = measure({"one": partial(one, mel), "many": partial(many, mel)}, args.seconds)
        less = 1 - ms["one"] / ms["many"]
        rows.append({"frames": frames, "one call ms": ms["one"], "operators ms": ms["many"], "less": less})
    table(title, rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 94, 938])
    parser.add_argument("--seconds", type=float, default=4.0, help="measuring time of one row (default: 4)")
    args = parser.parse_args()
    setting, results = environment(), []
    print(setting)
    for size in SIZES:
        for dtype in (name for name in get_args(DTypeName) if unsupported_reason(name) is None):
            with torch.inference_mode():
                (one, many), few = networks(size, dtype), speech_mel(1, min(args.frames))
                for _ in range(RECORDED_CALL - 1):
                    one(few)
                start = time.perf_counter()
                one(few)
                recording = (time.perf_counter() - start) * 1e3
                rows = compared(f"{size}, {dtype}, recorded in {recording:.0f} ms", one, many, args)
                results += [{"size": size, "dtype": dtype, "recording ms": recording, **row} for row in rows]
    with torch.inference_mode():
        one, many, reading = refinements()
        rows = compared(f"embedded, all passes, read in {reading:.0f} ms", one, many, args)
        results += [{"size": "embedded", "passes": load_vocoder().refine, "reading ms": reading, **row} for row in rows]
    finish("one_call", setting, results)


if __name__ == "__main__":
    main()
