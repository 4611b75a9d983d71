"""The command line: `python -m tts_infer`. Parsing, running and reporting apart.

Exit codes: 0 done, 1 some inputs failed, 2 bad usage or bad input. An error is one line on stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import re
import sys
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, get_args

from torch import Tensor
from tqdm import tqdm

import tts_infer
from tts_infer import Vocoder
from tts_infer.cli import evaluate as evaluate_command
from tts_infer.cli import vocoders as vocoders_command

# Options of `decode` that only one kind of output has, and their defaults.
_OF_STREAMS = {"raw": False, "stream_frames": 64, "lookahead": "full"}
_OF_FILES = {"json": False, "sample_format": "pcm16"}


class _Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None: those of the process.

    Returns:
        The exit code.
    """
    _mend_streams()
    try:
        return _run(argv)
    except tts_infer.TTSInferError as error:
        print("tts-infer:", str(error).replace("\n", "\\n"), file=sys.stderr)  # of names, which may hold anything
        return 2
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is None:  # it is stdout, of which Python would complain once more when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read stdout has seen enough
            return 0
        print(f"tts-infer: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        return 2


def _mend_streams() -> None:
    """What is closed leads nowhere, and names that stdout cannot say are spelt out, rather than end what was done."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  as long as the process lives
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
        return int(args.run(args))
    finally:
        print(end="", flush=True)  # while what the system refuses to write can still be told


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tts-infer", description="Neural vocoders: mel spectrograms in, waveforms out.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    decode = commands.add_parser("decode", help="one file: decode features, or copy audio")
    decode.add_argument("input", metavar="IN", help=f"audio, or features ({', '.join(tts_infer.FEATURE_SUFFIXES)})")
    decode.add_argument("-o", "--output", metavar="OUT", help=".wav or .flac file to write")
    decode.add_argument("--stream", action="store_true", help="write a 16-bit WAV to stdout instead, while decoding")
    stream = decode.add_argument_group("with --stream, in place of --sample-format and --json")
    stream.add_argument("--raw", action="store_true", help="samples without the WAV header")
    stream.add_argument("--stream-frames", type=int, metavar="N", help="frames a piece (default: %(default)s)")
    stream.add_argument("--lookahead", metavar="N", help="frames; fewer come earlier (default: %(default)s)")
    add_vocoder_arguments(decode)
    _add_output_arguments(decode)
    decode.set_defaults(run=_decode, **_OF_STREAMS)

    doctor = commands.add_parser("doctor", help="what this machine has, what runs where and why; operator audit")
    tts_infer.doctor.add_arguments(doctor)

    batch = commands.add_parser("batch", help="many files, in batches, resumable")
    batch.add_argument("inputs", metavar="IN", nargs="+", help="files, folders, globs, manifests (.jsonl, .csv)")
    batch.add_argument("--out", metavar="DIR", required=True, help="folder of the outputs")
    batch.add_argument("--container", choices=get_args(tts_infer.Container), default="wav", help="default: wav")
    batch.add_argument("--journal", metavar="FILE", help="where progress is kept (default: DIR.journal)")
    batch.add_argument("--engine", choices=get_args(tts_infer.EngineName), default="local", help="default: local")
    batch.add_argument("--ray-address", metavar="A", help="of a running Ray cluster (default: one on this machine)")
    add_vocoder_arguments(batch)
    _add_output_arguments(batch)
    batch.set_defaults(run=_batch)

    evaluate = commands.add_parser("evaluate", help="copy files, and measure how close the copies are")
    evaluate_command.add_arguments(evaluate)
    add_vocoder_arguments(evaluate, several=True)
    evaluate.set_defaults(run=_evaluate)

    vocoders = commands.add_parser("vocoders", help="list the known vocoders, or show one")
    vocoders_command.add_arguments(vocoders)
    vocoders.set_defaults(run=vocoders_command.run)
    return parser


def add_vocoder_arguments(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """The options that say which vocoder, or which several ones, run where: one per argument of `load_vocoder`."""
    group = parser.add_argument_group("vocoder")
    group.add_argument(
        "--vocoder",
        default=None if several else tts_infer.DEFAULT_VOCODER,
        action="append" if several else "store",
        metavar="V",
        help=f"known name, local directory, weights file or Hub id (default: {tts_infer.DEFAULT_VOCODER})"
        + ("; repeatable" if several else ""),
    )
    group.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub repository")
    group.add_argument(
        "--config", metavar="C", help="config.yaml for weights without one, or the known vocoder whose mels they take"
    )
    group.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps, ... (default: auto)")
    group.add_argument(
        "--placement",
        metavar="P",
        help=f"stage=device[/method],... or a YAML file, or one of: {', '.join(tts_infer.named_placements())}",
    )
    for stage in ("mel", "istft"):
        group.add_argument(
            f"--{stage}",
            choices=get_args(tts_infer.MethodChoice),
            default="auto",
            help=f"method of the {stage} stage (default: auto)",
        )
    group.add_argument(
        "--dtype",
        choices=get_args(tts_infer.DTypeName),
        default="float32",
        help="of the matrix products in backbone and head (default: %(default)s)",
    )
    group.add_argument(
        "--refine",
        type=int,
        action="append" if several else "store",
        metavar="N",
        help="passes that pull the audio's mel to the given one (default: what suits the vocoder)"
        + ("; repeatable" if several else ""),
    )


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sample-format",
        choices=get_args(tts_infer.SampleFormat),
        default="pcm16",
        help="how samples are stored (default: %(default)s; float32 never clips)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def load_from(args: argparse.Namespace, name: str | None = None) -> Vocoder:
    """The vocoder that `add_vocoder_arguments` describes; of several, the one of that name."""
    return tts_infer.load_vocoder(
        name or args.vocoder,
        device=args.device,
        placement=args.placement,
        mel=args.mel,
        istft=args.istft,
        dtype=args.dtype,
        refine=None if name else args.refine,
        revision=args.revision,
        config=args.config,
    )


def _decode(args: argparse.Namespace) -> int:
    if (args.output is None) != args.stream:
        raise tts_infer.InputError("give either -o OUT, or --stream")
    here, there = ("--stream", "-o OUT") if args.stream else ("-o OUT", "--stream")
    for name, default in (_OF_FILES if args.stream else _OF_STREAMS).items():
        if getattr(args, name) != default:
            raise tts_infer.InputError(f"--{name.replace('_', '-')} goes with {there}, not with {here}")
    if not os.path.isfile(args.input):  # before a vocoder is fetched
        raise tts_infer.FileError(f"no such file: {args.input}")
    return _decode_to_stdout(args) if args.stream else _decode_to_file(args)


def _decode_to_file(args: argparse.Namespace) -> int:
    tts_infer.check_writable(args.output, args.sample_format)
    vocoder = load_from(args)
    made = tts_infer.synthesize_file(vocoder, args.input, args.output, sample_format=args.sample_format)
    names = {"input": args.input, "output": args.output, "vocoder": vocoder.name}
    report = names | dataclasses.asdict(made) | {"seconds": made.seconds, "rtfx": made.rtfx}
    print(json.dumps(report) if args.json else f"{args.output}: {made.as_text(vocoder.name)}")
    return 0


def _decode_to_stdout(args: argparse.Namespace) -> int:
    """`tts-infer decode IN --stream | aplay` sounds before all is decoded."""
    if args.stream_frames < 1:
        raise tts_infer.InputError(f"--stream-frames is {args.stream_frames}; it must be at least 1")
    vocoder, lookahead = load_from(args), args.lookahead
    stream = vocoder.stream(int(lookahead) if re.fullmatch("[0-9]{1,9}", lookahead) else lookahead)
    mel = _mel(args.input, vocoder)
    samples = vocoder.head.istft.n_samples(mel.shape[-1])
    before = b"" if args.raw else _wav_header(vocoder.sample_rate, samples)
    for piece in stream.decode(mel.split(args.stream_frames, dim=-1)):
        sys.stdout.buffer.write(before + tts_infer.to_int16(piece[0])[0].astype("<i2").tobytes())
        sys.stdout.buffer.flush()
        before = b""
    return 0


def _mel(path: str, vocoder: Vocoder) -> Tensor:
    """The one mel of a file, or that of its audio, as the suffix says."""
    if Path(path).suffix.lower() not in tts_infer.FEATURE_SUFFIXES:
        samples = tts_infer.read_audio(path, vocoder.sample_rate).samples
        try:
            return vocoder.mel(samples)
        except tts_infer.InputError as error:
            raise tts_infer.InputError(f"{path}: {error}") from None
    return tts_infer.read_mel(path, vocoder.n_mels)


def _wav_header(sample_rate: int, samples: int) -> bytes:
    """Complete from the start: a pipe cannot be rewound to mend it."""
    if 2 * samples > 2**32 - 64:  # its sizes are of 32 bits
        raise tts_infer.InputError(f"{samples} samples are more than a WAV holds; give --raw")
    header = io.BytesIO()
    with wave.open(header, "wb") as wav:
        wav.setparams((1, 2, sample_rate, samples, "NONE", ""))
        wav.writeframesraw(b"")
        return header.getvalue()


def _batch(args: argparse.Namespace) -> int:
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
            engine=args.engine,
            ray_address=args.ray_address,
        )
    if args.json:
        print(json.dumps(dataclasses.asdict(report) | {"rtfx": report.rtfx}))
    else:
        print(f"{'done':<10}{len(report.outputs):>8} files{sum(report.outputs.values()):>12.1f} s of audio")
        print(
            f"{'this run':<10}{report.made:>8} files{report.seconds:>12.1f} s of audio in {report.wall_s:.1f} s", end=""
        )
        print(f", {report.rtfx:.0f} x real time, {report.clipped_samples} samples clipped")
        print(f"{'failed':<10}{len(report.failed):>8} files")
        for output, reason in report.failed.items():
            print(f"  {output}: {reason}")
    return 1 if report.failed else 0


def _evaluate(args: argparse.Namespace) -> int:
    names = args.vocoder or [tts_infer.DEFAULT_VOCODER]
    for option in ("revision", "config"):
        if getattr(args, option) is not None and len(names) > 1:
            raise tts_infer.InputError(
                "--{option} goes with one --vocoder; there are {count}",
                code="option-of-one-vocoder",
                option=option,
                count=len(names),
            )
    return evaluate_command.run(args, lambda: [load_from(args, name) for name in names])
