"""An hour of mel in bounded memory, and its speed against that of 938 frames. `python -m benchmarks.long`."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.common import environment, finish, table
from benchmarks.vocoders import SIZES

# Runs in a process of its own, because peak memory cannot be reset. The sizes of input and output are taken off.
RUN = """
import json, sys, time, torch
from benchmarks.memory import peak_mb
from benchmarks.vocoders import make
which, frames = sys.argv[1], int(sys.argv[2])
vocoder = make(which)
mel = torch.empty(1, 100, frames).normal_().mul_(2).sub_(5)
loaded = peak_mb()
def rate(piece, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter(); audio = vocoder.decode(piece); times.append(time.perf_counter() - start)
    return piece.shape[2] * 256 / 24000 / sorted(times)[len(times) // 2], audio
before, _ = rate(mel[..., :938], 9)
whole, audio = rate(mel, 1)
peak = peak_mb()
after, _ = rate(mel[..., :938], 9)
print(json.dumps({"above": peak - loaded - audio.numel() * 4 / 2**20, "short": (before + after) / 2, "long": whole}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=337_500, help="default: an hour at 24 kHz")
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    setting, rows = environment(), []
    print(setting)
    for which in SIZES:
        runs: list[dict[str, Any]] = []
        for _ in range(args.repeats):
            command = [sys.executable, "-c", RUN, which, str(args.frames)]
            runs.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        short, long, above = (statistics.median(run[key] for run in runs) for key in ("short", "long", "above"))
        rows.append(
            {
                "vocoder": which,
                "x real time": long,
                "of 938 frames": long / short,
                "MB above process, input and output": above,
            }
        )
    table(f"{args.frames} frames", rows)
    finish("long", setting, rows)


if __name__ == "__main__":
    main()
