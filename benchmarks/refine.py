"""The time that refinement costs: decodes with more and more passes, by both methods. `python -m benchmarks.refine`.

Its gain is measured by `python -m tts_infer evaluate FILES --refine 0 --refine 4`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.common import Competition, environment, finish, measure, measure_busy, table
from benchmarks.vocoders import speech_mel
from tts_infer import load_vocoder

PASSES = (0, 1, 2, 4, 8, 12, 16, 24)


def costs(frames: int, seconds: float) -> list[dict[str, Any]]:
    mel = speech_mel(1, frames)
    runs: dict[str, Callable[[], object]] = {}
    for method in ("fft", "matmul"):
        vocoder = load_vocoder(device="cpu", istft=method)
        for passes in PASSES:
            runs[f"{method} {passes}"] = partial(vocoder.decode, mel, refine=passes)
    ms = measure(runs, seconds)
    return [
        {
            "frames": frames,
            "method": method,
            "refine": passes,
            "ms": (spent := ms[f"{method} {passes}"]),
            "x real time": frames * 256 / 24000 / spent * 1e3,
            "of refine 0": spent / ms[f"{method} 0"],
            "ms a pass": (spent - ms[f"{method} 0"]) / passes if passes else None,
        }
        for method in ("fft", "matmul")
        for passes in PASSES
    ]


def busy_costs(frames: int, count: int, seconds: float) -> list[dict[str, Any]]:
    """The default vocoder beside competing processes."""
    mel, vocoder = speech_mel(1, frames), load_vocoder(device="cpu")
    runs = {f"refine {passes}": partial(vocoder.decode, mel, refine=passes) for passes in (0, 8, 16)}
    with Competition(count) as competition:
        return [{"frames": frames, **row} for row in measure_busy(runs, competition, seconds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[94, 938])
    parser.add_argument("--seconds", type=float, default=10.0, help="measuring time of one length (default: 10)")
    parser.add_argument("--busy", type=int, metavar="N", help="beside N competing processes, quiet and busy in turns")
    args = parser.parse_args()
    setting, rows = environment(), []
    print(setting)
    for frames in args.frames:
        busy = args.busy is not None
        found = busy_costs(frames, args.busy, args.seconds) if busy else costs(frames, args.seconds)
        rows += found
        table(f"embedded vocoder, {frames} frames", found)
    finish("refine", setting, rows)


if __name__ == "__main__":
    main()
