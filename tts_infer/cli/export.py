"""`tts-infer export`: a vocoder as one ONNX file, or as a page for browsers."""

from __future__ import annotations

import argparse
import dataclasses
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
    parser.add_argument(
        "--dtype",
        choices=get_args(tts_infer.ExportDType),
        default="float32",
        help="of the stored weights of the blocks; it computes in float32 (default: %(default)s)",
    )
    parser.add_argument("--speech", metavar="FILE", help="a recording; what another --dtype costs is measured on it")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub repository")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write the file or the folder, and print how far it is from torch.

    Returns:
        0.
    """
    vocoder = tts_infer.load_vocoder(args.vocoder, device="cpu", revision=args.revision, refine=0, check=False)
    done: tts_infer.Export | tts_infer.WebExport
    cost = None
    if args.layout == "web":
        _require_file_options(args)
        done = tts_infer.export_web(vocoder, args.output, runtime=args.runtime, refine=args.refine)
        what = f"a page of {', '.join(done.stages)}; try: cd {args.output} && python -m http.server"
    else:
        chosen = {"layout": args.layout, "source": args.source, "dtype": args.dtype, "speech": args.speech}
        done = tts_infer.export_onnx(vocoder, args.output, refine=args.refine, **chosen)
        cost = done.cost
        what = f"{', '.join(done.inputs)} -> {', '.join(done.outputs)}"
    if args.json:
        print(json.dumps(dataclasses.asdict(done) | {"path": str(done.path)}))
        return 0
    print(f"{done.path}: {done.size / 1e6:.1f} MB, {what}")
    print("difference from torch, of the peak:")
    for check in done.checks:
        print(f"  {check.frames:>4} frames, batch {check.batch}: {check.error:.1e}")
    if cost is not None:
        print(f"on {cost.speech}, with weights in {args.dtype}, beside float32:")
        print(f"  {cost.size / 1e6:.1f} MB, beside {cost.unrounded_size / 1e6:.1f} MB")
        print(f"  log-mel error of the copy {cost.error_db:.3f} dB, beside {cost.unrounded_error_db:.3f} dB")
        print(f"  log-mel difference of the two copies {cost.difference_db:.3f} dB")
        print(f"  {cost.time_ratio:.2f} of the time")
    return 0


def _require_file_options(args: argparse.Namespace) -> None:
    """Refuse options of a file where a page is made."""
    for option, default in (("dtype", "float32"), ("speech", None)):
        if getattr(args, option) != default:
            text = "--{option} goes with a file, not with --for web"
            raise tts_infer.InputError(text, code="cli-web-option", option=option)
