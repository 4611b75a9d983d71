"""Make what tts_infer/dsp/judges.py and evidence.py know: which statistics tell a wrong mel from a right one?

python -m benchmarks.conventions_fit --speech FOLDER [...] --thresholds FOLDER [...] [--clips 300]

Writes the judges to tts_infer/assets/conventions, and prints the tables of evidence.py. Weights are fitted to the
clips of --speech; 0 lies a margin above every right mel of these and of --thresholds, which must be other speakers.
Give benchmarks/conventions.py a third set, so that its figures are those of speakers that were never looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.conventions import FRAMES_A_SECOND, SPEECH, VOCODERS, Mel, levelled, right_mels, speech, wrong_mels
from tts_infer.config import MelConfig
from tts_infer.dsp.conventions import CONVENTIONS
from tts_infer.dsp.evidence import filterbank_values, may_be_of_other_filterbank, may_be_of_scale, scale_values
from tts_infer.dsp.fingerprints import rivals
from tts_infer.dsp.judges import ARRAYS, FAR, FILTERBANK, FOLDER, curves
from tts_infer.dsp.mel_statistics import Array, Statistics

# Distance of 0 from the worst right mel, in units of the logistic function.
MARGIN = 1.0
# Share of the wrong mels of --speech that count as typical.
TYPICAL = 0.997
RIDGE = 3.0
# Of right mels, where wrong ones have 1.
IMPORTANCE = 3.0
WRONG = {
    "power": ("power, floor 1e-5", "power, floor 1e-10"),
    "log10": ("log10", "mean 0, deviation 1, per clip", "mean 0, deviation 1, global"),
}
Matrix = NDArray[np.float64]


@dataclass
class Sample:
    """A mel as the weights see it: its kind, the gates that it passes, and the values that are weighed."""

    right: bool
    kind: str
    gates: set[str]
    scale: tuple[float, ...]
    banks: dict[MelConfig, tuple[float, ...]]
    curves: Array

    @property
    def nature(self) -> tuple[float, float]:
        """Fluctuation and curvature."""
        change, bend, upper, *_ = self.scale
        return float(np.exp((bend + upper) / 2)), float(np.exp(bend - change))


def samples_of(mels: Iterable[tuple[str, Mel]], config: MelConfig, right: bool) -> list[Sample]:
    """Of each mel, and of its first second."""
    found: list[Sample] = []
    for kind, mel in mels:
        for part in (mel, mel[:, :FRAMES_A_SECOND])[: 2 if mel.shape[1] > FRAMES_A_SECOND else 1]:
            values = np.ascontiguousarray(part, np.float32)
            given = Statistics(values, float(values.min()), float(values.max()))
            if not given.heard:
                continue
            gates = {scale for scale in WRONG if may_be_of_scale(scale, given)}
            gates |= {FILTERBANK} if may_be_of_other_filterbank(given) else set()
            banks, sizes = filterbank_values(given, config), scale_values(given, config)
            found.append(Sample(right, kind, gates, sizes, banks, curves(given, config, 0.0)))
    return found


def samples(name: str, folders: list[Path], count: int, seed: int) -> list[Sample]:
    """Right and wrong mels of some speakers."""
    config = CONVENTIONS[name]
    clips = list(speech(folders, count, config.sample_rate, seed))
    found = samples_of(right_mels(clips, config, np.random.default_rng(seed + 1)), config, True)
    kinds = wrong_mels(config).items()
    made = ((kind, make(clip)) for kind, (_, make) in kinds for clip in levelled(clips, seed + 2))
    return found + samples_of(made, config, False)


def logistic(inputs: Matrix, wrong: NDArray[np.bool_], ridge: float) -> Matrix:
    """Weights, and the bias as the last one, by Newton's method."""
    inputs = np.c_[inputs, np.ones(len(inputs))]
    penalty = np.diag([ridge] * (inputs.shape[1] - 1) + [1e-9])
    weights: Matrix = np.zeros(inputs.shape[1])
    importance, step = np.where(wrong, 1.0, IMPORTANCE), weights + 1
    while np.abs(step).max() > 1e-3:
        chance = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (importance * (chance - wrong)) + penalty @ weights
        bend = (inputs * (importance * chance * (1 - chance))[:, None]).T @ inputs + penalty
        step = np.clip(np.linalg.solve(bend, slope), -2, 2)
        weights -= step
    return weights


