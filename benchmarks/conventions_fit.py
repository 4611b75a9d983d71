"""Make what tts_infer/dsp/judges.py and evidence.py know: which statistics tell a wrong mel from a right one?

python -m benchmarks.conventions_fit --speech FOLDER [...] [--clips 1000] [--jobs 2]

Writes the judges and their listeners to tts_infer/assets/conventions, and prints the tables of evidence.py. Weights are
fitted to the clips, many of them made higher, lower or duller. The files are sorted by name and cut into folds, so the
names of one speaker's files should be alike. A clip is judged by what was fitted without its fold.
Give benchmarks/conventions.py another set, so that its figures are those of speakers that were never looked at.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.conventions import FRAMES_A_SECOND, SPEECH, VOCODERS, Mel, right_mels, wrong_mels
from benchmarks.sounds import audio_files, levelled, speech, varied
from tts_infer.config import MelConfig
from tts_infer.dsp.conventions import CONVENTIONS
from tts_infer.dsp.evidence import filterbank_values, may_be_of_other_filterbank, may_be_of_scale, scale_values
from tts_infer.dsp.fingerprints import rivals
from tts_infer.dsp.judges import ARRAYS, FAR, FILTERBANK, FOLDER, LEAST_SOUNDING, LISTENER, curves
from tts_infer.dsp.listener import Listener
from tts_infer.dsp.mel_statistics import Array, Statistics

# Parts of the files that are judged by what was fitted to the other parts.
FOLDS = 3
# This many right mels at most may lie above 0, one in 3,000 of those of 1,100 clips, if finding this share of the wrong
# ones takes that.
# A recording makes fifty right mels, so one strange voice may be ten of them.
SPARED, ENOUGH = 20, 0.97
# Distance of 0 from the next right mel, in units of the logistic function.
MARGIN = 0.2
# Share of the wrong mels that count as typical.
TYPICAL = 0.997
# The same for how far statistics may lie off: the one by which most wrong mels are found.
STRICTNESS = (0.97, 0.99, 0.997)
RIDGE = 3.0
# Of right mels, where wrong ones have 1.
IMPORTANCE = 3.0
WRONG = {
    "power": ("power, floor 1e-5", "power, floor 1e-10"),
    "log10": ("log10", "mean 0, deviation 1, per clip", "mean 0, deviation 1, global"),
}
# Of the listener: hidden units, passes over all frames, frames of one step, the largest step.
UNITS, PASSES, BATCH, RATE = 64, 5, 512, 6e-3
NOBODY = np.zeros(0, np.float32)  # where no listener has said anything yet
Matrix = NDArray[np.float64]
# A kind of wrong mel: its name, which of `wrong_mels` it holds, the filterbank that differs.
Question = tuple[str, tuple[str, ...], MelConfig | None]


@dataclass
class Sample:
    """A mel as the weights see it: its kind, the gates that it passes, and the values that are weighed."""

    right: bool
    kind: str
    fold: int
    gates: set[str]
    scale: tuple[float, ...]
    banks: dict[MelConfig, tuple[float, ...]]
    curves: Array  # without what the listener says
    ripples: NDArray[np.float16]

    @property
    def nature(self) -> tuple[float, float]:
        """Fluctuation and curvature."""
        change, bend, upper, *_ = self.scale
        return float(np.exp((bend + upper) / 2)), float(np.exp(bend - change))


def samples_of(mels: Iterable[tuple[str, Mel]], config: MelConfig, right: bool, fold: int) -> list[Sample]:
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
            found.append(Sample(right, kind, fold, gates, sizes, banks, curves(given, config, NOBODY), ripples))
    return found


def samples(name: str, folders: list[Path], count: int, seed: int) -> list[Sample]:
    """Right and wrong mels of some speakers."""
    config = CONVENTIONS[name]
    files, rng, found = len(audio_files(folders)), np.random.default_rng(seed + 1), list[Sample]()
    clips = list(varied(list(speech(folders, count, config.sample_rate, seed)), config.sample_rate, seed + 3))
    for i, (clip, loud) in enumerate(zip(clips, levelled(clips, seed + 2), strict=True)):
        fold = i % files * FOLDS // files
        found += samples_of(right_mels([clip], config, rng), config, True, fold)
        wrong = ((kind, make(loud)) for kind, (_, make) in wrong_mels(config).items())
        found += samples_of(wrong, config, False, fold)
    return found


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


def judge(mels: list[Sample], values: Matrix, wrong: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of one judge. Shape: values of (mels, values)"""
    ours = np.array([not one.right for one in mels])
    natures = np.array([one.nature for one in mels])
    ends = np.quantile(natures[ours], [1 - TYPICAL, TYPICAL], axis=0) * [[0.98, 0.98], [1.05, 1.12]]
    asked = ((ends[0] < natures) & (natures < ends[1])).all(1)
    folds, target = np.array([one.fold for one in mels])[asked], ours[asked]
    values = values[asked]
    mean = values[target].mean(0).astype(np.float16)
    deviation = (values[target].std(0) + 1e-3).astype(np.float16)
    off = np.clip((values - mean.astype(np.float32)) / deviation.astype(np.float32), -FAR, FAR)
    far = np.square(off).mean(1)
    inputs, scores = np.c_[off, FAR * far], np.zeros(len(values))
    for fold in range(FOLDS):
        weights = logistic(inputs[folds != fold], target[folds != fold], RIDGE)
        scores[folds == fold] = inputs[folds == fold] @ weights[:-1]

    def share_of(limit: float, spared: int) -> tuple[float, float]:
        """The share of wrong mels above 0, and the bias that makes it so."""
        typical = far <= limit
        bias = float(np.sort(scores[typical & ~target])[-1 - spared]) + MARGIN
        return float((scores[typical & target] > bias).sum() / ours.sum()), bias

    limits = [float(np.quantile(far[target], part)) * 1.05 for part in STRICTNESS]
    for spared in range(SPARED + 1):
        (share, bias), limit = max((share_of(limit, spared), limit) for limit in limits)
        if share >= ENOUGH:
            break
    nearest = mels[np.flatnonzero(asked)[(scores - 1e9 * target).argmax()]].kind
    print(f"  {100 * share:.1f} %; {spared} right ones above 0; limit {limit:.2f}; nearest: {nearest}", flush=True)
    *found, strangeness, _ = logistic(inputs, target, RIDGE)
    arrays = mean, deviation, np.array(found, np.float16), FAR * strangeness, bias, limit, *ends
    return dict(zip(ARRAYS, arrays, strict=True))


