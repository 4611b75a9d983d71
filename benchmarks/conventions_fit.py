"""Make what tts_infer/dsp/judges.py and evidence.py know: which statistics tell a wrong mel from a right one?

python -m benchmarks.conventions_fit --speech FOLDER [...] --thresholds FOLDER [...] [--clips 600] [--jobs 2]

Writes the judges and their listeners to tts_infer/assets/conventions, and prints the tables of evidence.py. Weights are
fitted to the clips of --speech, many of them made higher, lower or duller; 0 lies above every right mel of these and
of --thresholds, which must be other speakers.
Give benchmarks/conventions.py a third set, so that its figures are those of speakers that were never looked at.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.conventions import FRAMES_A_SECOND, SPEECH, VOCODERS, Mel, right_mels, wrong_mels
from benchmarks.sounds import levelled, speech, varied
from tts_infer.config import MelConfig
from tts_infer.dsp.conventions import CONVENTIONS
from tts_infer.dsp.evidence import filterbank_values, may_be_of_other_filterbank, may_be_of_scale, scale_values
from tts_infer.dsp.fingerprints import rivals
from tts_infer.dsp.judges import ARRAYS, FAR, FILTERBANK, FOLDER, LISTENER, curves
from tts_infer.dsp.listener import Listener
from tts_infer.dsp.mel_statistics import Array, Statistics

# Least distance of 0 from the worst right mel, in units of the logistic function. It lies halfway to nearly all wrong
# mels where that is further.
MARGIN = 1.0
# Share of the wrong mels of --speech that count as typical.
TYPICAL = 0.997
# The same for how far statistics may lie off: the one by which most wrong mels are found.
STRICTNESS = (0.97, 0.99, 0.997)
# A score that no mel needs to lie below.
LEAST = -50.0
RIDGE = 3.0
# Of right mels, where wrong ones have 1.
IMPORTANCE = 3.0
WRONG = {
    "power": ("power, floor 1e-5", "power, floor 1e-10"),
    "log10": ("log10", "mean 0, deviation 1, per clip", "mean 0, deviation 1, global"),
}
# Of the listener: hidden units, passes over all frames, frames of one step, the largest step.
UNITS, PASSES, BATCH, RATE = 64, 5, 512, 6e-3
Matrix = NDArray[np.float64]
# A kind of wrong mel: its name, which of `wrong_mels` it holds, the filterbank that differs.
Question = tuple[str, tuple[str, ...], MelConfig | None]


@dataclass
class Sample:
    """A mel as the weights see it: its kind, the gates that it passes, and the values that are weighed."""

    right: bool
    kind: str
    gates: set[str]
    scale: tuple[float, ...]
    banks: dict[MelConfig, tuple[float, ...]]
    curves: Array
    ripples: NDArray[np.float16]
    heard: Array = field(default_factory=lambda: np.zeros(0, np.float32))

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
            ripples = given.ripples.astype(np.float16)
            found.append(Sample(right, kind, gates, sizes, banks, curves(given, config, 0.0), ripples))
    return found


def samples(name: str, folders: list[Path], count: int, seed: int) -> list[Sample]:
    """Right and wrong mels of some speakers."""
    config = CONVENTIONS[name]
    clips = list(varied(list(speech(folders, count, config.sample_rate, seed)), config.sample_rate, seed + 3))
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


def questions_of(name: str, fit: list[Sample]) -> list[Question]:
    """The kinds of wrong mels that each have a judge."""
    found: list[Question] = [(kind, WRONG[kind], None) for kind in WRONG]
    for i, rival in enumerate(rivals(CONVENTIONS[name])):
        label = "Vocos" if rival.norm is None else "HiFi-GAN, 80" if rival.f_max == 8000 else "BigVGAN"
        kinds = tuple({one.kind for one in fit if not one.right and one.kind.startswith(label)})
        found.append((f"{FILTERBANK}{i}", kinds, rival))
    return found


def listener(fit: list[Sample], questions: Sequence[Question], seed: int) -> Listener:
    """Train on single frames, with all kinds weighing the same."""
    torch.manual_seed(seed)
    number = {kind: i for i, (_, kinds, _) in enumerate(questions, 1) for kind in kinds}
    used = [(one.ripples.T, 0 if one.right else number[one.kind]) for one in fit if one.right or one.kind in number]
    frames = torch.from_numpy(np.concatenate([ripples for ripples, _ in used]))
    target = torch.from_numpy(np.repeat([kind for _, kind in used], [len(ripples) for ripples, _ in used]))
    first = torch.nn.Linear(frames.shape[1], UNITS)
    second = torch.nn.Linear(UNITS, len(questions) + 1)
    network = torch.nn.Sequential(first, torch.nn.ReLU(), second)
    loss_of = torch.nn.CrossEntropyLoss(len(target) / torch.bincount(target).float())
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    steps = PASSES * len(target) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for _ in range(steps):
        chosen = torch.randint(len(target), (BATCH,))
        some = frames[chosen].float()
        some += torch.randn_like(some) * torch.rand(BATCH, 1) * 0.05
        optimizer.zero_grad()
        loss_of(network(some), target[chosen]).backward()
        optimizer.step()
        schedule.step()
    weights, biases = second.weight[1:] - second.weight[0], second.bias[1:] - second.bias[0]
    arrays = [part.detach().numpy() for part in (first.weight, first.bias, weights, biases)]
    return Listener(*(array.astype(np.float16).astype(np.float32) for array in arrays))


def judge(fit: list[Sample], more: list[Sample], wrong: tuple[str, ...], number: int) -> dict[str, Any]:
    """The arrays of one judge."""
    natures = np.array([one.nature for one in fit if one.kind in wrong])
    least, most = np.quantile(natures, [1 - TYPICAL, TYPICAL], axis=0) * [[0.98, 0.98], [1.05, 1.12]]

    def chosen(mels: list[Sample]) -> list[Sample]:
        fitting = [one for one in mels if one.right or one.kind in wrong]
        return [one for one in fitting if all(least < one.nature) and all(most > one.nature)]

    def matrix(mels: list[Sample]) -> tuple[Matrix, NDArray[np.bool_]]:
        values = np.array([one.curves for one in mels])
        values[:, -1] = [one.heard[number] for one in mels]
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

    def scores(of: Matrix, limit: float) -> Matrix:
        sums = off(of) @ weights.astype(np.float32) + strangeness * far(of)
        return np.where(far(of) <= limit, sums, -np.inf)

    def share(limit: float) -> float:
        return float((scores(other_values[other_target], limit) > bias_of(limit)).mean())

    def bias_of(limit: float) -> float:
        right = [scores(of[~wrong], limit).max(initial=LEAST) for of, wrong in both]
        ours = scores(values[target], limit)
        nearly_all = np.quantile(ours[ours > -np.inf], 0.02)
        return float(max(right) + max(MARGIN, (nearly_all - max(right)) / 2))

    both = (values, target), (other_values, other_target)
    limit = max((float(np.quantile(far(values[target]), part)) * 1.05 for part in STRICTNESS), key=share)
    bias, theirs = bias_of(limit), scores(other_values, limit)
    missing = len([one for one in more if one.kind in wrong]) - int(other_target.sum())
    part = 100 * share(limit) * other_target.sum() / (other_target.sum() + missing)
    nearest = others[int((theirs - 1e9 * other_target).argmax())]
    print(f"  {part:.1f} % of other speakers; nearest right one: {nearest.kind}; limit {limit:.2f}")
    arrays = mean, deviation, weights, strangeness, bias, limit, least, most
    return dict(zip(ARRAYS, arrays, strict=True))


def judges(name: str, fit: list[Sample], more: list[Sample], seed: int) -> None:
    """Fit and write the listener and all judges of one convention."""
    questions = questions_of(name, fit)
    ear = listener(fit, questions, seed)
    for one in (*fit, *more):
        one.heard = ear(one.ripples.astype(np.float32))
        one.ripples = one.ripples[:, :0].copy()
    found = []
    for i, (kind, wrong, _) in enumerate(questions):
        print(f"{name}, {kind} ({', '.join(wrong)})")
        found.append(judge(fit, more, wrong, i))
    halves = ("mean", "deviation", "weights")
    arrays: dict[str, NDArray[Any]] = {
        key: np.array([one[key] for one in found], np.float16 if key in halves else np.float32) for key in ARRAYS
    }
    arrays |= {key: getattr(ear, key).astype(np.float16) for key in LISTENER}
    FOLDER.mkdir(parents=True, exist_ok=True)
    arrays["names"] = np.array([kind for kind, *_ in questions])
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


def fitted(name: str, args: argparse.Namespace) -> list[Sample]:
    """Fit one convention. Returns: all its samples, which the tables of evidence.py need."""
    torch.set_num_threads(1)
    fit = samples(name, args.speech, args.clips, args.seed)
    more = samples(name, args.thresholds, args.clips // 2, args.seed + 50)
    judges(name, fit, more, args.seed)
    return fit + more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, nargs="+", default=[SPEECH], metavar="FOLDER")
    parser.add_argument("--thresholds", type=Path, nargs="+", default=[SPEECH], metavar="FOLDER")
    parser.add_argument("--clips", type=int, default=600, help="of --speech; half of it of --thresholds")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--jobs", type=int, default=1, help="conventions at the same time")
    args = parser.parse_args()
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        every = dict(zip(VOCODERS, pool.map(partial(fitted, args=args), VOCODERS), strict=True))
    evidence(every)


if __name__ == "__main__":
    main()