def judge(fit: list[Sample], more: list[Sample], wrong: tuple[str, ...], rival: MelConfig | None) -> dict[str, Any]:
    """The arrays of one judge."""
    natures = np.array([one.nature for one in fit if one.kind in wrong])
    least, most = np.quantile(natures, [1 - TYPICAL, TYPICAL], axis=0) * [[0.98, 0.98], [1.05, 1.12]]

    def chosen(mels: list[Sample]) -> list[Sample]:
        fitting = [one for one in mels if one.right or one.kind in wrong]
        return [one for one in fitting if all(least < one.nature) and all(most > one.nature)]

    def matrix(mels: list[Sample]) -> tuple[Matrix, NDArray[np.bool_]]:
        values = np.array([one.curves for one in mels])
        values[:, -1] = [one.banks[rival][0] if rival else 0.0 for one in mels]
        return values, np.array([not one.right for one in mels])

    fit, others = chosen(fit), chosen(more)
    (values, target), (other_values, other_target) = matrix(fit), matrix(others)
    mean = values[target].mean(0).astype(np.float16)
    deviation = (values[target].std(0) + 1e-3).astype(np.float16)

    def off(of: Matrix) -> Matrix:
        return np.asarray(np.clip((of - mean.astype(np.float32)) / deviation.astype(np.float32), -FAR, FAR))

    def far(of: Matrix) -> Matrix:
        return np.asarray(np.square(off(of)).mean(1))

    *found, strangeness, _ = logistic(np.c_[off(values), FAR * far(values)], target, RIDGE)
    weights, strangeness = np.array(found, np.float16), FAR * strangeness
    limit = np.quantile(far(values[target]), TYPICAL) * 1.05

    def scores(of: Matrix) -> Matrix:
        sums = off(of) @ weights.astype(np.float32) + strangeness * far(of)
        return np.where(far(of) <= limit, sums, -np.inf)

    ours, theirs = scores(values), scores(other_values)
    worst = max(ours[~target].max(initial=-np.inf), theirs[~other_target].max(initial=-np.inf))
    bias = float(max(worst, np.quantile(ours[target], 0.02) - 4) + MARGIN)
    missing = len([one for one in more if one.kind in wrong]) - int(other_target.sum())
    share = 100 * float((theirs[other_target] > bias).sum() / (other_target.sum() + missing))
    low, nearest = (
        np.quantile(theirs[other_target], [0.02, 0.05]) - bias,
        others[int((theirs - 1e9 * other_target).argmax())],
    )
    print(f"  {share:.1f} % of other speakers; 2 and 5 % lie at {low.round(1)}; nearest right one: {nearest.kind}")
    arrays = mean, deviation, weights, strangeness, bias, limit, least, most
    return dict(zip(ARRAYS, arrays, strict=True))


def judges(name: str, fit: list[Sample], more: list[Sample]) -> None:
    """Fit and write all judges of one convention."""
    config = CONVENTIONS[name]
    questions: list[tuple[str, tuple[str, ...], MelConfig | None]] = [(kind, WRONG[kind], None) for kind in WRONG]
    for i, rival in enumerate(rivals(config)):
        label = "Vocos" if rival.norm is None else "HiFi-GAN, 80" if rival.f_max == 8000 else "BigVGAN"
        kinds = tuple({one.kind for one in fit if not one.right and one.kind.startswith(label)})
        questions.append((f"{FILTERBANK}{i}", kinds, rival))
    found = []
    for kind, wrong, other in questions:
        print(f"{name}, {kind} ({', '.join(wrong)})", flush=True)
        found.append(judge(fit, more, wrong, other))
    halves = ("mean", "deviation", "weights")
    arrays: dict[str, NDArray[Any]] = {
        key: np.array([one[key] for one in found], np.float16 if key in halves else np.float32) for key in ARRAYS
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    arrays["kinds"] = np.array([kind for kind, *_ in questions])
    np.savez_compressed(FOLDER / f"{name}.npz", allow_pickle=False, **arrays)


def weighing(right: list[Any], wrong: list[Any], title: str) -> None:
    """Print a line of evidence.py."""
    values, target = np.array([*right, *wrong]), np.r_[np.zeros(len(right), bool), np.ones(len(wrong), bool)]
    mean, deviation = values.mean(0), values.std(0)
    *found, _ = logistic((values - mean) / deviation, target, ridge=0.1)
    slopes = np.array(found) / deviation
    bias = -float((values[~target] @ slopes).max()) - MARGIN
    share = 100 * float((values[target] @ slopes + bias > 0).mean())
    print(f"# {title}: {share:.1f} % of {len(wrong)} within the gate, {len(right)} right mels")
    print(f"Weighing({tuple(round(float(one), 2) for one in slopes)}, {bias:.2f}),")


def evidence(every: dict[str, list[Sample]]) -> None:
    """Print the tables of evidence.py, which are those of filterbanks without judges."""
    for kind in WRONG:
        for norm in (None, "slaney"):
            mels = [one for name in every if CONVENTIONS[name].norm == norm for one in every[name]]
            mels = [one for one in mels if kind in one.gates]
            wrong = [one.scale for one in mels if not one.right and one.kind in WRONG[kind]]
            weighing([one.scale for one in mels if one.right], wrong, f"{kind}, norm {norm}")
    for own, other, label in (("htk", "slaney", "BigVGAN"), ("slaney", "htk", "Vocos")):
        both: tuple[list[Any], list[Any]] = ([], [])
        for name, mels in every.items():
            for one in mels if CONVENTIONS[name].mel_scale == own else []:
                if FILTERBANK in one.gates and (one.right or one.kind.startswith(label)):
                    both[one.right].extend(v for rival, v in one.banks.items() if rival.mel_scale == other)
        weighing(both[1], both[0], f"{own} -> {other}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, nargs="+", default=[SPEECH], metavar="FOLDER")
    parser.add_argument("--thresholds", type=Path, nargs="+", default=[SPEECH], metavar="FOLDER")
    parser.add_argument("--clips", type=int, default=300, help="of --speech; half of it of --thresholds")
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    torch.set_num_threads(1)
    every: dict[str, list[Sample]] = {}
    for name in VOCODERS:
        fit = samples(name, args.speech, args.clips, args.seed)
        more = samples(name, args.thresholds, args.clips // 2, args.seed + 50)
        judges(name, fit, more)
        every[name] = fit + more
    evidence(every)


if __name__ == "__main__":
    main()
