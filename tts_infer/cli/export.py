"""`tts-infer export`: a vocoder as one ONNX file, or as a page for browsers."""

from __future__ import annotations

import argparse
import json
from typing import get_args

import tts_infer
from tts_infer.cli.arguments import add_json_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    parser.add_argument("vocoder", metavar="V", help="known name, local directory or Hub id")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE.onnx", help="the file, or with --for web the folder"
    )
    parser.add_argument(
        "--for",
        dest="layout",
        choices=(*get_args(tts_infer.ExportLayout), "web"),
        default="waveform",
        help="features to waveform, what sherpa-onnx loads, or a folder with a page (default: %(default)s)",
    )
    parser.add_argument(
        "--runtime", metavar="FOLDER", help="of the npm package onnxruntime-web, for the page (default: node_modules)"
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
    """Write the file or the folder, and print how far it is from torch.

    Returns:
        0.
    """
    vocoder = tts_infer.load_vocoder(args.vocoder, device="cpu", revision=args.revision, refine=0, check=False)
    done: tts_infer.Export | tts_infer.WebExport
    if args.layout == "web":
        done = tts_infer.export_web(vocoder, args.output, runtime=args.runtime, refine=args.refine)
        what = f"a page of {', '.join(done.stages)}; try: cd {args.output} && python -m http.server"
    else:
        chosen = {"layout": args.layout, "source": args.source}
        done = tts_infer.export_onnx(vocoder, args.output, refine=args.refine, **chosen)
        what = f"{', '.join(done.inputs)} -> {', '.join(done.outputs)}"
    if args.json:
        checks = [vars(check) for check in done.checks]
        print(json.dumps({**vars(done), "path": str(done.path), "checks": checks}))
        return 0
    print(f"{done.path}: {done.size / 1e6:.1f} MB, {what}")
    print("difference from torch, of the peak:")
    for check in done.checks:
        print(f"  {check.frames:>4} frames, batch {check.batch}: {check.error:.1e}")
    return 0
