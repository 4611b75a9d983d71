"""Speech: time to first audio, and each stage as x real time; the package's own code beside ours, in one run.

`python -m benchmarks.speak [--vocoder V] [--seconds S]` needs the extra `speak`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from benchmarks.common import environment, finish, measure, table
from tts_infer import Speaker, Speech, load_speaker

SENTENCE = "A vocoder turns a mel spectrogram into a waveform."
STORY = (
    "Once upon a time, there was a mel spectrogram. It knew how loud every band was, but it had forgotten the phase. "
    "Nobody could hear it! Then, on the 3rd of March, a vocoder came by, and offered to help. "
    "It looked at a hundred bands, eighty times a second, and filled in what was missing. "
    "They lived happily ever after, at twenty-four thousand samples a second."
)
REPEATS = 15


def speeds(speaker: Speaker, text: str) -> list[Speech]:
    for _ in range(3):
        speaker.speak(text, seed=0)
    return [speaker.speak(text, seed=0) for _ in range(REPEATS)]


def summary(name: str, made: list[Speech]) -> dict[str, Any]:
    stages = [sum(row["ms"] for row in one.stages) / one.total_ms for one in made]
    return {
        "text": name,
        "seconds": made[0].seconds,
        "first audio ms": median(one.first_audio_ms for one in made),
        "total ms": median(one.total_ms for one in made),
        "x real time": median(one.rtfx for one in made),
        "stages / total": median(stages),
    }


def by_stage(made: list[Speech]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for i, first in enumerate(made[0].stages):
        ms = median(one.stages[i]["ms"] for one in made)
        rows.append(
            {"stage": first["stage"], "method": first["method"], "ms": ms, "x real time": made[0].seconds / ms * 1e3}
        )
    return rows


def beside_the_package(speaker: Speaker, seconds: float) -> dict[str, Any]:
    from hibari import Hibari

    package = Hibari(threads=2)
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: speaker.speak(STORY, seed=0),
        "package": lambda: package(STORY, seed=0),
    }
    ms = measure(runs, seconds)
    return {"text": "story", "ours ms": ms["ours"], "package ms": ms["package"], "ratio": ms["package"] / ms["ours"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocoder", default="vocos-mini-24khz", help="what follows the voice in the second part")
    parser.add_argument("--seconds", type=float, default=10.0, help="for the comparison with the package")
    args = parser.parse_args()
    results: list[Mapping[str, Any]] = []
    for vocoder in (None, args.vocoder):
        speaker = load_speaker(vocoder=vocoder, device="cpu")
        made = {name: speeds(speaker, text) for name, text in (("sentence", SENTENCE), ("story", STORY))}
        rows: list[Mapping[str, Any]] = [summary(name, one) for name, one in made.items()]
        table(f"heart, vocoder: {vocoder or 'none'}", rows)
        stages = by_stage(made["story"])
        table("its stages, for the story", stages)
        results += [{"vocoder": vocoder, **row} for row in (*rows, *stages)]
    compared = beside_the_package(load_speaker(device="cpu"), args.seconds)
    table("beside the package's own code", [compared])
    finish("speak", environment("hibari-tts", "onnxruntime"), [*results, compared])


if __name__ == "__main__":
    main()
