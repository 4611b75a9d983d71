"""Export a vocoder as one ONNX file, for runtimes that know neither torch nor this package.

The file has standard operators of opset 17 only. All numbers are real: the transforms are matrix products and shifted
adds. Batch and length are variable, from 1 frame on. Every file is run by ONNX Runtime and compared with torch before
it gets its name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tts_infer.arguments import checked
from tts_infer.engines.graphs import GraphRun
from tts_infer.engines.onnxruntime import with_image_convolutions
from tts_infer.engines.traced import export
from tts_infer.errors import ExportError, FileError, InputError, first_sentence, require_package
from tts_infer.export.graphs import Decoder, ExportLayout, ExportSource, decoding_stages, graph_of, metadata_of
from tts_infer.export.rounding import RoundingCost, rounding_cost
from tts_infer.export.weights import ExportDType, stored_exactly
from tts_infer.io.writer import require_place, whole_file
from tts_infer.stages import PROBE_BATCH, PROBE_FRAMES, relative_error
from tts_infer.vocoder import Vocoder

MOST_BYTES = 2**31 - 2**20  # of one file, whose format ends at 2 GiB
_LEAST_BYTES = 1024  # of a tensor that goes into the second file
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
    cost: RoundingCost | None = None  # of weights in fewer bits


@checked()
def export_onnx(
    vocoder: Vocoder,
    path: str | os.PathLike[str],
    *,
    layout: ExportLayout = "waveform",
    source: ExportSource = "features",
    refine: int = 0,
    dtype: ExportDType = "float32",
    speech: str | os.PathLike[str] | None = None,
) -> Export:
    """Write a vocoder as one ONNX file, whole or not at all, and compare it with torch.

    A graph beyond the 2 GB that a file of this format can have keeps its weights in a second file, FILE.onnx.data.

    Args:
        vocoder: on any device; the graph is made on the CPU, in float32.
        path: an .onnx file; an existing file is replaced once the new one is complete and right.
        layout: "waveform" takes features and gives "audio". "sherpa-onnx" takes "mels"; it gives "mag", "x" and "y" for
            a Vocos with padding "center", else "audio".
        source: "features" to audio, or "audio" to its copy, with the log-mel inside the graph.
        refine: passes of refinement in the graph.
        dtype: of the stored weights of the blocks, see `export/weights.py`. It computes in float32.
        speech: an audio file, needed for another dtype than float32: how far its copy is from it with these weights.

    Returns:
        What was written, and the error of each comparison.

    Shape: features of (B, C, L) -> audio of (B, T), or mag, x, y of (B, N, L); audio of (B, T) -> copy of (B, T')
    Raises:
        FileError: the path is no place for an .onnx file, or the system refuses to write.
        MissingPackageError: onnx or onnxruntime is not installed.
        InputError: an unknown layout, or a number of passes that this vocoder cannot refine with.
        ExportError: this vocoder has no graph in this layout, the graph computes something else than torch, or the
            rounded weights are slower and worse.
    """
    path = Path(path)
    if dtype != "float32" and speech is None:
        text = "weights in {dtype} are checked on real speech; give an audio file (speech=..., --speech FILE)"
        raise InputError(text, code="export-speech", dtype=dtype)
    if path.suffix.lower() != ".onnx":
        text = "cannot write {path}: extension {suffix!r}; allowed: .onnx"
        raise FileError(text, code="onnx-extension", path=str(path), suffix=path.suffix)
    require_place(path)
    path = Path(os.path.realpath(path)) if path.is_symlink() else path  # a second file must lie beside the first
    for package in ("onnx", "onnxruntime"):
        require_package(package, "onnx")
    metadata = metadata_of(vocoder, layout, refine)
    graph = graph_of(vocoder, layout, source, refine, dtype)
    reference = Decoder(decoding_stages(vocoder, refine, source, dtype), graph.spec)
    with _errors_of(path), tempfile.TemporaryDirectory(prefix=".tts-infer-", dir=path.parent) as folder:
        made = saved(_traced(graph, metadata, dtype != "float32"), Path(folder, path.name))
        run = run_by_onnxruntime(made[0])
        checks = compared(lambda inputs: graph.audio(*run(inputs)), graph, reference)
        cost = None
        if speech is not None:
            unrounded = graph_of(vocoder, layout, source, refine)
            (first, *_) = saved(_traced(unrounded, metadata, False), Path(folder, f"unrounded {path.name}"))
            pair = (unrounded, run_by_onnxruntime(first)), (graph, run)
            cost = rounding_cost(vocoder, Path(speech), *pair, (first.stat().st_size, made[0].stat().st_size))
        size = sum(one.stat().st_size for one in made)
        for one in reversed(made):  # the weights first, so that the graph finds them
            with whole_file(path.with_name(one.name)) as part:
                shutil.move(one, part)
    return Export(path, size, graph.inputs, tuple(graph.outputs), metadata, checks, cost)


def saved(proto: Any, path: Path) -> list[Path]:
    """Save a graph: one file, or if that would be too large, a second one with the weights. Returns the files."""
    import onnx

    if proto.ByteSize() <= MOST_BYTES:
        path.write_bytes(proto.SerializeToString())
        onnx.checker.check_model(str(path))
        return [path]
    weights = path.with_name(f"{path.name}.data")
    onnx.save_model(proto, path, save_as_external_data=True, location=weights.name, size_threshold=_LEAST_BYTES)
    onnx.checker.check_model(str(path))
    return [path, weights]


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """What the system refuses, as an error about the file."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError("cannot write {path}: {reason}", code="unwritable", path=str(path), reason=reason) from None


def _traced(graph: Decoder, metadata: Mapping[str, str], smaller: bool) -> Any:
    """The ONNX model of a module, with metadata, as a `ModelProto`."""
    import onnx

    example = graph.example(PROBE_BATCH, PROBE_FRAMES)
    lengths = {1: {0: "B"}, 2: {0: "B", 1: "T"}, 3: {0: "B", 2: "L"}}  # by the number of axes
    axes = {name: lengths[x.ndim] for name, x in example.items()}
    proto = traced(graph, example, {**axes, **graph.outputs}, tuple(graph.outputs))
    onnx.helper.set_model_props(proto, dict(metadata))
    return stored_exactly(proto) if smaller else proto


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


def run_by_onnxruntime(model: bytes | Path) -> Callable[[Mapping[str, Tensor]], list[Tensor]]:
    """A model, or a file of one, as a function of inputs by name."""
    run = GraphRun(model if isinstance(model, bytes) else str(model))
    return lambda inputs: list(run(*(inputs[name] for name in run.inputs)))


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
