"""`tts-infer evaluate`: its options, its run, its table."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

from tqdm import tqdm

import tts_infer
from tts_infer import Evaluation, evaluation
from tts_infer.cli.arguments import add_contestant_arguments, add_json_argument, contestants_from
from tts_infer.cli.tables import aligned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    parser.add_argument("inputs", metavar="FILE", nargs="+", help="audio files, and folders that are searched for them")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="at most N files of each folder, in order of their names"
    )
    parser.add_argument("--no-baseline", action="store_true", help="leave Griffin-Lim out")
    parser.add_argument(
        "--pitch-tracker",
        choices=get_args(evaluation.PitchTracker),
        default="crepe",
        help="of periodicity and voicing (default: crepe, as in the Vocos paper; crepe-tiny takes a fifth of the time)",
    )
    parser.add_argument("--report", metavar="FILE", help="write an HTML report with players and spectrograms")
    add_json_argument(parser)
    add_contestant_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, and print the results.

    Returns:
        0; 1 if a file could not be copied.
    """
    paths = evaluation.find_audio(args.inputs, args.limit)
    if args.report is not None:
        tts_infer.check_report(args.report)
    systems, missing = tts_infer.systems_of(contestants_from(args), baseline=not args.no_baseline)
    with tqdm(total=len(paths), unit=" files", disable=args.json or None, leave=False) as bar:

        def progress(done: int, _: int) -> None:
            bar.update(done - bar.n)

        found = tts_infer.evaluate(
            paths,
            systems,
            baseline=False,  # it is one of the systems
            pitch_tracker=args.pitch_tracker,
            progress=progress,
        )
    found = replace(found, missing=found.missing | missing)
    print(json.dumps(found.as_dict(), allow_nan=False) if args.json else as_text(found), flush=True)
    if args.report is not None:  # last, so that the results are shown even if the report cannot be written
        tts_infer.write_report(args.report, found, systems)
    return 1 if found.failed else 0


def as_text(found: Evaluation) -> str:
    """The evaluation as text: a line for each copy, the means, and notes."""
    lines = [*_per_file(found), "", *_means(found), ""]
    lines += [f"mean and 95 % confidence interval over the files; periodicity and V/UV by {found.pitch_tracker}"]
    lines += [f"only the first {evaluation.MAX_SECONDS:.0f} s were measured: {file}" for file in found.shortened]
    lines += [f"not measured: {what}: {reason}" for what, reason in found.missing.items()]
    lines += [f"failed: {file}: {reason}" for file, reason in found.failed.items()]
    return "\n".join(lines)


def _per_file(found: Evaluation) -> list[str]:
    rows = [["file", "by", *(one.title for one in evaluation.MEASURES)]]
    for row in found.rows:
        values = [(row.measures[one.key], one.digits) for one in evaluation.MEASURES]
        cells = ["-" if value is None else f"{value:.{digits}f}" for value, digits in values]
        rows.append([Path(row.file).name, row.system, *cells])
    return aligned(rows, texts=2, narrowest=6)


def _means(found: Evaluation) -> list[str]:
    first, *others = found.systems
    rows = [["mean", *found.systems, *(f"{system} - {first}" for system in others)]]
    for one in evaluation.MEASURES:
        cells = [one.interval_text(found.means[system][one.key]) for system in found.systems]
        cells += [one.interval_text(found.differences[system][one.key], difference=True) for system in others]
        rows.append([one.name, *cells])
    speeds = ["-" if (rtfx := found.rtfx(system)) is None else f"{rtfx:.3g}" for system in found.systems]
    rows.append(["x real time", *speeds, *("" for _ in others)])
    return aligned(rows, texts=1, narrowest=14)
