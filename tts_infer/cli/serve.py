"""`tts-infer serve`: answer requests over HTTP until interrupted."""

from __future__ import annotations

import argparse
import os
import sys
import warnings

import tts_infer
from tts_infer.cli.arguments import add_vocoder_arguments, load_from

KEY_VARIABLE = "TTS_INFER_API_KEY"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `serve`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 is any free one (default: %(default)s)")
    parser.add_argument(
        "--voice", action="append", metavar="V", help="that speaks (default: the first one installed); repeatable"
    )
    group = parser.add_argument_group("who may use it")
    group.add_argument("--api-key", metavar="KEY", help=f"that clients must send (default: ${KEY_VARIABLE}, or none)")
    group.add_argument(
        "--cors", action="append", metavar="ORIGIN", help="web pages that may use it, or * for all; repeatable"
    )
    group.add_argument(
        "--allow-host", action="append", metavar="NAME", help="further name that it is called by; repeatable"
    )
    limits, defaults = parser.add_argument_group("limits"), tts_infer.ServerSettings()
    for option, about in (
        ("streams", "answers that are computed at once"),
        ("queue", "further requests that wait; more are told to come again"),
        ("max-bytes", "of a request"),
        ("max-characters", "of a text"),
    ):
        default = getattr(defaults, option.replace("-", "_"))
        limits.add_argument(f"--{option}", type=int, default=default, metavar="N", help=f"{about} (default: {default})")
    add_vocoder_arguments(parser, several=True)


def run(args: argparse.Namespace) -> int:
    """Answer requests until the process is interrupted or asked to end.

    Returns:
        0.
    """
    tts_infer.limit_memory()  # requests are of any length
    settings = tts_infer.ServerSettings(
        api_key=args.api_key or os.environ.get(KEY_VARIABLE) or None,
        cors=tuple(args.cors or ()),
        hosts=tuple(args.allow_host or ()),
        streams=args.streams,
        queue=args.queue,
        max_bytes=args.max_bytes,
        max_characters=args.max_characters,
    )
    warnings.simplefilter("ignore", tts_infer.TextLeftOutWarning)  # each answer names what is left out
    vocoders = [load_from(args, name) for name in args.vocoder or [tts_infer.DEFAULT_VOCODER]]
    speakers = tts_infer.load_speakers(vocoders, args.voice or (), args.device)
    if not speakers:
        print("tts-infer: no voice is installed, so it decodes only; pip install 'tts-infer[speak]'", file=sys.stderr)
    tts_infer.serve(vocoders, args.host, args.port, settings, speakers, _tell)
    return 0


def _tell(address: str) -> None:
    print(f"tts-infer: listening on {address}", file=sys.stderr, flush=True)
