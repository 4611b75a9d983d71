"""`tts-infer batch`: many files."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any, get_args

from tqdm import tqdm

import tts_infer
from tts_infer.cli.arguments import add_output_arguments, add_vocoder_arguments, load_from

_SHOWN = 20  # of the files that were noted, or left out


class _OldEngine(argparse.Action):
    """The old name of `--executor`, for one release."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        print("tts-infer: --engine is now --executor; the old name goes with the next release", file=sys.stderr)
        namespace.executor = values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `batch`."""
    executors = get_args(tts_infer.ExecutorName)
    parser.add_argument("inputs", metavar="IN", nargs="+", help="files, folders, globs, manifests (.jsonl, .csv)")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the outputs")
    parser.add_argument("--container", choices=get_args(tts_infer.Container), default="wav", help="default: wav")
    parser.add_argument("--journal", metavar="FILE", help="where progress is kept (default: DIR.journal)")
    parser.add_argument("--executor", choices=executors, default="local", help="default: local")
    parser.add_argument("--engine", choices=executors, action=_OldEngine, help=argparse.SUPPRESS)
    parser.add_argument("--ray-address", metavar="A", help="of a running Ray cluster (default: one on this machine)")
    add_vocoder_arguments(parser)
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Make a batch, and print what became of it.

    Returns:
        0; 1 if some inputs failed.
    """
    vocoder = load_from(args)
    with tqdm(unit=" files", disable=args.json or None, leave=False) as bar:  # None: only on a terminal

        def progress(files: int, to_make: int, seconds: float) -> None:
            bar.total = to_make
            elapsed = bar.format_dict["elapsed"] or 1e-9
            bar.set_postfix_str(f"{seconds:.0f} s of audio, {seconds / elapsed:.0f} x real time", refresh=False)
            bar.update(files - bar.n)

        report = tts_infer.synthesize_batch(
            vocoder,
            args.inputs,
            args.out,
            container=args.container,
            sample_format=args.sample_format,
            journal=args.journal,
            progress=progress,
            executor=args.executor,
            ray_address=args.ray_address,
        )
    if args.json:
        speed = {"rtfx": report.rtfx, "xrt": report.rtfx}  # xrt: the old name, for one release
        print(json.dumps(dataclasses.asdict(report) | speed))
    else:
        print(_as_text(report))
    return 1 if report.failed else 0


def _as_text(report: tts_infer.BatchReport) -> str:
    done = f"{'done':<10}{len(report.outputs):>8} files{sum(report.outputs.values()):>12.1f} s of audio"
    made = f"{'this run':<10}{report.made:>8} files{report.seconds:>12.1f} s of audio in {report.wall_s:.1f} s"
    made += f", {report.rtfx:.0f} x real time, {report.clipped_samples} samples clipped"
    failed = f"{'failed':<10}{len(report.failed):>8} files"
    lines = [done, made, failed, *(f"  {output}: {reason}" for output, reason in report.failed.items())]
    for title, found in (("noted", report.noted), ("left out", report.left_out)):
        if found:
            lines += [f"{title:<10}{len(found):>8} files"]
            lines += [f"  {name}: {reason}" for name, reason in list(found.items())[:_SHOWN]]
            lines += [f"  and {len(found) - _SHOWN} more (--json has all)"] * (len(found) > _SHOWN)
    return "\n".join(lines)
