"""What the tabs share: loaded vocoders, inputs, results, and messages about errors."""

from __future__ import annotations

import copy
import functools
import html
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import gradio as gr
import torch

import tts_infer
from ui.texts import Translator, translator
from ui.work import Stopped, Turn, no_turn

AUTO: Final = "auto"
# Numbers of refinement passes that the page offers; "auto" uses the number that suits the vocoder.
Refine = Literal["auto", "0", "1", "2", "4", "8", "12", "16", "24"]
# Number formats of matrix products; "auto" is what was measured to be faster, see `load_vocoder`.
DType = Literal["auto", "float32", "bfloat16", "float16"]
Kind = Literal["audio", "mel"]  # of an input
Report = dict[str, Any]

# Uploads and results are removed an hour after they were made, and when the server stops.
KEEP_S = 3600
# The longest input, whatever the size of its file: hours of silence are a small one.
MOST_S = 600
# One group for everything that computes. Calls may all begin, and take turns; see `ui.work`.
COMPUTE: dict[str, Any] = {"concurrency_limit": 32, "concurrency_id": "compute"}


def noted(notes: Sequence[tts_infer.Note]) -> list[Report]:
    """Notes as reports have them, with the values in their texts; see `Translator.note`."""
    return [{"code": note.code, "text": str(note.text), "fields": getattr(note.text, "fields", {})} for note in notes]


@dataclass(frozen=True)
class Result:
    """One synthesis."""

    waveform: torch.Tensor  # (T,), as the vocoder gave it
    clip: torch.Tensor | None  # (T,), what was copied, at the vocoder's rate; None: a mel was decoded
    report: Report
    mel_config: tts_infer.MelConfig
    input_mel: torch.Tensor  # (n_mels, L)
    output_mel: torch.Tensor


def load(
    name: str,
    device: str = AUTO,
    placement: str = AUTO,
    istft: tts_infer.MethodChoice = AUTO,
    dtype: DType = "float32",
    refine: Refine = AUTO,
) -> tts_infer.Vocoder:
    """Load a vocoder. The last few stay loaded, each once for all values of `refine`.

    Raises:
        InputError: a value of `refine` that the page does not offer; and see `load_vocoder`.
        VocoderNotFoundError: it is not on this machine, and cannot be downloaded.
        PlacementError: see `load_vocoder`; or a file of the server.
    """
    passes = passes_of(refine)
    vocoder = kept(name, device, require_placement(placement), istft, dtype)
    if passes is not None:
        vocoder = copy.copy(vocoder)  # another default for the same stages
        vocoder.refine = passes
    return vocoder


def passes_of(refine: str) -> int | None:
    """A choice of refinement passes as a number; None: what suits the vocoder.

    Raises:
        InputError: the page does not offer it.
    """
    if refine not in get_args(Refine):
        allowed = ", ".join(get_args(Refine))
        raise tts_infer.InputError(
            "refine is {refine!r}; allowed: {allowed}", code="page-refine", refine=refine, allowed=allowed
        )
    return None if refine == AUTO else int(refine)


def require_placement(placement: str | None) -> str | None:
    """A choice of the page as `load_vocoder` takes it.

    Raises:
        PlacementError: it is neither a name nor written out.
    """
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


# What the page offers that has no public name, by the name that it is offered under.
_local: dict[str, str] = {}


def offered(vocoder: str) -> str:
    """The name under which the page offers a vocoder. Of one in a local directory, visitors do not see the path."""
    if vocoder in tts_infer.known_vocoders() or not os.path.exists(vocoder):
        return vocoder
    name = f"{Path(vocoder).resolve().name} (local)"
    _local[name] = vocoder
    return name


def place_of(vocoder: str) -> str:
    """What `load_vocoder` takes for a name that the page offers."""
    return _local.get(vocoder, vocoder)


@functools.lru_cache(maxsize=8)
def kept(
    name: str, device: str, placement: str | None, istft: tts_infer.MethodChoice, dtype: DType
) -> tts_infer.Vocoder:
    """A vocoder with its stages in place."""
    with downloads_explained(name):
        vocoder = tts_infer.load_vocoder(place_of(name), device=device, placement=placement, istft=istft, dtype=dtype)
    if name in _local:
        vocoder.name = name  # reports name it
    return vocoder


