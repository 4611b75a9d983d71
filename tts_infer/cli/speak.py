"""`tts-infer speak`: a text to a file, or as a stream to stdout."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys

import tts_infer
from tts_infer import Speaker
from tts_infer.cli.arguments import add_output_arguments, standard_output

# The header of a stream must state a length before it is known: one that no speech reaches (a day at 24 kHz).
_STREAM_SAMPLES = 2**31 - 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `speak`."""
    voices = ", ".join(
        f"{voice['front_end']}/{voice['name']}" if voice["from_recording"] else voice["name"]
        for voice in tts_infer.list_voices()
    )
    parser.add_argument("text", metavar="TEXT", help="what to say; a text file; or - for stdin")
    parser.add_argument("-o", "--output", metavar="OUT", help=".wav or .flac file to write")
    parser.add_argument("--stream", action="store_true", help="write a 16-bit WAV to stdout instead, as it is made")
    parser.add_argument("--raw", action="store_true", help="with --stream: samples without the WAV header")
    parser.add_argument("--voice", metavar="V", help=f"one of: {voices} (default: the first)")
    parser.add_argument("--speed", type=float, default=1.0, metavar="S", help="0.25 to 4 (default: 1, the voice's own)")
    parser.add_argument("--seed", type=int, metavar="N", help="of what is random (default: another one each time)")
    parser.add_argument(
        "--vocoder", metavar="V", help="decode by this vocoder: a known name, directory or Hub id (default: none)"
    )
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps, ... (default: auto)")
    parser.add_argument("--placement", metavar="P", help="of the voice's stages: stage=device[/engine][/method],...")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Speak a text.

    Returns:
        0.
    """
    _check(args)
    text = _read(args.text)
    speaker = tts_infer.load_speaker(args.voice, vocoder=args.vocoder, device=args.device, placement=args.placement)
    return _to_stdout(speaker, text, args) if args.stream else _to_file(speaker, text, args)


def _check(args: argparse.Namespace) -> None:
    """Refuse what can be refused before a voice is loaded."""
    if (args.output is None) != args.stream:
        raise tts_infer.InputError("give either -o OUT, or --stream", code="cli-one-output")
    here, there = ("--stream", "-o OUT") if args.stream else ("-o OUT", "--stream")
    of_files = {"--json": args.json, "--sample-format": args.sample_format != "pcm16"}
    for option, given in (of_files if args.stream else {"--raw": args.raw}).items():
        if given:
            text = "{option} goes with {there}, not with {here}"
            raise tts_infer.InputError(text, code="cli-other-output", option=option, there=there, here=here)
    if args.stream:
        standard_output()
    else:
        tts_infer.check_writable(args.output, args.sample_format)


def _read(text: str) -> str:
    """The text: that of stdin, that of a file, or the argument itself."""
    if text != "-" and not _is_file(text):
        if re.fullmatch(r"(?i)\S+\.(txt|md|text|srt|json|csv)", text):
            raise tts_infer.FileError(
                "no such text file: {path}; give a file, or these words by standard input (-)",
                code="text-not-found", path=text,
            )  # fmt: skip
        return text
    if text == "-" and sys.stdin is None:
        raise tts_infer.FileError("standard input is closed; give the text itself, or a file", code="text-stdin-closed")
    return tts_infer.read_text(sys.stdin if text == "-" else text)


def _is_file(text: str) -> bool:
    """Whether the argument names a file; a text may be too long for a name."""
    try:
        return os.path.isfile(text)
    except (OSError, ValueError):
        return False


def _to_file(speaker: Speaker, text: str, args: argparse.Namespace) -> int:
    made = speaker.save(text, args.output, speed=args.speed, seed=args.seed, sample_format=args.sample_format)
    report = {"output": args.output, **dataclasses.asdict(made), "rtfx": made.rtfx}
    about = (
        f"{args.output}: {made.seconds:.2f} s of speech in {made.total_ms:.0f} ms, {made.rtfx:.1f} x real time, "
        f"first audio after {made.first_audio_ms:.0f} ms ({made.voice}, {made.vocoder or 'own audio'})"
    )
    if made.clipped_samples:
        about += f"; {made.clipped_samples} samples clipped"
    print(json.dumps(report) if args.json else about)
    return 0


def _to_stdout(speaker: Speaker, text: str, args: argparse.Namespace) -> int:
    """`tts-infer speak - --stream < story.txt | aplay` plays while the rest is still spoken."""
    stream = speaker.stream(text, speed=args.speed, seed=args.seed)
    header = tts_infer.wav_header(speaker.sample_rate, _STREAM_SAMPLES, comments=speaker.comments)
    before = b"" if args.raw else header
    for piece in stream:
        standard_output().write(before + tts_infer.to_int16(piece[0])[0].astype("<i2").tobytes())
        standard_output().flush()
        before = b""
    return 0
