"""`tts-infer decode`: one file to a file, or as a stream to stdout."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from contextlib import suppress
from typing import Any

import tts_infer
from tts_infer import Vocoder
from tts_infer.cli.arguments import add_output_arguments, add_vocoder_arguments, load_from, standard_output

_STANDARD = "-"  # standard input or output

# Options that go with only one kind of output, and their defaults.
_OF_STREAMS = {"raw": False, "stream_frames": 64, "lookahead": "full"}
_OF_FILES = {"json": False, "sample_format": "pcm16"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `decode`."""
    parser.add_argument(
        "input", metavar="IN", help=f"audio (-: standard input), or features: {', '.join(tts_infer.FEATURE_SUFFIXES)}"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", help=".wav or .flac file to write (-: standard output, as WAV)"
    )
    parser.add_argument("--stream", action="store_true", help="write a 16-bit WAV to stdout instead, while decoding")
    stream = parser.add_argument_group("with --stream, in place of --sample-format and --json")
    stream.add_argument("--raw", action="store_true", help="samples without the WAV header")
    stream.add_argument("--stream-frames", type=int, metavar="N", help="frames a piece (default: %(default)s)")
    stream.add_argument("--lookahead", metavar="N", help="frames; fewer come earlier (default: %(default)s)")
    add_vocoder_arguments(parser)
    parser.add_argument(
        "--engine",
        default="auto",
        metavar="E",
        help="of every stage that it can run, such as onnxruntime; or vocos: the official package; or griffin-lim",
    )
    parser.add_argument(
        "--bandwidth",
        type=float,
        metavar="KBPS",
        help="of EnCodec, for vocoders that take its codes (default: what the number of codes a frame says)",
    )
    add_output_arguments(parser)
    parser.set_defaults(**_OF_STREAMS)


def run(args: argparse.Namespace) -> int:
    """Decode one file.

    Returns:
        0.
    """
    _check(args)
    return _to_stdout(args) if args.stream else _to_file(args)


def _check(args: argparse.Namespace) -> None:
    """Refuse what can be refused before a vocoder is loaded or fetched."""
    if (args.output is None) != args.stream:
        raise tts_infer.InputError("give either -o OUT, or --stream", code="cli-one-output")
    here, there = ("--stream", "-o OUT") if args.stream else ("-o OUT", "--stream")
    for name, default in (_OF_FILES if args.stream else _OF_STREAMS).items():
        if getattr(args, name) != default:
            option = f"--{name.replace('_', '-')}"
            text = "{option} goes with {there}, not with {here}"
            raise tts_infer.InputError(text, code="cli-other-output", option=option, there=there, here=here)
    if args.input != _STANDARD:
        tts_infer.require_input(args.input)
    if args.stream_frames < 1:
        text = "--stream-frames is {frames}; it must be at least 1"
        raise tts_infer.InputError(text, code="cli-stream-frames", frames=args.stream_frames)
    if args.stream or args.output == _STANDARD:
        standard_output()
    else:
        tts_infer.check_writable(args.output, args.sample_format)


def _to_file(args: argparse.Namespace) -> int:
    vocoder = load_from(args, engine=args.engine)
    conditions = _conditions(vocoder, args.bandwidth)
    target = standard_output() if args.output == _STANDARD else args.output
    made = tts_infer.synthesize_file(vocoder, _source(args), target, sample_format=args.sample_format, **conditions)
    names = {"input": args.input, "output": args.output, "vocoder": vocoder.name}
    speed = {"rtfx": made.rtfx, "xrt": made.rtfx}  # xrt: the old name, for one release
    report = names | dataclasses.asdict(made) | {"seconds": made.seconds} | speed
    said = json.dumps(report) if args.json else f"{args.output}: {made.as_text(vocoder.name)}"
    print(said, file=sys.stderr if _is_stdout(args.output) else sys.stdout)
    return 0


def _source(args: argparse.Namespace) -> Any:
    return tts_infer.standard_input() if args.input == _STANDARD else args.input


def _is_stdout(output: str) -> bool:
    """Whether the audio goes where reports usually go, and where no other byte may be among its own."""
    if output == _STANDARD:
        return True
    with suppress(OSError, ValueError):  # it may be closed, or be no file
        return not os.path.isfile(output) and os.path.samestat(os.stat(output), os.fstat(sys.stdout.fileno()))
    return False


def _to_stdout(args: argparse.Namespace) -> int:
    """`tts-infer decode IN --stream | aplay` plays while the rest is still decoded."""
    vocoder, lookahead = load_from(args, engine=args.engine), args.lookahead
    frames = int(lookahead) if re.fullmatch("[0-9]{1,9}", lookahead) else lookahead
    mel, said = tts_infer.features_of_file(vocoder, _source(args))
    stream = vocoder.stream(frames, **said | _conditions(vocoder, args.bandwidth))
    samples = vocoder.n_samples(mel.shape[-1])
    before = b"" if args.raw else tts_infer.wav_header(vocoder.sample_rate, samples)
    for piece in stream.decode(mel.split(args.stream_frames, dim=-1)):
        standard_output().write(before + tts_infer.to_int16(piece[0])[0].astype("<i2").tobytes())
        standard_output().flush()
        before = b""
    return 0


def _conditions(vocoder: Vocoder, bandwidth: float | None) -> dict[str, Any]:
    """The arguments that `--bandwidth` stands for."""
    if bandwidth is None:
        return {}
    for condition in vocoder.features.conditions:
        return {condition.name: condition.number_of(bandwidth)}
    text = "--bandwidth is for vocoders that take codes of EnCodec; {vocoder} is none"
    raise tts_infer.InputError(text, code="cli-bandwidth", vocoder=vocoder.name)
