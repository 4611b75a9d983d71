"""`tts-infer evaluate`: its options, its run, its table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
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
        help="of periodicity, voicing, F0 (default: crepe, that of the Vocos paper; crepe-tiny is 5 x as fast)",
    )
    parser.add_argument(
        "--measures",
        type=lambda text: text.split(","),
        metavar="M,M,...",
        help=f"only these; all: {', '.join(one.key for one in evaluation.MEASURES)}",
    )
    parser.add_argument(
        "--against",
        metavar="FILE",
        help="an earlier evaluation of the same files, by --json: name each measure that has become worse, and exit 1",
    )
    parser.add_argument("--report", metavar="FILE", help="write an HTML report with players and spectrograms")
    add_json_argument(parser)
    add_contestant_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, and print the results.

    Returns:
        0; 1 if a file could not be copied, or if a measure is worse than in the evaluation of --against.
    """
    paths = evaluation.find_audio(args.inputs, args.limit)
    before = None if args.against is None else evaluation.load_evaluation(args.against)
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
            measures=args.measures,
            progress=progress,
        )
    found = replace(found, missing=found.missing | missing)
    verdicts = [] if before is None else evaluation.judge(found, before)
    if args.json:
        document = found.as_dict() | ({} if before is None else {"against": [asdict(one) for one in verdicts]})
        print(json.dumps(document, allow_nan=False), flush=True)
    else:
        print("\n".join([as_text(found), *_verdicts(found, verdicts)]), flush=True)
    if args.report is not None:  # last, so that the results are shown even if the report cannot be written
        tts_infer.write_report(args.report, found, systems)
    return 1 if found.failed or any(one.verdict in evaluation.FAILED for one in verdicts) else 0


def as_text(found: Evaluation) -> str:
    """The evaluation as text: a line for each copy, the means, and notes."""
    lines = [*_per_file(found), "", *_means(found), ""]
    tracked = ", ".join(one.title for one in found.shown if one.is_tracked)
    by = f"; {tracked} by {found.pitch_tracker}" if tracked else ""
    lines += [f"mean and 95 % confidence interval over the files{by}"]
    lines += [f"only the first {evaluation.MAX_SECONDS:.0f} s were measured: {file}" for file in found.shortened]
    lines += [f"not measured: {what}: {reason}" for what, reason in found.left_out.items()]
    lines += [f"failed: {file}: {reason}" for file, reason in found.failed.items()]
    return "\n".join(lines)


def _per_file(found: Evaluation) -> list[str]:
    rows = [["file", "by", *(one.title for one in found.shown)]]
    for row in found.rows:
        values = [(row.measures[one.key], one.digits) for one in found.shown]
        cells = ["-" if value is None else f"{value:.{digits}f}" for value, digits in values]
        rows.append([Path(row.file).name, row.system, *cells])
    return aligned(rows, texts=2, narrowest=6)


def _means(found: Evaluation) -> list[str]:
    first, *others = found.systems
    rows = [["mean", *found.systems, *(f"{system} - {first}" for system in others), "better", "by"]]
    for one in found.shown:
        cells = [one.interval_text(found.means[system][one.key]) for system in found.systems]
        cells += [one.interval_text(found.differences[system][one.key], difference=True) for system in others]
        rows.append([one.name, *cells, one.advice, found.measured_by[one.key]])
    speeds = ["-" if (rtfx := found.rtfx(system)) is None else f"{rtfx:.3g}" for system in found.systems]
    rows.append(["x real time", *speeds, *("" for _ in others), "", ""])
    return aligned(rows, texts=1, narrowest=14)


def _verdicts(found: Evaluation, verdicts: Sequence[evaluation.Verdict]) -> list[str]:
    """What became of each measure since the earlier evaluation."""
    if not verdicts:
        return []
    measures = {one.key: one for one in found.measures}
    rows = [["against before", "system", "better by", ""]]
    for one in verdicts:
        measure = measures[one.measure]
        gain = measure.interval_text(one.gain, difference=True)
        rows.append([measure.name, one.system, gain, evaluation.VERDICTS[one.verdict]])
    return ["", *aligned(rows, texts=2, narrowest=14)]
