"""What the tabs share: cached vocoders, reports, messages. The page calls the package from here and the tabs only."""

from __future__ import annotations

import copy
import functools
import html
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import gradio as gr
import numpy as np
import torch

import tts_infer
from ui.texts import Words, in_language

AUTO: Final = "auto"
NO_AUDIO = "There is no audio yet: drop or record a clip, or pick an example."
NO_MEL = "There is no mel spectrogram yet: drop a .npy, .npz, .safetensors or .pt file."
TOO_SHORT = "The input is one mel frame long, which gives no audio; two frames are the shortest."
TOO_LOUD = "The mel is far louder than any audio: natural logarithms of magnitudes at full scale end below 9."
UNFORESEEN = "This was not foreseen: something went wrong on the server, and its log says what."
# Passes of refinement on offer; "auto" is what suits the vocoder.
Refine = Literal["auto", "0", "1", "2", "4", "8", "16"]
Report = dict[str, Any]
Int16Audio = tuple[int, np.ndarray]

# Uploads and results are removed an hour after they were made, and when the server stops.
KEEP_S = 3600
# Messages go again: one that outlives its mistake would cover what has come since.
SHOWN_S = 30
# One group for everything that computes: calls wait for each other instead of fighting for the same device.
COMPUTE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "compute"}


@dataclass(frozen=True)
class View:
    """What the page draws of a synthesis. It is all that the server keeps of one, and that until it is drawn."""

    report: Report
    mel_config: tts_infer.MelConfig
    input_mel: torch.Tensor
    output_mel: torch.Tensor


@dataclass(frozen=True)
class Result:
    """One synthesis."""

    waveform: torch.Tensor  # (T,), as the vocoder gave it
    audio: Int16Audio
    view: View


def load(
    name: str,
    device: str = AUTO,
    placement: str | None = None,
    istft: tts_infer.MethodChoice = AUTO,
    dtype: tts_infer.DTypeName = "float32",
    refine: Refine = AUTO,
) -> tts_infer.Vocoder:
    """A vocoder ready to run; the last few are kept, each once for every choice of `refine`.

    Raises:
        InputError: a choice of `refine` that is not on offer; and see `load_vocoder`.
    """
    if refine not in get_args(Refine):
        raise tts_infer.InputError(f"refine is {refine!r}; allowed: {', '.join(get_args(Refine))}")
    vocoder = kept(name, device, placement, istft, dtype)
    if refine != AUTO:
        vocoder = copy.copy(vocoder)  # another default for the same stages
        vocoder.refine = int(refine)
    return vocoder


@functools.lru_cache(maxsize=8)
def kept(
    name: str, device: str, placement: str | None, istft: tts_infer.MethodChoice, dtype: tts_infer.DTypeName
) -> tts_infer.Vocoder:
    """A vocoder with its stages in place."""
    return tts_infer.load_vocoder(name, device=device, placement=placement, istft=istft, dtype=dtype)


def placed(*devices: str) -> str | None:
    """The devices of the stages as a placement; those on "auto" are left to the device of the rest."""
    pairs = zip(("mel", "backbone", "head", "istft"), devices, strict=True)
    return ",".join(f"{stage}={device}" for stage, device in pairs if device != AUTO) or None


def read_samples(path: str | Path, sample_rate: int) -> torch.Tensor:
    """An audio file as a batch of one, at the vocoder's rate. Shape: (1, T)"""
    return torch.from_numpy(tts_infer.read_audio(path, sample_rate=sample_rate).samples)[None]


def run(model: tts_infer.Vocoder, *, audio: torch.Tensor | None = None, mel: torch.Tensor | None = None) -> Result:
    """Copy audio or decode a mel, and measure what came out.

    Raises:
        InputError: the input is so short that there is no output; and see `Vocoder.synthesize`.
    """
    return measured(model, model.synthesize(mel, audio=audio))


def measured(model: tts_infer.Vocoder, result: tts_infer.Synthesis) -> Result:
    """Compare what came out with what went in.

    Raises:
        InputError: nothing came out, or what no mel of audio gives.
    """
    if result.audio.numel() == 0:
        raise tts_infer.InputError(TOO_SHORT)
    samples, clipped = tts_infer.to_int16(result.audio[0])
    try:
        input_mel, output_mel = result.features.cpu(), model.mel(result.audio).cpu()
    except tts_infer.InputError:  # of what it takes for a user's audio
        raise tts_infer.InputError(TOO_LOUD) from None
    report = {
        "vocoder": model.name,
        "sample_rate": result.sample_rate,
        "seconds": result.seconds,
        "total_ms": result.total_ms,
        "rtfx": result.rtfx,
        "peak": float(result.audio.abs().max()),
        "clipped_samples": clipped,
        "log_mel_error_db": tts_infer.log_mel_error_db(input_mel, output_mel, model.mel_config),
        "refine": model.refine,
        "stages": result.stages,
    }
    view = View(report, model.mel_config, input_mel[0], output_mel[0])
    return Result(result.audio[0].cpu(), (result.sample_rate, samples), view)


@contextmanager
def shown_errors(words: Words, *uploads: str | None) -> Iterator[None]:
    """Show the package's errors, which are sentences for people, as messages on the page.

    Any other exception is logged, and said to have happened.

    Args:
        words: translates the page's own messages.
        uploads: paths of the user's files; messages give their names, not the server's folders.
    """
    try:
        yield
    except tts_infer.TTSInferError as error:
        message = in_language(words, str(error))
        for path in uploads:
            message = message.replace(path, Path(path).name) if path else message
        # shown as HTML, but read by programs, too
        raise gr.Error(html.escape(message, quote=False), duration=SHOWN_S, print_exception=False) from error
    except gr.Error:
        raise
    except Exception as error:  # whatever it is: Gradio would log it and show nothing, and a visitor would wait
        raise gr.Error(words(UNFORESEEN), duration=SHOWN_S) from error
