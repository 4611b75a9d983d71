"""Streaming: the time of a push, against decoding each push again with its context; the error of less lookahead.

`python -m benchmarks.stream [CLIPS...]` copies the clips (the examples, if none are given) with less and less
lookahead, and prints the log-mel error against the exact decode.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import Competition, environment, finish, measure, table
from benchmarks.memory import resident_mb
from benchmarks.vocoders import SIZES, make
from tts_infer import Vocoder, log_mel_error_db, read_audio, warm_up

PUSH = 10
EXAMPLES = Path(__file__).parent.parent / "examples"


def costs(name: str, vocoder: Vocoder, seconds: float) -> dict[str, Any]:
    reach = vocoder.backbone.receptive_field
    stream, mel = vocoder.stream(), torch.randn(1, 100, PUSH) * 2 - 5
    stream.push(torch.zeros(1, 100, 100))  # past the beginning
    with_context = torch.randn(1, 100, PUSH + 2 * (reach + 2)) * 2 - 5  # and the frames whose windows overlap
    runs: dict[str, Callable[[], object]] = {
        "push": lambda: stream.push(mel),
        "plain": lambda: vocoder.decode(mel),
        "again": lambda: vocoder.decode(with_context),
    }
    ms = measure(runs, seconds, most=200)
    return {
        "vocoder": name,
        "push ms": ms["push"],
        "plain decode ms": ms["plain"],
        "push / plain": ms["push"] / ms["plain"],
        "re-decode ms": ms["again"],
        "re-decode / push": ms["again"] / ms["push"],
        "x real time": PUSH * 256 / 24000 / ms["push"] * 1e3,
    }


def lookahead(vocoder: Vocoder, clips: list[Path]) -> list[dict[str, Any]]:
    rows = []
    mels = [vocoder.mel(read_audio(clip, vocoder.sample_rate).samples) for clip in clips]
    whole = [vocoder.decode(mel) for mel in mels]
    for frames in (0, 3, 6, 9, 13, 20, 27):
        stream, errors, peaks = vocoder.stream(frames), [], []
        for mel, exact in zip(mels, whole, strict=True):
            stream.reset()
            audio: Tensor = torch.cat(list(stream.decode(mel.split(PUSH, dim=2))), dim=1)
            errors.append(log_mel_error_db(vocoder.mel(exact), vocoder.mel(audio)))
            peaks.append(float((audio - exact).abs().max() / exact.abs().max()))
        latency_ms = stream.delay_frames * vocoder.hop_length / vocoder.sample_rate * 1e3
        rows.append(
            {
                "lookahead": frames,
                "latency ms": latency_ms,
                "log-mel error dB": sum(errors) / len(errors),
                "of peak": max(peaks),
            }
        )
    return rows


def sustained(vocoder: Vocoder, hours: float) -> dict[str, Any]:
    """Decode hours of audio in pushes. Memory, which must not grow, is read after a tenth and at the end."""
    stream, mel = vocoder.stream(), torch.randn(1, 100, PUSH) * 2 - 5
    pushes = int(hours * 3600 * 24000 / 256 / PUSH)
    sizes, times, start = [], [], time.perf_counter()
    for i in range(pushes):
        stream.push(mel)
        if i in (pushes // 10, pushes - 1):
            sizes.append(resident_mb())
            times.append(time.perf_counter() - start)
    rate = [pushes // 10 / times[0], (pushes - pushes // 10) / (times[1] - times[0])]
    return {
        "hours": hours,
        "growth MB": sizes[1] - sizes[0],
        "pushes/s, first tenth": rate[0],
        "pushes/s, rest": rate[1],
    }


def together(vocoder: Vocoder, streams: int, busy: int, seconds: float) -> dict[str, Any]:
    """Several live streams at once, a push each in the time that its frames last; were they all in time?

    The vocoder is warmed up, as a server does before the first request.
    """
    began = time.perf_counter()
    warm_up(vocoder)
    warm_ms = (time.perf_counter() - began) * 1e3
    due_s = PUSH * vocoder.hop_length / vocoder.sample_rate
    mel, late, times = torch.randn(1, 100, PUSH) * 2 - 5, 0, []
    found = [vocoder.stream() for _ in range(streams)]
    with Competition(busy) as competition, competition.at_work(), ThreadPoolExecutor(streams) as pool:
        for _ in range(max(1, int(seconds / due_s))):
            began = time.perf_counter()

            def push(stream: Any, began: float = began) -> float:
                stream.push(mel)
                return time.perf_counter() - began

            spent = list(pool.map(push, found))
            times += spent
            late += sum(one > due_s for one in spent)
            time.sleep(max(0.0, due_s - (time.perf_counter() - began)))
    row = {"streams": streams, "competing": busy, "warm-up ms": warm_ms, "pushes": len(times), "due ms": due_s * 1e3}
    return {**row, "late": late, "median ms": sorted(times)[len(times) // 2] * 1e3, "longest ms": max(times) * 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, help="audio files (default: the examples)")
    parser.add_argument("--seconds", type=float, default=6.0, help="measuring time of one table (default: 6)")
    parser.add_argument("--hours", type=float, default=1.0, help="audio of the sustained run (default: 1)")
    parser.add_argument("--streams", type=int, metavar="N", help="only this: N live streams at once")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="beside N competing processes, with --streams")
    args = parser.parse_args()
    setting = environment()
    print(setting)
    if args.streams is not None:
        row = together(make("embedded"), args.streams, args.busy, args.seconds)
        table("live streams at once, embedded vocoder", [row])
        finish("stream", setting, [row])
        return
    found = {size: make(size) for size in SIZES}
    rows = [costs(name, vocoder, args.seconds) for name, vocoder in found.items()]
    table(f"pushes of {PUSH} frames", rows)
    errors = lookahead(found["embedded"], args.clips or sorted(EXAMPLES.glob("*.wav")))
    table("less lookahead, embedded vocoder", errors)
    steady = sustained(found["embedded"], args.hours)
    table("sustained, embedded vocoder", [steady])
    finish("stream", setting, [{"costs": rows, "lookahead": errors, "sustained": steady}])


if __name__ == "__main__":
    main()
