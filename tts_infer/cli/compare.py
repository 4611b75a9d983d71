"""`tts-infer compare`: its options, its run, its tables."""

from __future__ import annotations

import argparse
import json

from tqdm import tqdm

import tts_infer
from tts_infer import Comparison, evaluation
from tts_infer.cli.arguments import add_contestant_arguments, add_json_argument, contestants_from
from tts_infer.cli.tables import aligned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    parser.add_argument(
        "input", metavar="IN", help=f"audio, which is copied, or a mel: {', '.join(tts_infer.FEATURE_SUFFIXES)}"
    )
    parser.add_argument(
        "--runs", type=int, default=evaluation.RUNS, metavar="N", help="timed runs of each (default: %(default)s)"
    )
    parser.add_argument("--output", metavar="FOLDER", help="write the audio of each, as WAV")
    parser.add_argument("--report", metavar="FILE", help="write an HTML report with players and spectrograms")
    add_json_argument(parser)
    add_contestant_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Compare every combination of the options, and print the figures.

    Returns:
        0.
    """
    tts_infer.require_file(args.input)
    if args.report is not None:
        tts_infer.check_report(args.report)
    systems = contestants_from(args)
    with tqdm(total=len(systems) * (args.runs + 1), unit=" runs", disable=args.json or None, leave=False) as bar:

        def progress(done: int, _: int) -> None:
            bar.update(done - bar.n)

        found = tts_infer.compare(args.input, systems, runs=args.runs, progress=progress)
    print(json.dumps(found.as_dict(), allow_nan=False) if args.json else as_text(found), flush=True)
    if args.output is not None:
        found.write_audio(args.output)
    if args.report is not None:
        tts_infer.write_comparison(args.report, found)
    return 0


def as_text(found: Comparison) -> str:
    """The comparison as text: the figures, the stages, and notes."""
    rows = [["", *evaluation.FIGURES], *(one.cells for one in found.results)]
    lines = [f"{found.description}", "", *aligned(rows, texts=1, narrowest=8), ""]
    lines += ["ms of the stages, and what runs them:"]
    for one in found.results:
        stages = (f"{row['stage']} {row['ms']:.2f} ({row['method']})" for row in one.stages)
        lines += [f"  {one.label}: {', '.join(stages)}"]
    lines += ["", *(f"{name}: {meaning}" for name, meaning in evaluation.FIGURES.items()), *found.notes]
    return "\n".join(lines)
