"""The family of ONNX files that `tts-infer export` wrote: one stage, features in and audio out, run by ONNX Runtime.

The file states its convention, sizes and receptive field. All of it is checked before anything is computed: a file is
data, and it may come from anywhere. So a graph has no loops, its weights lie in its own folder, and ONNX Runtime may
use so much memory and no more, see `engines/graphs.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from tts_infer.config import MelConfig, build, require_positive
from tts_infer.documents import MAX_CONFIG_BYTES
from tts_infer.dsp.mel import LogMel
from tts_infer.errors import CheckpointError, ConfigError, few, first_sentence, require_package
from tts_infer.stages import Stage
from tts_infer.vocoders.features import FeatureSpec, LatentSpec, MelSpec
from tts_infer.vocoders.layouts import short_path
from tts_infer.vocoders.networks import Contextual
from tts_infer.vocoders.sizes import check_sizes
from tts_infer.vocoders.spectral import MelStage
from tts_infer.vocoders.weights import unopened

GRAPH_SUFFIX = ".onnx"
# Frames that are computed at once: what the largest generators take, see `hifigan.py`.
PIECE_FRAMES = 512
_MAX_FILE_BYTES = 2**31  # what a file of its format can have; larger weights lie beside it
_MOST_CONTEXT = 4096  # frames; the largest receptive field in use is 52


@dataclass(frozen=True)
class GraphConfig:
    """What the metadata of a file state. `export/graphs.py` writes them.

    Attributes:
        model_type: the family that it was exported from.
        trimmed_samples: T = L * hop_length - trimmed_samples, for L frames.
        receptive_field: frames on each side that the samples of a frame depend on.
        input_size: values in a frame, as the graph's own input says.
        mel: the convention; None: it takes other features than mels.
    """

    model_type: str
    license: str
    sample_rate: int
    hop_length: int
    trimmed_samples: int
    receptive_field: int
    input_size: int
    mel: MelConfig | None = None

    def __post_init__(self) -> None:
        require_positive(self, "sample_rate", "hop_length", "input_size")
        for key, most in (("trimmed_samples", self.hop_length), ("receptive_field", _MOST_CONTEXT)):
            if not 0 <= getattr(self, key) <= most:
                text = "{key} is {got}; allowed: 0 to {most}"
                raise ConfigError(text, code="graph-size", key=key, got=getattr(self, key), most=most)
        stated = (self.sample_rate, self.hop_length, self.input_size)
        if self.mel and (self.mel.sample_rate, self.mel.hop_length, self.mel.n_mels) != stated:
            text = "its mel convention has other sizes than sample_rate, hop_length and channels {stated}"
            raise ConfigError(text, code="graph-mel", stated=stated)


class GraphModel(nn.Module):
    """An ONNX file. It has no weights of its own; the engine onnxruntime runs it.

    Args:
        config: what it states.
        source: the model itself, or its path if weights lie beside it.
        name: of the file, for messages.
    """

    def __init__(self, config: GraphConfig, source: bytes | Path, name: str) -> None:
        super().__init__()
        self.config, self.source, self.name = config, source, name


@dataclass(frozen=True)
class GraphStage(Contextual):
    """A graph from features to audio. Shape: (B, C, L) -> (B, L * hop - trimmed)"""

    engines: ClassVar[tuple[str, ...]] = ("onnxruntime",)


class GraphFamily:
    """ONNX files. Entry of `FAMILIES`."""

    model: ClassVar[type[nn.Module]] = GraphModel

    def features(self, config: GraphConfig) -> FeatureSpec:
        if config.mel is not None:
            return MelSpec(config.mel)
        return LatentSpec(config.sample_rate, config.hop_length, config.input_size)

    def build(self, config: GraphConfig) -> nn.Module:
        raise NotImplementedError("a graph is a file")

    def stages(self, model: GraphModel) -> list[Stage]:
        config = model.config
        graph = GraphStage(
            "graph",
            model,
            (self.features(config).name,),
            ("audio",),
            max_frames=PIECE_FRAMES,
            channels=config.input_size,
            hop=config.hop_length,
            context=config.receptive_field,
            trimmed=config.trimmed_samples,
        )
        return [*([MelStage.of(LogMel(config.mel, "fft"))] if config.mel else []), graph]

    def n_samples(self, config: GraphConfig, frames: int) -> int:
        return max(0, frames * config.hop_length - config.trimmed_samples)

    def constants(self, model: Any) -> dict[str, Tensor]:
        return {}


def read_graph(path: Path, convention: MelConfig | None = None) -> GraphModel:
    """Read an ONNX file that `tts-infer export` wrote.

    Args:
        path: the file.
        convention: which the file must state; None: it may state any.

    Raises:
        MissingPackageError: onnx or onnxruntime is not installed.
        ConfigError: its metadata are not those of an exported vocoder.
        CheckpointError: it is no ONNX file, has loops, takes or gives something else, or its weights lie elsewhere.
    """
    onnx = require_package("onnx", "onnx")
    require_package("onnxruntime", "onnx")
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {_MAX_FILE_BYTES} bytes")
        content = path.read_bytes()
        proto = onnx.load_from_string(content)
        if not proto.graph.node:
            raise ValueError("it holds no graph")
    except Exception as error:  # onnx passes on the errors of its own parser, which is not ours to import
        if refusal := unopened(path, error):
            raise refusal from None
        text = "cannot read a graph from {path}: {reason}; write it with 'tts-infer export'"
        reason = first_sentence(error)[:120]
        raise CheckpointError(text, code="graph-unreadable", path=short_path(path), reason=reason) from None
    _require_plain(proto, path)
    config = _config(proto, path)
    if convention is not None and config.mel != convention:
        text = "it states another mel convention than the one that is asked for; leave that out"
        raise ConfigError(text, code="graph-convention", where=short_path(path))
    return GraphModel(config, path if _has_files(proto, path) else content, short_path(path)).eval()


def _config(proto: Any, path: Path) -> GraphConfig:
    """What the metadata of a model state.

    Raises:
        ConfigError: a key is missing, or a value is wrong.
        CheckpointError: the graph takes or gives something else than an exported vocoder.
    """
    where, stated = short_path(path), {one.key: one.value for one in proto.metadata_props}
    features = "features" if "mel" not in stated else "mel"
    takes, gives = ([one.name for one in ends] for ends in (proto.graph.input, proto.graph.output))
    shape = [axis.dim_value for one in proto.graph.input for axis in one.type.tensor_type.shape.dim]
    values: dict[str, Any] = {key: stated[key] for key in ("model_type", "license") if key in stated}
    sizes = ("sample_rate", "hop_length", "trimmed_samples", "receptive_field")
    values |= {key: _number(stated[key]) for key in sizes if key in stated}
    values |= {"mel": _convention(stated["mel"], where)} if "mel" in stated else {}
    if "tts_infer_version" in stated and (takes != [features] or gives != ["audio"]):  # of others, keys are missing
        raise CheckpointError(
            "{path} takes {takes} and gives {gives}; a graph that decodes takes {features} and gives audio",
            code="graph-ends",
            path=where,
            takes=few(takes) or "nothing",
            gives=few(gives) or "nothing",
            features=features,
        )
    config = build(GraphConfig, values | {"input_size": shape[1] if len(shape) == 3 else 0}, where)
    check_sizes(config, (), where)
    return config


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else text


def _convention(text: str, where: str) -> MelConfig:
    try:
        document = json.loads(text[:MAX_CONFIG_BYTES])
    except (ValueError, RecursionError):
        raise ConfigError("its mel convention is no JSON", code="graph-json", where=where) from None
    return build(MelConfig, document, f"{where}: mel")


def _require_plain(proto: Any, path: Path) -> None:
    """Refuse what no exported vocoder has and what could run without end.

    Raises:
        CheckpointError: names the first of it.
    """
    foreign = [one.domain for one in proto.opset_import if one.domain not in ("", "ai.onnx")]
    loops = [
        node.op_type for node in proto.graph.node if any(one.HasField("g") or one.graphs for one in node.attribute)
    ]
    found = [*(f"operators of {few([one])}" for one in foreign), *loops, *(["functions"] if proto.functions else [])]
    if found:
        text = "{path} contains {found}, which no exported vocoder has; write it with 'tts-infer export'"
        raise CheckpointError(text, code="graph-operators", path=short_path(path), found=few(found[:1]))


def _has_files(proto: Any, path: Path) -> bool:
    """Whether weights lie in files of their own, beside the graph.

    Raises:
        CheckpointError: a weight lies outside of the folder, or its file is missing.
    """
    places = set()
    for tensor in _tensors(proto):
        if tensor.external_data or tensor.data_location:
            places |= {entry.value for entry in tensor.external_data if entry.key == "location"} or {""}
    for place in places:
        plain = place and Path(place).name == place and not (path.parent / place).is_symlink()
        if not plain or not (path.parent / place).is_file():
            text = "{path} keeps weights in {place}; they must be in a file beside it"
            raise CheckpointError(text, code="graph-weights", path=short_path(path), place=few([repr(place)]))
    return bool(places)


def _tensors(proto: Any) -> Iterator[Any]:
    """Every constant of a graph."""
    yield from proto.graph.initializer
    for sparse in proto.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in proto.graph.node:
        for one in node.attribute:
            yield from (*([one.t] if one.HasField("t") else []), *one.tensors)
            for sparse in (*([one.sparse_tensor] if one.HasField("sparse_tensor") else []), *one.sparse_tensors):
                yield from (sparse.values, sparse.indices)
