"""Options that several commands share."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import BinaryIO, get_args

import tts_infer
from tts_infer import System, Vocoder


def standard_output() -> BinaryIO:
    """Standard output, for audio.

    Raises:
        FileError: it is closed; what stands in its place, so that reports may be printed, takes no audio.
    """
    if sys.__stdout__ is None:
        raise tts_infer.FileError("standard output is closed; give the name of a file (-o OUT)", code="stdout-closed")
    return sys.stdout.buffer


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """The option `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of commands that write audio files."""
    parser.add_argument(
        "--sample-format",
        choices=get_args(tts_infer.SampleFormat),
        default="pcm16",
        help="how samples are stored (default: %(default)s; float32 never clips)",
    )
    add_json_argument(parser)


def add_vocoder_arguments(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """The options that select one or several vocoders and their placement: one per argument of `load_vocoder`."""
    _add_settings(parser.add_argument_group("vocoder"), several, placements=False)


def add_contestant_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that select several vocoders, engines, placements and passes, for `contestants_from`."""
    group = parser.add_argument_group("vocoder")
    group.add_argument(
        "--engine",
        action="append",
        metavar="E",
        help="of every stage that it can run, such as onnxruntime; or vocos, the official package; or griffin-lim; "
        "repeatable",
    )
    _add_settings(group, several=True, placements=True)


def _add_settings(group: argparse._ArgumentGroup, several: bool, placements: bool) -> None:
    _add_weights(group, several)
    _add_placement(group, placements)
    group.add_argument(
        "--dtype",
        choices=get_args(tts_infer.DTypeChoice),
        default="float32",
        help="of the products in networks; auto: bfloat16 where it was measured to be faster (default: %(default)s)",
    )
    group.add_argument("--no-cache", action="store_true", help="measure anew what suits this machine, and keep it")
    group.add_argument(
        "--refine",
        type=int,
        action="append" if several else "store",
        metavar="N",
        help="passes that pull the audio's mel to the given one (default: what suits the vocoder)"
        + "; repeatable" * several,
    )


def _add_weights(group: argparse._ArgumentGroup, several: bool) -> None:
    group.add_argument(
        "--vocoder",
        default=None if several else tts_infer.DEFAULT_VOCODER,
        action="append" if several else "store",
        metavar="V",
        help=f"known name, local directory, weights file, .onnx file or Hub id (default: {tts_infer.DEFAULT_VOCODER})"
        + "; repeatable" * several,
    )
    group.add_argument("--revision", metavar="R", help="branch, tag or commit of a Hub repository")
    group.add_argument(
        "--config", metavar="C", help="config.yaml for weights without one, or the known vocoder whose mels they take"
    )
    group.add_argument("--convention", metavar="C", help=f"of mels: {', '.join(tts_infer.CONVENTIONS)}")
    group.add_argument(
        "--no-convention-check", action="store_true", help="do not warn of mels that look like another convention's"
    )


def _add_placement(group: argparse._ArgumentGroup, several: bool) -> None:
    group.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, mps, ... (default: auto)")
    group.add_argument(
        "--placement",
        action="append" if several else "store",
        metavar="P",
        help=f"stage=device[/engine][/method],... or a YAML file, or one of: {', '.join(tts_infer.named_placements())}"
        + "; repeatable" * several,
    )
    for stage in ("mel", "istft"):
        group.add_argument(
            f"--{stage}",
            choices=get_args(tts_infer.MethodChoice),
            default="auto",
            help=f"method of the {stage} stage (default: auto)",
        )


def contestants_from(args: argparse.Namespace) -> list[System]:
    """Load every combination that the options of `add_contestant_arguments` select."""
    names = args.vocoder or [tts_infer.DEFAULT_VOCODER]
    for option in ("revision", "config"):
        if getattr(args, option) is not None and len(names) > 1:
            text = "--{option} goes with one --vocoder; there are {count}"
            raise tts_infer.InputError(text, code="cli-option-of-several", option=option, count=len(names))
    settings = (args.engine or ["auto"], args.placement or [None], args.refine or [None])
    return tts_infer.contestants(names, *settings, istft=[args.istft], dtypes=[args.dtype], load=partial(_load, args))


def load_from(args: argparse.Namespace, name: str | None = None, engine: str = "auto") -> Vocoder:
    """Load the vocoder that the options of `add_vocoder_arguments` select; of several, the one of that name."""
    return _load(
        args,
        name or args.vocoder,
        engine=engine,
        placement=args.placement,
        istft=args.istft,
        dtype=args.dtype,
        refine=None if name else args.refine,
    )


def _load(
    args: argparse.Namespace,
    name: str,
    *,
    engine: str,
    placement: str | None,
    istft: tts_infer.MethodChoice,
    dtype: tts_infer.DTypeChoice,
    refine: int | None = None,
) -> Vocoder:
    return tts_infer.load_vocoder(
        name,
        device=args.device,
        placement=placement,
        engine=engine,
        mel=args.mel,
        istft=istft,
        dtype=dtype,
        refine=refine,
        revision=args.revision,
        config=args.config,
        cache=not args.no_cache,
        convention=args.convention,
        check_convention=not args.no_convention_check,
    )