@contextmanager
def downloads_explained(vocoder: str) -> Iterator[None]:
    """Say what a visitor can do about a vocoder that cannot be downloaded, and nothing of the server's folders."""
    try:
        yield
    except tts_infer.VocoderNotFoundError as error:
        if error.code not in ("hub-unreachable", "hub-cache-incomplete"):
            raise
        raise tts_infer.VocoderNotFoundError(
            "{vocoder} must be downloaded, and this server cannot reach the Hugging Face Hub now; choose a vocoder "
            "whose card says Ready",
            code="page-not-downloaded",
            vocoder=vocoder,
        ) from error


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


@dataclass(frozen=True)
class Input:
    """What is decoded: audio at the vocoder's rate or a mel, as a batch of one, and what is odd about it."""

    kind: Kind
    value: torch.Tensor  # (1, T) or (1, n_mels, L)
    notes: list[tts_infer.Note]

    def frames(self, model: tts_infer.Vocoder) -> int:
        """Its length in frames of a vocoder."""
        return -(-self.value.shape[-1] // (model.hop_length if self.kind == "audio" else 1))

    def seconds(self, model: tts_infer.Vocoder) -> float:
        """How long it is; of a mel, up to one hop more than its audio."""
        return self.value.shape[-1] * (1 if self.kind == "audio" else model.hop_length) / model.sample_rate


def read_input(model: tts_infer.Vocoder, kind: Kind, path: str | Path, turn: Turn = no_turn) -> Input:
    """Read an input of at most `MOST_S`.

    Args:
        model: gives the rate and the mel convention.
        kind, path: what is read.
        turn: taken for each block.

    Raises:
        FileError, InputError, InputTypeError: see `read_blocks` and `read_mel`; or it is longer.
        Stopped: the job was told to stop.
    """
    if kind == "mel":
        most = MOST_S * model.sample_rate // model.hop_length
        with turn():
            mel = tts_infer.read_mel(path, model.n_mels, most)
            doubt = tts_infer.ConventionCheck(model.mel_config)(mel)
        return Input(kind, mel, [tts_infer.Note.of(doubt.text, code=doubt.code, **doubt.fields)] if doubt else [])
    meter, samples = tts_infer.SignalMeter(), [torch.zeros(0)]
    left = MOST_S * model.sample_rate
    blocks = tts_infer.read_blocks(path, model.sample_rate, meter=meter)
    with closing(blocks):
        while left >= 0:
            with turn():
                block = next(blocks, None)
            if block is None:
                return Input(kind, torch.cat(samples)[None], meter.notes())
            left -= len(block)
            samples.append(torch.from_numpy(block))
    samples.clear()  # an error lives longer than this call
    raise tts_infer.InputError(
        "{path} is longer than {minutes} minutes, which is the limit here; cut it, or decode it on the command line.",
        code="page-long",
        path=str(path),
        minutes=MOST_S // 60,
    )


# The last error of each page, until the page shows it where the input is.
_failures: dict[str | None, str] = {}


def failure(request: gr.Request) -> str | None:
    """The error of a page that is to be shown, once; None: its work was only stopped."""
    return _failures.pop(request.session_hash, None)


@contextmanager
def shown_errors(request: gr.Request | None, *uploads: str | None, inline: bool = False) -> Iterator[Translator]:
    """Say the package's errors in the page's language. Yields the translator.

    Any other exception is logged, and the message only says that it happened.

    Args:
        request: says which language the browser asks for.
        uploads: paths of the user's files. Messages give their names without the server's folders.
        inline: the page shows the message where the input is, see `failure`, and not in a box of its own.
    """
    say = translator(request)
    try:
        yield say
    except tts_infer.TTSInferError as error:
        message = say.error(error.naming({path: Path(path).name for path in uploads if path}))
        if not isinstance(error, Stopped):
            _keep(request, message, inline)
        # the page shows it as HTML, but programs read it, too
        visible = not inline and not isinstance(error, Stopped)
        raise gr.Error(html.escape(message, quote=False), visible=visible, print_exception=False) from error
    except gr.Error:
        raise
    except Exception as error:  # Gradio would log it and show nothing, and the visitor would wait
        _keep(request, say("unforeseen"), inline)
        raise gr.Error(say("unforeseen"), visible=not inline) from error


def _keep(request: gr.Request | None, message: str, inline: bool) -> None:
    if request and inline:
        _failures[request.session_hash] = message
        while len(_failures) > 1000:  # pages that went away before they could show it
            _failures.pop(next(iter(_failures)))
