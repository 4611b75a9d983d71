"""Export a vocoder as one ONNX file: features in, waveform out, for runtimes that know neither torch nor this package.

The file has standard operators of opset 17 only. All numbers are real: the inverse STFT is matrix products and shifted
adds. Batch and length are variable, from 1 frame on. Every file is run by ONNX Runtime and compared with torch before
it gets its name.

The layout "sherpa-onnx" is what sherpa-onnx loads. For a Vocos whose padding is "center" it ends before the inverse
STFT, because sherpa-onnx computes that itself. Every other vocoder of mels becomes what sherpa-onnx calls a HiFi-GAN: a
waveform for a mel.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from tts_infer.config import MelConfig, known_vocoders
from tts_infer.dsp.stft import ISTFT
from tts_infer.engines.onnxruntime import export, with_image_convolutions
from tts_infer.errors import ExportError, FileError, InputError, first_sentence, require_package
from tts_infer.io.writer import require_place, whole_file
from tts_infer.stages import PROBE_BATCH, PROBE_FRAMES, Stage, relative_error, wave
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import FAMILIES, family_of

ExportLayout = Literal["waveform", "sherpa-onnx"]

# Largest allowed difference from torch, relative to the peak. Trained networks magnify the rounding of float32: another
# order of sums changes the audio by up to 5e-5 of the peak, see `tests/test_onnxruntime.py`.
EXPORT_TOLERANCE = 1e-4
# Batch and frames of each comparison. Below 4 frames, no sample has all the overlapping frames.
CHECKED_SIZES = tuple((batch, frames) for batch in (1, 3) for frames in (1, 2, 3, 10, 94, 938))


@dataclass(frozen=True)
class ExportCheck:
    """One comparison of the file with torch."""

    batch: int
    frames: int
    error: float  # of the waveform, relative to its peak


@dataclass(frozen=True)
class Export:
    """A file that `export_onnx` wrote."""

    path: Path
    size: int  # bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, str]
    checks: tuple[ExportCheck, ...]


def export_onnx(
    vocoder: Vocoder, path: str | os.PathLike[str], *, layout: ExportLayout = "waveform", refine: int = 0
) -> Export:
    """Write a vocoder as one ONNX file, whole or not at all, and compare it with torch.

    Args:
        vocoder: on any device; the graph is made on the CPU, in float32.
        path: an .onnx file; an existing file is replaced once the new one is complete and right.
        layout: "waveform" takes features and gives "audio". "sherpa-onnx" takes "mels" and gives "mag", "x", "y".
        refine: passes of refinement in the graph.

    Returns:
        What was written, and the error of each comparison.

    Shape: features of (B, C, L) -> audio of (B, T); or mag, x, y of (B, N, L)
    Raises:
        FileError: the path is no place for an .onnx file, or the system refuses to write.
        MissingPackageError: onnx or onnxruntime is not installed.
        InputError: an unknown layout, or a number of passes that this vocoder cannot refine with.
        ExportError: this vocoder has no graph in this layout, or the graph computes something else than torch.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        text = "cannot write {path}: extension {suffix!r}; allowed: .onnx"
        raise FileError(text, code="onnx-extension", path=str(path), suffix=path.suffix)
    require_place(path)
    for package in ("onnx", "onnxruntime"):
        require_package(package, "onnx")
    graph = _graph_of(vocoder, layout, refine)
    metadata = _metadata(vocoder, layout)
    model = _traced(graph, metadata)
    checks = _compared(model, graph, _Decoder(_decoding_stages(vocoder, refine), graph.takes))
    try:
        with whole_file(path) as part:
            part.write_bytes(model)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError("cannot write {path}: {reason}", code="unwritable", path=str(path), reason=reason) from None
    return Export(path, len(model), (graph.input,), tuple(graph.outputs), metadata, checks)


class _Decoder(nn.Module):
    """The stages from features to audio, one after the other, as one function.

    Shape: (B, C, L) -> (B, T)
    """

    outputs: Mapping[str, Mapping[int, str]] = {"audio": {0: "B", 1: "T"}}  # with the variable axes

    def __init__(self, stages: Sequence[Stage], takes: str, name: str = "") -> None:
        super().__init__()
        self.stages, self.takes, self.input = stages, takes, name or takes
        self.parts = nn.ModuleList(stage.module for stage in stages)

    def forward(self, features: Tensor) -> Any:
        return self.results(features)["audio"]

    def results(self, features: Tensor) -> dict[str, Tensor]:
        """All tensors that the stages give, by name."""
        live = {self.takes: features}
        for stage in self.stages:
            outputs, _ = stage(tuple(live[name] for name in stage.takes))
            live.update(zip(stage.gives, outputs, strict=True))
        return live

    def audio(self, *outputs: Tensor) -> Tensor:
        """The waveform of the outputs of the graph."""
        return outputs[0]


class _SpectrumDecoder(_Decoder):
    """The stages from features to a spectrum: its magnitude, and the cosine and sine of its phase.

    Shape: (B, C, L) -> 3 x (B, N, L)
    Source: k2-fsa/sherpa-onnx, sherpa-onnx/csrc/vocos-vocoder.cc
    """

    outputs: Mapping[str, Mapping[int, str]] = {name: {0: "B", 2: "L"} for name in ("mag", "x", "y")}

    def __init__(self, stages: Sequence[Stage], takes: str, istft: ISTFT) -> None:
        super().__init__(stages, takes, "mels")
        self.istft = istft

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        live = self.results(features)
        real, imag = live["real"], live["imag"]
        magnitude = (real * real + imag * imag).sqrt().clamp_min(1e-12)  # so that 0 / 0 gives 0
        return magnitude, real / magnitude, imag / magnitude

    def audio(self, *outputs: Tensor) -> Tensor:
        magnitude, x, y = outputs
        audio: Tensor = self.istft(magnitude * x, magnitude * y)
        return audio


