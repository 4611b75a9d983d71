"""Export a vocoder as a folder that any static server can serve: a page that runs it in the visitor's browser.

Each stage is a file of its own, so that the page can tell where the time goes. Browsers get files as they are stored
on a static server, so the large ones are stored compressed. Weights that fewer bits hold exactly are stored in those.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tts_infer.arguments import checked
from tts_infer.engines.chains import real_stages
from tts_infer.errors import ExportError, FileError, require_package
from tts_infer.export.graphs import Copier, Decoder, decoding_stages, metadata_of
from tts_infer.export.onnx import ExportCheck, compared, run_by_onnxruntime, traced
from tts_infer.export.weights import stored_exactly
from tts_infer.io.writer import whole_file
from tts_infer.stages import Stage
from tts_infer.vocoder import Vocoder

# Of the npm package onnxruntime-web: its smallest build, for the CPU.
_RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_PACKED = (".wasm", ".onnx")


@dataclass(frozen=True)
class WebExport:
    """A folder that `export_web` wrote."""

    path: Path
    size: int  # bytes
    stages: tuple[str, ...]
    checks: tuple[ExportCheck, ...]


class StageGraph(nn.Module):
    """One stage as a function of tensors."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage, self.part = stage, stage.module

    def forward(self, *inputs: Tensor) -> Any:
        outputs, _ = self.stage(inputs)
        return outputs if len(outputs) > 1 else outputs[0]


@checked()
def export_web(
    vocoder: Vocoder, folder: str | os.PathLike[str], *, runtime: str | os.PathLike[str] | None = None, refine: int = 0
) -> WebExport:
    """Write a folder with a page that decodes mels and copies audio in the visitor's browser.

    Args:
        vocoder: on any device.
        folder: made if it does not exist; files of an earlier export are replaced.
        runtime: the folder of the npm package onnxruntime-web; None: `node_modules/onnxruntime-web`.
        refine: passes of refinement.

    Raises:
        FileError: the folder cannot be written, or the runtime is not there.
        MissingPackageError: onnx or onnxruntime is not installed.
        InputError: a number of passes that this vocoder cannot refine with.
        ExportError: this vocoder takes conditions, or the graphs compute something else than torch.
    """
    for package in ("onnx", "onnxruntime"):
        require_package(package, "onnx")
    sources = _runtime_files(Path("node_modules/onnxruntime-web") if runtime is None else Path(runtime))
    spec = vocoder.features
    if spec.conditions:
        names = ", ".join(condition.name for condition in spec.conditions)
        raise ExportError(
            "the page gives no {names}, which {name} needs", code="web-conditions", names=names, name=vocoder.name
        )
    from_audio = spec.name == "mel"
    stages = decoding_stages(vocoder, refine, "audio" if from_audio else "features")
    reference = (Copier if from_audio else Decoder)(stages, spec)
    graphs, checks = _checked_graphs(real_stages(stages), reference)
    facts = {
        **{key: value for key, value in metadata_of(vocoder, "waveform", refine).items() if key in ("name", "license")},
        "sample_rate": vocoder.sample_rate,
        "channels": spec.n_channels,
        "features": spec.name,
        "stages": [{"name": s.name, "file": f"{s.name}.onnx", "takes": s.takes, "gives": s.gives} for s in stages],
    }
    contents = {f"{stage.name}.onnx": graph for stage, graph in zip(stages, graphs, strict=True)}
    contents |= {f"runtime/{path.name}": path.read_bytes() for path in sources}
    contents |= {one.name: one.read_bytes() for one in files("tts_infer.export").joinpath("web").iterdir()}
    contents["vocoder.json"] = json.dumps(facts).encode()
    size = _write(Path(folder), contents)
    return WebExport(Path(folder), size, tuple(stage.name for stage in stages), checks)


def _runtime_files(package: Path) -> list[Path]:
    """The files of onnxruntime-web that the page needs.

    Raises:
        FileError: they are not there.
    """
    sources = [package / "dist" / name for name in _RUNTIME]
    if missing := [path for path in sources if not os.path.isfile(path)]:
        text = "no {missing}: run 'npm pack onnxruntime-web', unpack the archive, and give --runtime package"
        raise FileError(text, code="web-runtime", missing=str(missing[0]))
    return sources


@torch.no_grad()
def _checked_graphs(stages: Sequence[Stage], reference: Decoder) -> tuple[list[bytes], tuple[ExportCheck, ...]]:
    """The graph of each stage, and how far all of them together are from torch."""
    import onnx

    small, large = (_tensors(stages, reference, batch, frames) for batch, frames in ((2, 24), (3, 25)))
    graphs = []
    for stage in stages:
        example = {f"{name}_in": small[name] for name in stage.takes}
        axes = {f"{name}_in": _variable(name, small[name], large[name]) for name in stage.takes}
        axes |= {name: _variable(name, small[name], large[name]) for name in stage.gives}
        proto = stored_exactly(traced(StageGraph(stage), example, axes, stage.gives))
        onnx.checker.check_model(proto)
        graphs.append(proto.SerializeToString())
    runs = [run_by_onnxruntime(graph) for graph in graphs]

    def run(inputs: Any) -> Tensor:
        live = {stages[0].takes[0]: next(iter(inputs.values()))}
        for stage, one in zip(stages, runs, strict=True):
            live |= zip(stage.gives, one({f"{name}_in": live[name] for name in stage.takes}), strict=True)
        return live["audio"]

    return graphs, compared(run, reference, reference)


def _tensors(stages: Sequence[Stage], reference: Decoder, batch: int, frames: int) -> dict[str, Tensor]:
    """Every tensor between the stages, by name, for so many items and frames."""
    (first,) = reference.example(batch, frames).values()
    live, given = {stages[0].takes[0]: first}, first
    for stage in stages:
        outputs, _ = stage(tuple(live[name] for name in stage.takes))
        live |= zip(stage.gives, outputs, strict=True)
    return live | {stages[0].takes[0]: given}


def _variable(name: str, small: Tensor, large: Tensor) -> dict[int, str]:
    """The axes whose length depends on the input."""
    pairs = enumerate(zip(small.shape, large.shape, strict=True))
    return {axis: f"{name}_{axis}" for axis, (a, b) in pairs if a != b}


def _write(folder: Path, contents: dict[str, bytes]) -> int:
    """Write files into a folder, the large ones compressed. Returns their size in bytes."""
    size = 0
    try:
        for name, content in contents.items():
            packed = name.endswith(_PACKED)
            path = folder / (f"{name}.gz" if packed else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            data = gzip.compress(content, 9, mtime=0) if packed else content
            size += len(data)
            with whole_file(path) as part:
                part.write_bytes(data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError("cannot write {path}: {reason}", code="unwritable", path=str(folder), reason=reason) from None
    return size
