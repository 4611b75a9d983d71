"""What the tabs share: loaded vocoders, inputs, results, and messages about errors."""

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
from ui.texts import Translator, translator

AUTO: Final = "auto"
# Numbers of refinement passes that the page offers; "auto" uses the number that suits the vocoder.
Refine = Literal["auto", "0", "1", "2", "4", "8", "16"]
Kind = Literal["audio", "mel"]  # of an input
Report = dict[str, Any]
Int16Audio = tuple[int, np.ndarray]

# Uploads and results are removed an hour after they were made, and when the server stops.
KEEP_S = 3600
# Error messages close after 30 s so that they don't hide newer results.
SHOWN_S = 30
# One group for everything that computes: calls wait for each other instead of competing for the same device.
COMPUTE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "compute"}


@dataclass(frozen=True)
class View:
    """What the page draws of a synthesis. The server keeps nothing else of it, and drops this once it is drawn."""

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
    placement: str = AUTO,
    istft: tts_infer.MethodChoice = AUTO,
    dtype: tts_infer.DTypeName = "float32",
    refine: Refine = AUTO,
) -> tts_infer.Vocoder:
    """Load a vocoder. The last few stay loaded, each once for all values of `refine`.

    Raises:
        InputError: a value of `refine` that the page does not offer; and see `load_vocoder`.
        PlacementError: see `load_vocoder`; or a file of the server.
    """
    if refine not in get_args(Refine):
        allowed = ", ".join(get_args(Refine))
        raise tts_infer.InputError(
            "refine is {refine!r}; allowed: {allowed}", code="page-refine", refine=refine, allowed=allowed
        )
    vocoder = kept(name, device, _spec(placement), istft, dtype)
    if refine != AUTO:
        vocoder = copy.copy(vocoder)  # another default for the same stages
        vocoder.refine = int(refine)
    return vocoder


def _spec(placement: str | None) -> str | None:
    """A choice of the page as `load_vocoder` takes it."""
    if placement in (None, "", AUTO):
        return None
    if placement in tts_infer.named_placements() or "=" in placement:
        return placement
    # load_vocoder would also read a file of that name, but visitors must not read the server's files
    raise tts_infer.PlacementError(
        "placement {placement!r} is unknown; write stage=device[,stage=device...], or choose one of: {names}",
        code="page-placement",
        placement=placement,
        names=", ".join([AUTO, *tts_infer.named_placements()]),
    )


@functools.lru_cache(maxsize=8)
def kept(
    name: str, device: str, placement: str | None, istft: tts_infer.MethodChoice, dtype: tts_infer.DTypeName
) -> tts_infer.Vocoder:
    """A vocoder with its stages in place."""
    return tts_infer.load_vocoder(name, device=device, placement=placement, istft=istft, dtype=dtype)


def kind_of(path: Path) -> Kind:
    """What a file holds, by its extension."""
    return "mel" if tts_infer.holds_features(path) else "audio"


def given(kind: Kind, path: str | None) -> str:
    """The path of an input that the visitor must give.

    Raises:
        InputError: it is missing.
    """
    if path is not None:
        return path
    if kind == "audio":
        raise tts_infer.InputError(
            "There is no audio yet: drop or record a clip, or pick an example.", code="page-no-audio"
        )
    raise tts_infer.InputError(
        "There is no mel spectrogram yet: drop a {suffixes} file.",
        code="page-no-mel",
        suffixes=", ".join(tts_infer.FEATURE_SUFFIXES),
    )


def read_input(model: tts_infer.Vocoder, kind: Kind, path: str | Path) -> torch.Tensor:
    """An input as a batch of one: audio at the vocoder's rate, or a mel.

    Shape: (1, T) or (1, n_mels, L)
    Raises:
        FileError, InputError, InputTypeError: see `read_audio` and `read_mel`.
    """
    if kind == "mel":
        return tts_infer.read_mel(path, model.n_mels)
    return torch.from_numpy(tts_infer.read_audio(path, sample_rate=model.sample_rate).samples)[None]


def warn_of_convention(model: tts_infer.Vocoder, kind: Kind, value: torch.Tensor) -> None:
    """Show a message if a mel looks like one of another convention, whose audio would be noise."""
    doubt = tts_infer.ConventionCheck(model.mel_config)(value) if kind == "mel" else None
    if doubt is not None:
        gr.Warning(html.escape(str(doubt), quote=False), duration=SHOWN_S)


def seconds_in(model: tts_infer.Vocoder, kind: Kind, value: torch.Tensor) -> float:
    """How long an input is; of a mel, up to one hop more than its audio."""
    samples = value.shape[-1] * (model.hop_length if kind == "mel" else 1)
    return samples / model.sample_rate


def run(model: tts_infer.Vocoder, kind: Kind, value: torch.Tensor) -> Result:
    """Copy audio or decode a mel, and measure the output.

    Raises:
        InputError: see `measured` and `Vocoder.synthesize`.
    """
    return measured(model, model.synthesize(audio=value) if kind == "audio" else model.synthesize(value))


def measured(model: tts_infer.Vocoder, result: tts_infer.Synthesis) -> Result:
    """Compare the output with the input.

    Raises:
        InputError: the output is empty, or so loud that it has no mel.
    """
    if result.audio.numel() == 0:
        raise too_short()
    samples, clipped = tts_infer.to_int16(result.audio[0])
    input_mel, output_mel = result.features.cpu(), output_mel_of(model, result.audio)
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


def output_mel_of(model: tts_infer.Vocoder, audio: torch.Tensor) -> torch.Tensor:
    """The mel of what the vocoder made.

    Shape: (1, T) -> (1, n_mels, L)
    Raises:
        InputError: the mel that was decoded is so loud that its audio cannot be used.
    """
    try:
        return model.mel(audio).cpu()
    except tts_infer.InputError:  # its sentence would speak of the user's audio
        raise tts_infer.InputError(
            "The mel is far louder than any audio: natural logarithms of magnitudes at full scale end below 9.",
            code="page-too-loud",
        ) from None


def too_short() -> tts_infer.InputError:
    """The error about an input that gives no samples."""
    return tts_infer.InputError(
        "The input is one mel frame long, which gives no audio; two frames are the shortest.", code="page-too-short"
    )


@contextmanager
def shown_errors(request: gr.Request | None, *uploads: str | None) -> Iterator[Translator]:
    """Show the package's errors as messages on the page, in its language. Yields the translator.

    Any other exception is logged, and the message only says that it happened.

    Args:
        request: says which language the browser asks for.
        uploads: paths of the user's files. Messages give their names without the server's folders.
    """
    say = translator(request)
    try:
        yield say
    except tts_infer.TTSInferError as error:
        message = say.error(error)
        for path in uploads:
            message = message.replace(path, Path(path).name) if path else message
        # the page shows it as HTML, but programs read it, too
        raise gr.Error(html.escape(message, quote=False), duration=SHOWN_S, print_exception=False) from error
    except gr.Error:
        raise
    except Exception as error:  # Gradio would log it and show nothing, and the visitor would wait
        raise gr.Error(say("unforeseen"), duration=SHOWN_S) from error
