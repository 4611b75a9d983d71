"""The time and memory of a fresh process before its first audio, step by step. `python -m benchmarks.start`."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.common import environment, finish, table

# Each line is a step; time and peak memory are taken after it.
OURS = """
import torch
import tts_infer
vocoder = tts_infer.load_vocoder(device="cpu")
mel = torch.zeros(1, 100, 938)
audio = vocoder.decode(mel)
audio = vocoder.decode(mel)
"""
OFFICIAL = """
import torch
from tts_infer.vocoders.reference import import_vocos; vocos = import_vocos()
vocoder = vocos.Vocos.from_hparams("tts_infer/assets/vocos-mini-24khz/config.yaml").eval()
mel = torch.zeros(1, 100, 938)
with torch.inference_mode(): audio = vocoder.decode(mel)
with torch.inference_mode(): audio = vocoder.decode(mel)
"""
NAMES = ("import torch", "import", "load", None, "first decode of 10 s", "second decode of 10 s")
RUNNER = """
import json, sys, time
from benchmarks.memory import peak_mb
rows = []
for line in sys.argv[1].strip().splitlines():
    start = time.perf_counter()
    exec(line)
    rows.append(((time.perf_counter() - start) * 1e3, peak_mb()))
print(json.dumps(rows))
"""


def steps(script: str, **environ: str) -> list[list[float]]:
    """Milliseconds and peak megabytes of each line of a script, in a process of its own."""
    command, everything = [sys.executable, "-c", RUNNER, script], os.environ | environ
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=everything)
    rows: list[list[float]] = json.loads(done.stdout)
    return rows


def first_load() -> float:
    """Milliseconds of the first load on a machine, when nothing is known of it."""
    with tempfile.TemporaryDirectory() as empty:
        return steps(OURS, XDG_CACHE_HOME=empty)[2][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    setting = environment("vocos")
    print(setting)
    runs = [(steps(OURS), steps(OFFICIAL)) for _ in range(args.repeats)]
    rows: list[dict[str, Any]] = []
    for i, name in enumerate(NAMES):
        if name is None:
            continue
        ours_ms, theirs_ms = (statistics.median(run[who][i][0] for run in runs) for who in (0, 1))
        ours_mb, theirs_mb = (statistics.median(run[who][i][1] for run in runs) for who in (0, 1))
        rows.append(
            {
                "step": name,
                "ours ms": ours_ms,
                "official ms": theirs_ms,
                "ours peak MB": ours_mb,
                "official peak MB": theirs_mb,
            }
        )
    table("steps of a fresh process, medians", rows)
    print(f"\nimport tts_infer adds {100 * rows[1]['ours ms'] / rows[0]['ours ms']:.1f} % to import torch")
    first = statistics.median(first_load() for _ in range(args.repeats))
    print(f"the first load on a machine, which measures engines: {first:.0f} ms")
    rows.append({"step": "first load on a machine", "ours ms": first})
    finish("start", setting, rows)


if __name__ == "__main__":
    main()
