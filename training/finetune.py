"""Adapt the shipped vocoder to your own recordings: `python -m training.finetune FOLDER --minutes 30`.

Some files are kept out of training. At the end they are copied by the vocoder before and after, and measured. The same
command continues after an interruption.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
import yaml

from training.export import export, official_config
from training.recipe import Recipe, read_recipe
from training.train import Run
from training.trainer import Trainer
from tts_infer.cli.evaluate import as_text
from tts_infer.errors import InputError, TTSInferError
from tts_infer.evaluation import Evaluation, evaluate, find_audio, systems_of
from tts_infer.evaluation.pitch import PitchTracker
from tts_infer.io.writer import whole_file
from tts_infer.loading import load_vocoder
from tts_infer.vocoders.checkpoint import ASSETS, DEFAULT_VOCODER, load_model, resolve
from tts_infer.vocoders.vocos import BackboneConfig, HeadConfig, VocoderConfig

LEAST_FILES = 4
KEPT_OUT = 0.1  # of the files, at most MOST_KEPT_OUT
MOST_KEPT_OUT = 10
TIMED_STEPS = 3
REFINE = (0, 16)  # passes at which before and after are compared
# Of the last phase of configs/mini-4.yaml: every loss, none so strong that other measures pay for it.
WEIGHTS = {"low_mel": 120.0, "log_magnitude": 8.0, "loudness": 100.0, "disturbance": 60.0, "pulses": 10.0}
WEIGHTS |= {"adversarial": 2.0, "features": 2.0}


def divide(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Files to train on, and files to judge by, drawn by the hash of their names.

    Raises:
        InputError: there are too few.
    """
    if len(files) < LEAST_FILES:
        text = "{count} recordings are too few: give {least} or more, so that some can be kept out"
        raise InputError(text, code="too-few-recordings", count=len(files), least=LEAST_FILES)
    drawn = sorted(files, key=lambda path: (zlib.crc32(path.name.encode()), path))
    count = min(MOST_KEPT_OUT, max(1, round(KEPT_OUT * len(files))))
    return sorted(drawn[count:]), sorted(drawn[:count])


def starting_point(name: str) -> VocoderConfig:
    """The configuration of a vocoder that can be trained on.

    Raises:
        InputError: it is of another kind than the trainer builds.
    """
    config = load_model(resolve(name)).config
    kinds = (type(config), type(getattr(config, "backbone", None)), type(getattr(config, "head", None)))
    if kinds != (VocoderConfig, BackboneConfig, HeadConfig):
        text = "{name} cannot be adapted: it is no Vocos with ConvNeXt blocks and mel input"
        raise InputError(text, code="not-trainable", name=name)
    assert isinstance(config, VocoderConfig)
    return config


def recipe_of(folder: Path, table: Path, start: str, config: VocoderConfig, steps: int) -> dict[str, Any]:
    """The recipe as a document: one phase, from the start's weights and the shipped discriminators."""
    official = official_config(config)
    sections = {"mel": "feature_extractor", "backbone": "backbone", "head": "head"}
    vocoder: dict[str, Any] = {key: official[section]["init_args"] for key, section in sections.items()}
    phase = {"steps": steps, "batch": 8, "learning_rate": 1e-4, "final_learning_rate": 2e-6, "adversarial": True}
    return {
        "start": start,
        "start_discriminators": str(Path(__file__).parent / "discriminators.safetensors"),
        "vocoder": vocoder | {"range_null": config.range_null},
        "sources": {"recordings": {"folder": str(folder), "share": 1, "table": str(table)}},
        "phases": {"adapt": phase | {"weights": WEIGHTS}},
        "warm_up": max(1, min(50, steps // 20)),
        "ema": min(0.999, 1 - 1 / max(1.0, steps / 10)),  # a mean over the last tenth of the run
        "save_minutes": 2,
    }


def planned(of_steps: Callable[[int], dict[str, Any]], folder: Path, device: str, minutes: float) -> Recipe:
    """The recipe of a run, whose steps fill the minutes at the speed of this machine now; that of a run that was begun.

    The steps are settled once, because the learning rate falls over all of them.
    """
    file = folder / "recipe.yaml"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        first = folder / "timing.yaml"
        first.write_text(yaml.safe_dump(of_steps(1)))
        recipe = read_recipe(first)
        first.unlink()
        segments = Run(recipe, folder, device).trainer.segments  # prepares the recordings
        trainer = Trainer(recipe, segments, device)
        trainer.train_step()
        start = time.monotonic()
        for _ in range(TIMED_STEPS):
            trainer.train_step()
        per_step = (time.monotonic() - start) / TIMED_STEPS
        with whole_file(file) as part:
            part.write_text(yaml.safe_dump(of_steps(max(1, int(60 * minutes / per_step))), sort_keys=False))
    return read_recipe(file)


def adapt(folder: Path, out: Path, minutes: float, start: str, device: str) -> list[Path]:
    """Train, and write the adapted vocoder to `out`. Returns the files that were kept out.

    Raises:
        InputError: see `divide` and `starting_point`.
    """
    config = starting_point(start)
    taken, kept = divide(find_audio([folder]))
    work = out / "training"
    work.mkdir(parents=True, exist_ok=True)
    table = work / "recordings.tsv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("file", "speaker", "role", "reason"))
        rows = [(path, "train") for path in taken] + [(path, "validation") for path in kept]
        writer.writerows((path.relative_to(folder), folder.name, role, "") for path, role in rows)
    recipe = planned(partial(recipe_of, folder, table, start, config), work, device, minutes)
    run = Run(recipe, work, device)
    run.go(minutes)
    print(f"step {run.trainer.step} of {recipe.steps}; the same command continues, without {work} it begins anew")
    export(run.trainer.result(), recipe.vocoder, out)
    return kept


def compare(start: str, out: Path, kept: list[Path], tracker: PitchTracker) -> list[Evaluation]:
    """Measure the files that were kept out, copied by the vocoder before and after, at each of `REFINE`."""
    found = []
    for passes in REFINE:
        systems, _ = systems_of([load_vocoder(name, device="cpu") for name in (start, out)], (passes,), baseline=False)
        labels = [f"{when}, refine={passes}" for when in ("before", "after")]
        labelled = [replace(system, label=label) for system, label in zip(systems, labels, strict=True)]
        found.append(evaluate(kept, labelled, baseline=False, pitch_tracker=tracker))
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="recordings of the voice, searched with everything below")
    parser.add_argument("--out", type=Path, help="folder of the adapted vocoder; default: training/runs/NAME OF FOLDER")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training (default: %(default)s)")
    parser.add_argument("--start", default=str(ASSETS / DEFAULT_VOCODER), help="directory of the vocoder to adapt")
    parser.add_argument("--pitch-tracker", choices=get_args(PitchTracker), default="crepe-tiny")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    torch.set_flush_denormal(True)
    folder = args.folder.resolve()
    out = args.out or Path(__file__).parent / "runs" / folder.name
    try:
        kept = adapt(folder, out, args.minutes, args.start, args.device)
        print(*(as_text(found) for found in compare(args.start, out, kept, args.pitch_tracker)), sep="\n\n")
    except TTSInferError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{out}: adapted; tts_infer.load_vocoder({str(out)!r}, refine=16)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
