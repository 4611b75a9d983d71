"""`tts-infer export`: a vocoder as one ONNX file."""

from __future__ import annotations

import argparse
import json
from typing import get_args

import tts_infer
from tts_infer.cli.arguments import add_json_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    parser.add_argument("vocoder", metavar="V", help="known name, local directory or Hub id")
    parser.add_argument("-o", "--output", required=True, metavar="FILE.onnx", help="the file to write")
    parser.add_argument(
        "--for",
        dest="layout",
        choices=get_args(tts_infer.ExportLayout),
        default="waveform",
        help="layout: features to waveform, or what sherpa-onnx loads (default: %(default)s)",
    )
    parser.add_argument(
        "--from",
        dest="source",
        choices=get_args(tts_infer.ExportSource),
        default="features",
        help="what the graph takes; audio: it also computes the features (default: %(default)s)",
    )
    parser.add_argument("--refine", type=int, default=0, metavar="N", help="passes in the graph (default: 0)")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub repository")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write the file, and print how far it is from torch.

    Returns:
        0.
    """
    vocoder = tts_infer.load_vocoder(args.vocoder, device="cpu", revision=args.revision, refine=0, check=False)
    done = tts_infer.export_onnx(vocoder, args.output, layout=args.layout, source=args.source, refine=args.refine)
    if args.json:
        checks = [vars(check) for check in done.checks]
        print(json.dumps({**vars(done), "path": str(done.path), "checks": checks}))
        return 0
    print(f"{done.path}: {done.size / 1e6:.1f} MB, {', '.join(done.inputs)} -> {', '.join(done.outputs)}")
    print("difference from torch, of the peak:")
    for check in done.checks:
        print(f"  {check.frames:>4} frames, batch {check.batch}: {check.error:.1e}")
    return 0
