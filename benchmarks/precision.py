"""The accuracy that bfloat16 costs: log-mel error against float32. `python -m benchmarks.precision CLIPS`."""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.common import environment, finish, table
from tts_infer import load_vocoder, log_mel_error_db, read_audio


def errors(clips: list[Path], refine: int) -> dict[str, Any]:
    exact = load_vocoder(device="cpu", refine=refine)
    half = load_vocoder(device="cpu", dtype="bfloat16", refine=refine)
    to_exact, to_original = [], []
    for clip in clips:
        mel = exact.mel(read_audio(clip, exact.sample_rate).samples)
        copy = exact.mel(exact.decode(mel))
        to_exact.append(log_mel_error_db(copy, exact.mel(half.decode(mel))))
        to_original.append(log_mel_error_db(mel, copy))
    return {
        "refine": refine,
        "bfloat16 to float32 dB": mean(to_exact),
        "largest": max(to_exact),
        "float32 to original dB": mean(to_original),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path, help="audio files")
    args = parser.parse_args()
    setting = environment()
    print(setting)
    rows = [errors(args.clips, refine) for refine in (0, 16)]
    table(f"embedded vocoder, {len(args.clips)} clips, log-mel errors", rows)
    finish("precision", setting, rows)


if __name__ == "__main__":
    main()
