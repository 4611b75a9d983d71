"""Fit the weights of tts_infer/dsp/evidence.py: which statistics tell a wrong mel from a right one?

python -m benchmarks.conventions_fit --speech FOLDER [FOLDER ...] [--clips 300]

Prints the two tables, whose 0 lies a margin above every right mel of these clips. Give it other recordings than
benchmarks/conventions.py, so that the figures of that one are those of speakers that the weights have not seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.conventions import FRAMES_A_SECOND, SPEECH, VOCODERS, Mel, levelled, right_mels, speech, wrong_mels
from tts_infer.config import MelConfig
from tts_infer.dsp.conventions import CONVENTIONS
from tts_infer.dsp.evidence import filterbank_values, may_be_of_other_filterbank, may_be_of_scale, scale_values
from tts_infer.dsp.mel_statistics import Statistics

# Distance of 0 from the worst right mel, in units of the logistic function.
MARGIN = 1.0
SCALES = {
    "power": ("power, floor 1e-5", "power, floor 1e-10"),
    "log10": ("log10", "mean 0, deviation 1, global"),
}
Sample = tuple[str, Statistics]


def statistics_of(mels: Iterable[tuple[str, Mel]]) -> list[Sample]:
    """Of each mel, and of its first second."""
    found: list[Sample] = []
    for kind, mel in mels:
        for part in (mel, mel[:, :FRAMES_A_SECOND])[: 2 if mel.shape[1] > FRAMES_A_SECOND else 1]:
            values = np.ascontiguousarray(part, np.float32)
            given = Statistics(values, float(values.min()), float(values.max()))
            found += [(kind, given)] if given.heard else []
    return found


def fit(right: list[Any], wrong: list[Any], title: str) -> None:
    """Logistic regression of standardised values by Newton's method, with a little of ridge regression."""
    values = np.array([*right, *wrong])
    target = np.r_[np.zeros(len(right)), np.ones(len(wrong))]
    mean, deviation = values.mean(0), values.std(0)
    inputs = np.c_[(values - mean) / deviation, np.ones(len(values))]
    ridge = np.diag([0.1] * values.shape[1] + [0])
    weights: NDArray[np.float64] = np.zeros(inputs.shape[1])
    importance = np.where(target == 0, 3.0, 1.0)
    for _ in range(60):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (importance * (chance - target)) + ridge @ weights
        bend = (inputs * (importance * chance * (1 - chance))[:, None]).T @ inputs + ridge
        weights -= np.clip(np.linalg.solve(bend + 1e-9 * np.eye(len(bend)), slope), -2, 2)
    scores = inputs @ weights
    worst = max(0.0, float(scores[target == 0].max())) + MARGIN
    slopes = weights[:-1] / deviation
    bias = weights[-1] - float((slopes * mean).sum()) - worst
    found = 100 * float((scores[target == 1] > worst).mean())
    print(f"# {title}: {found:.1f} % of {len(wrong)} within the gate, {len(right)} right mels")
    print(f"Weighing({tuple(round(float(one), 2) for one in slopes)}, {bias:.2f}),")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, nargs="+", default=[SPEECH], metavar="FOLDER")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    torch.set_num_threads(1)
    samples: dict[str, tuple[list[Sample], list[Sample]]] = {}
    for name in VOCODERS:
        config = CONVENTIONS[name]
        clips = list(speech(args.speech, args.clips, config.sample_rate, args.seed))
        right = statistics_of(right_mels(clips, config, np.random.default_rng(args.seed + 1)))
        kinds = wrong_mels(config).items()
        made = ((kind, make(clip)) for kind, (_, make) in kinds for clip in levelled(clips, args.seed + 2))
        samples[name] = right, statistics_of(made)
    for kind, names in SCALES.items():
        for norm in (False, True):
            chosen = [name for name in VOCODERS if (CONVENTIONS[name].norm is not None) == norm]
            fit(*_gathered(chosen, samples, kind, names, scale_values), f"{kind}, {'norm' if norm else 'no norm'}")
    for own, other in (("htk", "slaney"), ("slaney", "htk"), ("slaney", "slaney")):
        fit(*_filterbanks(samples, own, other), f"{own} -> {other}")


def _gathered(
    chosen: list[str],
    samples: dict[str, tuple[list[Sample], list[Sample]]],
    kind: str,
    names: tuple[str, ...],
    values: Callable[[Statistics, MelConfig], tuple[float, ...]],
) -> tuple[list[Any], list[Any]]:
    both: tuple[list[Any], list[Any]] = ([], [])
    for name in chosen:
        for side, gathered in zip(samples[name], both, strict=True):
            for label, given in side:
                if may_be_of_scale(kind, given) and (side is samples[name][0] or label in names):
                    gathered.append(values(given, CONVENTIONS[name]))
    return both


def _filterbanks(
    samples: dict[str, tuple[list[Sample], list[Sample]]], own: str, other: str
) -> tuple[list[Any], list[Any]]:
    both: tuple[list[Any], list[Any]] = ([], [])
    labels = {"slaney": ("BigVGAN",), "htk": ("Vocos",)}[other]
    for name in VOCODERS:
        config = CONVENTIONS[name]
        if config.mel_scale != own:
            continue
        for side, gathered in zip(samples[name], both, strict=True):
            for label, given in side:
                if may_be_of_other_filterbank(given) and (side is samples[name][0] or label.startswith(labels)):
                    found = filterbank_values(given, config).items()
                    gathered += [values for rival, values in found if rival.mel_scale == other]
    return both


if __name__ == "__main__":
    main()
