"""The command line: `python -m tts_infer`. Parsing, running and reporting apart.

Exit codes: 0 done, 1 some inputs failed, 2 bad usage or bad input. An error is one line on stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, get_args

from torch import Tensor
from tqdm import tqdm

import tts_infer
from tts_infer import AudioClip, Vocoder

Command = Callable[[argparse.Namespace], int]


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
    args = _parser().parse_args(argv)
    run: Command = args.run
    try:
        return run(args)
    except tts_infer.TTSInferError as error:
        print(f"tts-infer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read stdout has seen enough; Python would complain once more when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tts-infer", description="Neural vocoders: mel spectrograms in, waveforms out.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    decode = commands.add_parser("decode", help="one file: decode features, or copy audio")
    decode.add_argument("input", metavar="IN", help=f"audio, or features ({', '.join(tts_infer.FEATURE_SUFFIXES)})")
    decode.add_argument("-o", "--output", metavar="OUT", help=".wav or .flac file to write")
    decode.add_argument("--stream", action="store_true", help="write a WAV to stdout instead, while decoding")
    decode.add_argument("--raw", action="store_true", help="with --stream: 16-bit samples without the WAV header")
    decode.add_argument("--stream-frames", type=int, default=64, metavar="N", help="frames a piece (default: 64)")
    decode.add_argument("--lookahead", default="full", metavar="N", help="frames; fewer come earlier (default: full)")
    add_vocoder_arguments(decode)
    _add_output_arguments(decode)
    decode.set_defaults(run=_decode)

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
    tts_infer.evaluate_command.add_arguments(evaluate)
    add_vocoder_arguments(evaluate, several=True)
    evaluate.set_defaults(run=_evaluate)

    vocoders = commands.add_parser("vocoders", help="list the known vocoders")
    vocoders.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    vocoders.set_defaults(run=_vocoders)
    return parser


def add_vocoder_arguments(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """The options that say which vocoder, or which several ones, run where: one per argument of `load_vocoder`."""
    group = parser.add_argument_group("vocoder")
    group.add_argument(
        "--vocoder",
        default=None if several else tts_infer.DEFAULT_VOCODER,
        action="append" if several else "store",
        metavar="V",
        help=f"known name, local directory or Hub id (default: {tts_infer.DEFAULT_VOCODER})"
        + ("; repeatable" if several else ""),
    )
    group.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub repository")
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
    )


def _decode(args: argparse.Namespace) -> int:
    if (args.output is None) != args.stream or (args.raw and not args.stream):
        raise tts_infer.InputError("give either -o OUT, or --stream (and with it, if wanted, --raw)")
    return _decode_to_stdout(args) if args.stream else _decode_to_file(args)


def _decode_to_file(args: argparse.Namespace) -> int:
    tts_infer.check_writable(args.output, args.sample_format)
    if not os.path.isfile(args.input):  # before a vocoder is fetched
        raise tts_infer.FileError(f"no such file: {args.input}")
    vocoder = load_from(args)
    made = tts_infer.synthesize_file(vocoder, args.input, args.output, sample_format=args.sample_format)
    names = {"input": args.input, "output": args.output, "vocoder": vocoder.name}
    report = names | dataclasses.asdict(made) | {"seconds": made.seconds, "xrt": made.xrt}
    print(json.dumps(report) if args.json else _as_text(report))
    return 0


def _decode_to_stdout(args: argparse.Namespace) -> int:
    """`tts-infer decode IN --stream | aplay` sounds before all is decoded."""
    lookahead = args.lookahead if args.lookahead == "full" else _whole_number("--lookahead", args.lookahead, 0)
    frames = _whole_number("--stream-frames", args.stream_frames, 1)
    content = _read(args.input)
    vocoder = load_from(args)
    if isinstance(content, AudioClip):
        content = vocoder.mel(tts_infer.resample(content, vocoder.sample_rate).samples)
    audio = vocoder.stream(lookahead).decode(content.split(frames, dim=-1))
    out: BinaryIO | wave.Wave_write = sys.stdout.buffer
    if not args.raw:
        out = wave.open(sys.stdout.buffer, "wb")  # noqa: SIM115  closing would end stdout, too
        out.setparams((1, 2, vocoder.sample_rate, vocoder.head.istft.n_samples(content.shape[-1]), "NONE", ""))
    for piece in audio:
        _require_one(piece, args.input)
        samples = tts_infer.to_int16(piece[0])[0].tobytes()
        # writeframesraw leaves the header as it is: the number of samples is known, and a pipe cannot be rewound
        out.writeframesraw(samples) if isinstance(out, wave.Wave_write) else out.write(samples)
        sys.stdout.buffer.flush()
    return 0


def _read(path: str) -> Tensor | AudioClip:
    """Features, or audio at its own rate, as the suffix says."""
    if Path(path).suffix.lower() in tts_infer.FEATURE_SUFFIXES:
        return tts_infer.read_features(path)
    return tts_infer.read_audio(path)


def _require_one(audio: Tensor, path: str) -> None:
    if audio.shape[0] != 1:
        raise tts_infer.InputError(f"{path} holds a batch of {audio.shape[0]}; decode writes one file")


def _whole_number(option: str, text: str | int, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise tts_infer.InputError(f"{option} is {text}; it must be a whole number of at least {least}")
    return number


def _as_text(report: dict[str, Any]) -> str:
    lines = [f"{report['output']}: {report['seconds']:.2f} s at {report['sample_rate']} Hz, {report['vocoder']}"]
    lines += [f"{'stage':<10}{'device':<16}{'method':<10}{'ms':>9}{'share':>8}{'moved':>12}"]
    total = sum(row["ms"] for row in report["stages"]) or 1.0
    for row in report["stages"]:
        moved = f"{row['bytes']} B" if row["bytes"] else ""
        share = f"{100 * row['ms'] / total:.0f} %"
        lines += [f"{row['stage']:<10}{row['device']:<16}{row['method']:<10}{row['ms']:>9.2f}{share:>8}{moved:>12}"]
    lines += [f"total {report['total_ms']:.2f} ms, {report['xrt']:.1f} x real time"]
    if report["clipped_samples"]:
        lines += [f"{report['clipped_samples']} samples clipped to full scale; --sample-format float32 keeps them"]
    if report.get("log_mel_error_db") is not None:
        lines += [f"log-mel error of the copy {report['log_mel_error_db']:.2f} dB"]
    return "\n".join(lines)


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
        print(json.dumps(dataclasses.asdict(report) | {"xrt": report.xrt}))
    else:
        print(f"{'done':<10}{len(report.outputs):>8} files{sum(report.outputs.values()):>12.1f} s of audio")
        print(
            f"{'this run':<10}{report.made:>8} files{report.seconds:>12.1f} s of audio in {report.wall_s:.1f} s", end=""
        )
        print(f", {report.xrt:.0f} x real time, {report.clipped_samples} samples clipped")
        print(f"{'failed':<10}{len(report.failed):>8} files")
        for output, reason in report.failed.items():
            print(f"  {output}: {reason}")
    return 1 if report.failed else 0


def _evaluate(args: argparse.Namespace) -> int:
    names = args.vocoder or [tts_infer.DEFAULT_VOCODER]
    if args.revision is not None and len(names) > 1:
        raise tts_infer.InputError(f"--revision goes with one --vocoder; there are {len(names)}")
    return tts_infer.evaluate_command.run(args, lambda: [load_from(args, name) for name in names])


def _vocoders(args: argparse.Namespace) -> int:
    rows = [
        {
            "name": known.name,
            "where": known.repo_id or "embedded",
            "sample_rate": known.mel.sample_rate,
            "n_mels": known.mel.n_mels,
            "license": known.license,
            "description": known.description,
        }
        for known in tts_infer.known_vocoders().values()
    ]
    if args.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        print(f"{row['name']:<28}{row['sample_rate']:>6} Hz {row['n_mels']:>4} mels  {row['where']}")
        print(f"    {row['description']} License: {row['license']}.")
    return 0