def heard(mels: list[Sample], questions: Sequence[Question], seed: int) -> Matrix:
    """What listeners that were trained on the other folds say of each mel. Shape: -> (mels, kinds)"""
    said = np.zeros((len(mels), len(questions)))
    for fold in range(FOLDS):
        ear = listener([one for one in mels if one.fold != fold], questions, seed)
        for i, one in enumerate(mels):
            if one.fold == fold:
                said[i] = ear(one.ripples.astype(np.float32))
    return said


def judges(name: str, mels: list[Sample], seed: int) -> None:
    """Fit and write the listener and all judges of one convention."""
    questions = questions_of(name, mels)
    values = np.c_[np.array([one.curves for one in mels]), heard(mels, questions, seed)]
    ear, found = listener(mels, questions, seed), []
    for kind, wrong, _ in questions:
        print(f"{name}, {kind} ({', '.join(wrong)})")
        chosen = [i for i, one in enumerate(mels) if one.right or one.kind in wrong]
        found.append(judge([mels[i] for i in chosen], values[chosen], wrong))
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
    mels = samples(name, args.speech, args.clips, args.seed)
    judges(name, [one for one in mels if one.ripples.shape[1] >= LEAST_SOUNDING], args.seed)
    for one in mels:
        one.ripples = one.ripples[:, :0].copy()
    return mels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, nargs="+", default=[SPEECH], metavar="FOLDER")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--jobs", type=int, default=1, help="conventions at the same time")
    args = parser.parse_args()
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        every = dict(zip(VOCODERS, pool.map(partial(fitted, args=args), VOCODERS), strict=True))
    evidence(every)


if __name__ == "__main__":
    main()
