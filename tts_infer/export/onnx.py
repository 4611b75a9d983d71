"""Export a vocoder as one ONNX file, for runtimes that know neither torch nor this package.

The file has standard operators of opset 17 only. All numbers are real: the transforms are matrix products and shifted
adds. Batch and length are variable, from 1 frame on. Every file is run by ONNX Runtime and compared with torch before
it gets its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tts_infer.engines.graphs import session_options
from tts_infer.engines.onnxruntime import with_image_convolutions
from tts_infer.engines.traced import export
from tts_infer.errors import ExportError, FileError, first_sentence, require_package
from tts_infer.export.graphs import Decoder, ExportLayout, ExportSource, decoding_stages, graph_of, metadata_of
from tts_infer.io.writer import require_place, whole_file
from tts_infer.stages import PROBE_BATCH, PROBE_FRAMES, relative_error
from tts_infer.vocoder import Vocoder

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
    vocoder: Vocoder,
    path: str | os.PathLike[str],
    *,
    layout: ExportLayout = "waveform",
    source: ExportSource = "features",
    refine: int = 0,
) -> Export:
    """Write a vocoder as one ONNX file, whole or not at all, and compare it with torch.

    Args:
        vocoder: on any device; the graph is made on the CPU, in float32.
        path: an .onnx file; an existing file is replaced once the new one is complete and right.
        layout: "waveform" takes features and gives "audio". "sherpa-onnx" takes "mels" and gives "mag", "x", "y".
        source: "features" to audio, or "audio" to its copy, with the log-mel inside the graph.
        refine: passes of refinement in the graph.

    Returns:
        What was written, and the error of each comparison.

    Shape: features of (B, C, L) -> audio of (B, T), or mag, x, y of (B, N, L); audio of (B, T) -> copy of (B, T')
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
    graph = graph_of(vocoder, layout, source, refine)
    metadata = metadata_of(vocoder, layout, refine)
    model = _traced(graph, metadata)
    run = run_by_onnxruntime(model)
    checks = compared(
        lambda inputs: graph.audio(*run(inputs)), graph, Decoder(decoding_stages(vocoder, refine, source), graph.spec)
    )
    try:
        with whole_file(path) as part:
            part.write_bytes(model)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError("cannot write {path}: {reason}", code="unwritable", path=str(path), reason=reason) from None
    return Export(path, len(model), graph.inputs, tuple(graph.outputs), metadata, checks)


def _traced(graph: Decoder, metadata: Mapping[str, str]) -> bytes:
    """The ONNX model of a module, with metadata."""
    import onnx

    example = graph.example(PROBE_BATCH, PROBE_FRAMES)
    lengths = {1: {0: "B"}, 2: {0: "B", 1: "T"}, 3: {0: "B", 2: "L"}}  # by the number of axes
    axes = {name: lengths[x.ndim] for name, x in example.items()}
    proto = traced(graph, example, {**axes, **graph.outputs}, tuple(graph.outputs))
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto)
    written: bytes = proto.SerializeToString()
    return written


def traced(
    module: nn.Module, example: Mapping[str, Tensor], axes: Mapping[str, Mapping[int, str]], outputs: Sequence[str]
) -> Any:
    """The graph of a module, as a `ModelProto`.

    Args:
        module, example, axes, outputs: see `engines.onnxruntime.export`.

    Raises:
        ExportError: it has none.
    """
    import onnx

    try:
        proto = onnx.load_from_string(with_image_convolutions(export(module.eval(), example, axes, outputs)))
    except RuntimeError as error:
        text = "this vocoder has no ONNX graph: {reason}"
        raise ExportError(text, code="export-graph", reason=first_sentence(error)[:200]) from None
    used = {name for node in proto.graph.node for name in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto


def run_by_onnxruntime(model: bytes) -> Callable[[Mapping[str, Tensor]], list[Tensor]]:
    """A model as a function of inputs by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, session_options(), providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        return [torch.from_numpy(x) for x in session.run(None, {name: x.numpy() for name, x in inputs.items()})]

    return run


@torch.no_grad()
def compared(
    run: Callable[[Mapping[str, Tensor]], Tensor], graph: Decoder, reference: Decoder
) -> tuple[ExportCheck, ...]:
    """Compare what was exported with torch in every size.

    Args:
        run: computes audio of inputs by name.
        graph: says the inputs, and the largest allowed difference.
        reference: computes the same by torch.

    Raises:
        ExportError: they differ.
    """
    checks = []
    for batch, frames in CHECKED_SIZES:
        example = graph.example(batch, frames)
        got, expected = run(example), reference(*example.values())
        same = expected.numel() == 0 and got.shape == expected.shape  # one frame of padding "center" gives no samples
        checks.append(ExportCheck(batch, frames, 0.0 if same else relative_error(got, expected)))
    worst = max(checks, key=lambda check: check.error)
    if not all(check.error <= graph.tolerance for check in checks):  # NaN is not, either
        text = "the graph differs from torch by {error:.1e} of the peak at {frames} frames, batch {batch}; "
        text += "allowed: {allowed}; no file was written"
        raise ExportError(
            text,
            code="export-differs",
            error=worst.error,
            frames=worst.frames,
            batch=worst.batch,
            allowed=graph.tolerance,
        )
    return tuple(checks)
