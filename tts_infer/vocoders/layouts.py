"""Find the tensors of a model in a file of weights, as people keep them, and bring them into the model's layout.

    prefixes       module. _orig_mod. generator. state_dict. ema. ...: whatever the names of the model have in common
    weight norm    weight_g and weight_v, or parametrizations.weight.original0 and original1: multiplied
    MLX            convolutions with axes 1 and 2 swapped: swapped back
    layer scale    blocks without gamma: gamma is 1
    training       discriminators and losses beside the model: left out
    precision      float16, bfloat16, float64: float32

Sources: torch/nn/utils/weight_norm.py and parametrizations.py of pytorch/pytorch; vocos/experiment.py of
gemelo-ai/vocos; vocos_mlx/model.py of lucasnewman/vocos-mlx.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tts_infer.errors import CheckpointError, few

Parts = dict[str, Tensor]  # "" -> a tensor as it is; "g" and "v" -> magnitude and direction of weight norm

# Names that torch puts between those of modules: DataParallel, torch.compile, FSDP, activation checkpointing.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_PARAMETRIZED = re.compile(r"(.*)\.parametrizations\.(\w+)\.original([01])")
_NORMED = re.compile(r"(.*)_([gv])")
_OF_EMA = re.compile(r"(^|[._])ema([._]|$)")
# The first part of names that training leaves beside a vocoder. EnCodec is the encoder, which decoding does not need.
_OF_TRAINING = re.compile(
    r"(\w*(disc|loss|metric|optim|utmos|cqtd)\w*|m[a-z]{1,2}d|net_?d|ema_?\w*)\.|feature_extractor\.encodec\."
)
_MAX_MESSAGE, _MAX_PATH = 480, 100


@dataclass
class Misfit:
    """What does not fit, by kind: names, or names with a remark."""

    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    not_float: list[str] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def error(self, stored: Collection[str], path: Path, config: str) -> CheckpointError:
        """One line with counts, the first names of each kind, and the likely cause."""
        kinds = {
            "missing": self.missing,
            "surplus": self.surplus,
            "of another shape": self.shapes,
            "not floating point": self.not_float,
            "NaN or infinite": self.not_finite,
        }
        for shown, length in ((3, 100), (2, 60), (1, 48)):
            found = "; ".join(f"{len(v)} {kind}: {few(v, shown, length)}" for kind, v in kinds.items() if v)
            error = CheckpointError(
                "weights in {path} do not fit {config}: {found}. {cause}",
                code="weights-misfit",
                path=short_path(path),
                config=config,
                found=found,
                cause=self._cause(stored),
            )
            if len(str(error)) <= _MAX_MESSAGE:
                break
        return error

    def _cause(self, stored: Collection[str]) -> str:
        if self.not_float or self.not_finite:
            return "The training that made them failed, or the file is damaged"
        if self.missing and not stored:
            return "None of its names is one of this model's: it holds another model"
        if self.shapes:
            return "The config is probably that of a model of another size"
        if self.missing and not self.surplus:
            return "The config probably states more layers than the weights have, or a part was not saved"
        if self.surplus and not self.missing:
            return "The config probably states fewer layers than the weights have"
        return "The config is probably that of another model"


def short_path(path: Path | str) -> str:
    """A path for messages: the end of it, if it is long."""
    text = str(path)
    return text if len(text) <= _MAX_PATH else f"...{text[-_MAX_PATH:]}"


def by_name(stored: Mapping[str, Tensor]) -> dict[str, Parts]:
    """The tensors by the names of what they make up: without wrappers, the parts of weight norm together."""
    found: dict[str, Parts] = {}
    for key, tensor in stored.items():
        name = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
        match = _PARAMETRIZED.fullmatch(name)
        if match:
            name, part = f"{match[1]}.{match[2]}", "gv"[int(match[3])]
        elif (match := _NORMED.fullmatch(name)) and {f"{key[:-1]}g", f"{key[:-1]}v"} <= stored.keys():
            name, part = match[1], match[2]
        else:
            part = ""
        found.setdefault(name, {}).setdefault(part, tensor)
    return found


def of_model(named: Mapping[str, Parts], wanted: Collection[str]) -> dict[str, Parts]:
    """The tensors below the prefix that has most of the wanted names, without it. Averaged weights are preferred."""
    prefixes = Counter(name[:start] for name in named for start in _starts(name) if name[start:] in wanted)
    if not prefixes:
        return {}
    best = max(prefixes, key=lambda prefix: (prefixes[prefix], bool(_OF_EMA.search(prefix)), -len(prefix)))
    return {name[len(best) :]: parts for name, parts in named.items() if name.startswith(best)}


def _starts(name: str) -> Iterable[int]:
    """Where the name, and every part of it after a dot, begins."""
    return [0, *(match.end() for match in re.finditer(r"\.", name))]


def fit(
    stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor], constants: Collection[str], path: Path, config: str
) -> dict[str, Tensor]:
    """The tensors of a model in its own names and shapes, and those of its constants that are stored.

    Args:
        stored: all tensors of a file.
        wanted: those of the model; only shapes count.
        constants: names of tensors that may be there, and are returned as they are.
        path, config: of the weights and of the configuration, for messages.

    Raises:
        CheckpointError: tensors are missing, surplus, of another shape, not floating point, NaN or infinite.
    """
    own = of_model(by_name(stored), wanted.keys())
    tensors = {name: _merged(parts) for name, parts in own.items()}
    kept = {name: tensors.pop(name) for name in constants if name in tensors}
    tensors |= {
        name: torch.ones(()).expand(wanted[name].shape) for name in _without_layer_scale(tensors.keys(), wanted.keys())
    }
    modules = {name.partition(".")[0] for name in wanted}
    for name in tensors.keys() - wanted.keys():
        if _OF_TRAINING.match(name) and (name.partition(".")[0] not in modules or "encodec" in name):
            del tensors[name]
    if _has_axes_of_mlx(tensors, wanted):
        tensors = {name: t.transpose(1, 2) if t.ndim == 3 and name in wanted else t for name, t in tensors.items()}
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    misfit = _compare(tensors, wanted)
    if misfit:
        raise misfit.error(own.keys(), path, config)
    return kept | {name: tensors[name].contiguous() for name in wanted}


def _merged(parts: Parts) -> Tensor:
    """A tensor, with weight norm multiplied: g v / |v|, the norm over those axes that g has not."""
    if "" in parts or len(parts) < 2:
        return next(iter(parts.values()))
    g, v = parts["g"].float(), parts["v"].float()
    if g.ndim == 1 and v.ndim > 1 and g.shape[0] == v.shape[0]:
        g = g.reshape(-1, *[1] * (v.ndim - 1))
    if g.numel() == 1:  # one norm for all
        g = g.reshape([1] * v.ndim)
    if g.ndim != v.ndim or any(a not in (1, b) for a, b in zip(g.shape, v.shape, strict=True)):
        return torch.empty(0)  # of no model's shape, so it is named
    axes = [axis for axis in range(v.ndim) if g.shape[axis] == 1]
    norm = torch.linalg.vector_norm(v, dim=axes or None, keepdim=True) if axes else v.abs()
    return g * v / norm


def _without_layer_scale(stored: Collection[str], wanted: Collection[str]) -> list[str]:
    """The wanted layer scales, if the file has none at all but has the rest of their blocks."""
    scales = [name for name in wanted if name.endswith(".gamma")]
    return [] if any(name in stored for name in scales) or not stored else scales


def _has_axes_of_mlx(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Whether the convolutions fit with axes 1 and 2 swapped, and not as they are."""
    shapes = [
        (tensors[name].shape, wanted[name].shape) for name in wanted if name in tensors and wanted[name].ndim == 3
    ]
    as_they_are = all(got == want for got, want in shapes)
    return not as_they_are and all(len(got) == 3 and (got[0], got[2], got[1]) == want for got, want in shapes)


def _compare(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Misfit:
    both = [name for name in wanted if name in tensors]
    fitting = [name for name in both if tensors[name].shape == wanted[name].shape]
    floats = [name for name in fitting if tensors[name].is_floating_point()]
    return Misfit(
        missing=[name for name in wanted if name not in tensors],
        surplus=[name for name in tensors if name not in wanted],
        shapes=[
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in both
            if tensors[name].shape != wanted[name].shape
        ],
        not_float=[name for name in fitting if not tensors[name].is_floating_point()],
        not_finite=[name for name in floats if not _is_finite(tensors[name])],
    )


def _is_finite(weights: Tensor) -> bool:
    """Whether no value is NaN or infinite. A finite sum says so in a tenth of the time; if it is not, each is asked."""
    return bool(weights.sum().isfinite()) or bool(weights.isfinite().all())
