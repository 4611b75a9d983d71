"""The command line: `python -m tts_infer`. Each command is a module with `add_arguments(parser)` and `run(args)`.

Exit codes: 0 done, 1 some inputs or checks failed, 2 bad usage or bad input. An error is one line on stderr.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import tts_infer
from tts_infer.cli import batch, compare, decode, doctor, evaluate, export, serve, speak, vocoders

_COMMANDS = {
    "decode": (decode, "one file: decode features, or copy audio"),
    "speak": (speak, "a text to speech, and any vocoder behind it"),
    "doctor": (doctor, "what this machine has, what runs where and why; operator audit"),
    "batch": (batch, "many files, in batches, resumable"),
    "evaluate": (evaluate, "copy files, and measure how close the copies are"),
    "compare": (compare, "one input by several engines, vocoders, placements: times, memory, errors"),
    "export": (export, "write a vocoder as one ONNX file, for other runtimes"),
    "serve": (serve, "speech and decoding over HTTP, in the form of OpenAI's API"),
    "vocoders": (vocoders, "list the known vocoders, or show one"),
}


_NO_MEMORY = "there is not enough memory; end other programs, or give a smaller input or vocoder"


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
    _repair_streams()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _printer(warnings.showwarning)
            return _run(argv)
    except tts_infer.TTSInferError as error:
        print("tts-infer:", str(error).replace("\n", "\\n"), file=sys.stderr)  # a name may hold a line break
        return 2
    except KeyboardInterrupt:
        return 130
    except (MemoryError, RuntimeError, OSError) as error:
        if _is_lack_of_memory(error):
            print(f"tts-infer: {_NO_MEMORY}", file=sys.stderr)
            return 2
        if not isinstance(error, OSError):
            raise
        if error.filename is None:  # the error is about stdout; Python would report it again when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader of stdout has left, which is no mistake
            return 0
        print(f"tts-infer: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        return 2


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether the system gave no memory: numpy, torch and the C++ under it each have words of their own."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    # the last one is oneDNN's, which gives no reason; loading has tried what a vocoder needs
    words = ("allocate memory", "out of memory", "bad_alloc", "could not create a primitive")
    return any(one in str(error) for one in words)


def _printer(other: Callable[..., None]) -> Callable[..., None]:
    """What shows warnings: our own as one line, and the others as before."""

    def show(message: Warning | str, *rest: Any, **named: Any) -> None:
        if isinstance(message, (tts_infer.MelConventionWarning, tts_infer.TextLeftOutWarning, tts_infer.AudioWarning)):
            print("tts-infer: warning:", message, file=sys.stderr)
        else:
            other(message, *rest, **named)

    return show


def _repair_streams() -> None:
    """Replace closed streams by the null device, and let stdout escape names that its encoding lacks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for the life of the process
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
        return int(args.run(args))
    finally:
        print(end="", flush=True)  # now, while a failure can still be reported


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tts-infer", description="Neural vocoders: mel spectrograms in, waveforms out.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (command, about) in _COMMANDS.items():
        subparser = commands.add_parser(name, help=about)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser
