"""`tts-infer evaluate`: its options, its run, its table."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

from tqdm import tqdm

import tts_infer
from tts_infer import Vocoder
from tts_infer.cli.arguments import add_json_argument, add_vocoder_arguments, load_from
from tts_infer.evaluation.evaluate import Evaluation, evaluate, find_audio
from tts_infer.evaluation.measures import MEASURES
from tts_infer.evaluation.pitch import PitchTracker
from tts_infer.evaluation.systems import MAX_SECONDS, candidates_of
from tts_infer.report.figures import in_digits
from tts_infer.report.page import check_report_path, write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    parser.add_argument("inputs", metavar="FILE", nargs="+", help="audio files, and folders that are searched for them")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="at most N files of each folder, in order of their names"
    )
    parser.add_argument("--no-baseline", action="store_true", help="leave Griffin-Lim out")
    parser.add_argument(
        "--pitch-tracker",
        choices=get_args(PitchTracker),
        default="crepe",
        help="of periodicity and voicing (default: crepe, as in the Vocos paper; crepe-tiny takes a fifth of the time)",
    )
    parser.add_argument("--report", metavar="FILE", help="write an HTML report with players and spectrograms")
    add_json_argument(parser)
    add_vocoder_arguments(parser, several=True)


def run(args: argparse.Namespace) -> int:
    """Evaluate, and print what was found.

    Returns:
        0; 1 if a file could not be copied.
    """
    names = args.vocoder or [tts_infer.DEFAULT_VOCODER]
    if args.revision is not None and len(names) > 1:
        text = "--revision goes with one --vocoder; there are {count}"
        raise tts_infer.InputError(text, code="cli-revision-of-several", count=len(names))
    paths = find_audio(args.inputs, args.limit)
    if args.report is not None:
        check_report_path(args.report)
    candidates, missing = candidates_of(_load(args, names), args.refine or (None,), not args.no_baseline)
    with tqdm(total=len(paths), unit=" files", disable=args.json or None, leave=False) as bar:

        def progress(done: int, _: int) -> None:
            bar.update(done - bar.n)

        evaluation = evaluate(
            paths,
            candidates,
            baseline=False,  # it is among them
            pitch_tracker=args.pitch_tracker,
            progress=progress,
        )
    evaluation = replace(evaluation, missing=evaluation.missing | missing)
    print(json.dumps(evaluation.as_dict(), allow_nan=False) if args.json else as_text(evaluation), flush=True)
    if args.report is not None:  # last: what was measured is there even if this is refused
        write_report(args.report, evaluation, candidates)
    return 1 if evaluation.failed else 0


def _load(args: argparse.Namespace, names: list[str]) -> list[Vocoder]:
    return [load_from(args, name) for name in names]


def as_text(evaluation: Evaluation) -> str:
    """The evaluation as text: a line for each copy, the means, and what there is to know."""
    lines = [*_per_file(evaluation), "", *_means(evaluation), ""]
    lines += [f"mean and 95 % confidence interval over the files; periodicity and V/UV by {evaluation.pitch_tracker}"]
    lines += [f"only the first {MAX_SECONDS:.0f} s were measured: {file}" for file in evaluation.shortened]
    lines += [f"not measured: {what}: {reason}" for what, reason in evaluation.missing.items()]
    lines += [f"failed: {file}: {reason}" for file, reason in evaluation.failed.items()]
    return "\n".join(lines)


def _per_file(evaluation: Evaluation) -> list[str]:
    names = max([4, *(len(Path(row.file).name) for row in evaluation.rows)])
    labels = max([2, *map(len, evaluation.candidates)])
    widths = [max(8, len(measure.title) + 2) for measure in MEASURES]
    heads = "".join(f"{measure.title:>{width}}" for measure, width in zip(MEASURES, widths, strict=True))
    lines = [f"{'file':<{names}}  {'by':<{labels}}{heads}"]
    for row in evaluation.rows:
        cells = ""
        for measure, width in zip(MEASURES, widths, strict=True):
            value = row.measures[measure.key]
            cells += f"{'-' if value is None else f'{value:.{measure.digits}f}':>{width}}"
        lines.append(f"{Path(row.file).name:<{names}}  {row.candidate:<{labels}}{cells}")
    return lines


def _means(evaluation: Evaluation) -> list[str]:
    first, *others = evaluation.candidates
    heads = [*evaluation.candidates, *(f"{label} - {first}" for label in others)]
    widths = [max(16, len(head) + 2) for head in heads]
    names = max(len(f"{measure.title} ({measure.unit})") for measure in MEASURES)
    lines = [f"{'mean':<{names}}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))]
    for measure in MEASURES:
        cells = [in_digits(evaluation.means[label][measure.key], measure) for label in evaluation.candidates]
        cells += [in_digits(evaluation.differences[label][measure.key], measure, signed=True) for label in others]
        name = f"{measure.title} ({measure.unit})" if measure.unit else measure.title
        lines.append(f"{name:<{names}}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True)))
    speeds = [evaluation.rtfx(label) for label in evaluation.candidates]
    cells = ["-" if rtfx is None else f"{rtfx:.3g}" for rtfx in speeds]
    lines.append(f"{'x real time':<{names}}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=False)))
    return lines