def _decoding_stages(vocoder: Vocoder, refine: int) -> list[Stage]:
    """Plain copies on the CPU of the stages from features to audio, without those that are skipped."""
    model = copy.deepcopy(vocoder.model).cpu().float().eval()
    family = family_of(model)
    stages, features = family.stages(model), family.features(model.config).name
    first = next((i + 1 for i, stage in enumerate(stages) if features in stage.gives), 0)
    chain = [stage if stage.passes is None else dataclasses.replace(stage, passes=refine) for stage in stages[first:]]
    if refine and not any(stage.passes for stage in chain):
        text = "refine is {refine}, but {name} has no stage that refines; use 0"
        raise InputError(text, code="export-refine", refine=refine, name=vocoder.name)
    return [stage for stage in chain if stage.passes != 0]


def _graph_of(vocoder: Vocoder, layout: str, refine: int) -> _Decoder:
    """The module that becomes the graph: every stage by real numbers only."""
    if layout not in get_args(ExportLayout):
        allowed = ", ".join(get_args(ExportLayout))
        raise InputError("layout is {got!r}; allowed: {allowed}", code="export-layout", got=layout, allowed=allowed)
    stages = [stage.by("matmul") if stage.methods else stage for stage in _decoding_stages(vocoder, refine)]
    features = family_of(vocoder.model).features(vocoder.model.config).name
    if layout == "waveform":
        return _Decoder(stages, features)
    if features != "mel":
        text = "sherpa-onnx decodes mels, and {name} decodes {features}; use the layout 'waveform'"
        raise ExportError(text, code="export-sherpa", name=vocoder.name, features=features)
    if _has_spectrum(stages[-1]):
        return _SpectrumDecoder(stages[:-1], features, stages[-1].module)
    return _Decoder(stages, features, "mels")


def _has_spectrum(last: Stage) -> bool:
    """Whether sherpa-onnx can compute the last stage: it trims as "center" does."""
    return isinstance(last.module, ISTFT) and last.module.padding == "center"


def _metadata(vocoder: Vocoder, layout: str) -> dict[str, str]:
    """What another program must know to use the file."""
    model = vocoder.model
    family = family_of(model)
    spec, last, known = family.features(model.config), family.stages(model)[-1], known_vocoders()
    values: dict[str, Any] = {
        "model_type": next(name for name, one in FAMILIES.items() if one is family),
        "name": vocoder.name,
        "license": known[vocoder.name].license if vocoder.name in known else "unknown",
        "sample_rate": spec.sample_rate,
        "hop_length": spec.hop_length,
        "tts_infer_version": version("tts-infer"),
    }
    if isinstance(istft := last.module, ISTFT):
        sizes = {"n_fft": istft.n_fft, "win_length": istft.win_length}
        values |= {**sizes, "window_type": "hann", "padding": istft.padding}
    if isinstance(config := getattr(spec, "config", None), MelConfig):
        values["mel"] = json.dumps(dataclasses.asdict(config))
    if layout == "sherpa-onnx":
        values |= {"model_type": "hifigan", "version": 1}
        if _has_spectrum(last):
            values |= {"model_type": "vocos", "center": 1, "pad_mode": "reflect", "normalized": 0}
    return {name: str(value) for name, value in values.items()}


def _traced(graph: _Decoder, metadata: Mapping[str, str]) -> bytes:
    """The ONNX model of a module, with metadata."""
    import onnx

    channels = graph.stages[0].probe()[0].shape[1]
    example = _features(PROBE_BATCH, channels, PROBE_FRAMES)
    axes = {graph.input: {0: "B", 2: "L"}, **graph.outputs}
    try:
        proto = onnx.load_from_string(
            with_image_convolutions(export(graph.eval(), {graph.input: example}, axes, tuple(graph.outputs)))
        )
    except RuntimeError as error:
        text = "this vocoder has no ONNX graph: {reason}"
        raise ExportError(text, code="export-graph", reason=first_sentence(error)[:200]) from None
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto)
    written: bytes = proto.SerializeToString()
    return written


def _features(batch: int, channels: int, frames: int) -> Tensor:
    """Features to compute with, in the usual range of log-mels. Shape: (B, C, L)"""
    return 2 * wave(batch, channels, frames) - 5


@torch.no_grad()
def _compared(model: bytes, graph: _Decoder, reference: _Decoder) -> tuple[ExportCheck, ...]:
    """Compare a model with torch in every size.

    Raises:
        ExportError: they differ.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings are about sizes of the example
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    channels = session.get_inputs()[0].shape[1]
    checks = []
    for batch, frames in CHECKED_SIZES:
        features = _features(batch, channels, frames)
        got = graph.audio(*map(torch.from_numpy, session.run(None, {graph.input: features.numpy()})))
        expected = reference(features)
        same = expected.numel() == 0 and got.shape == expected.shape  # one frame of padding "center" gives no samples
        checks.append(ExportCheck(batch, frames, 0.0 if same else relative_error(got, expected)))
    worst = max(checks, key=lambda check: check.error)
    if not all(check.error <= EXPORT_TOLERANCE for check in checks):  # NaN is not, either
        text = "the graph differs from torch by {error:.1e} of the peak at {frames} frames, batch {batch}; "
        text += "allowed: {allowed}; no file was written"
        raise ExportError(
            text,
            code="export-differs",
            error=worst.error,
            frames=worst.frames,
            batch=worst.batch,
            allowed=EXPORT_TOLERANCE,
        )
    return tuple(checks)
