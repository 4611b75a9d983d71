"""Operator audit: which operators each stage needs, and whether an Apple GPU has them. It needs no Apple GPU.

A stage runs on the CPU, and every operator that it calls is recorded as the MPS backend of a given torch release would
receive it. An operator with an MPS kernel is recorded. An operator composed of others is split into these, which are
then recorded. Any other operator is missing on MPS.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._C import DispatchKey
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tts_infer.stages import Stage, State
from tts_infer.vocoders import family_of
from tts_infer.vocoders.vocos import Vocos

_PASSES = 2  # passes of refinement; only from the second on is there momentum

Kind = Literal["mps", "composite", "none", "absent"]
_KINDS: dict[str, Kind] = {"m": "mps", "c": "composite", "n": "none", "a": "absent"}
_COMPOSITE_KEYS = (
    DispatchKey.CompositeImplicitAutograd,
    DispatchKey.CompositeExplicitAutograd,
    DispatchKey.CompositeExplicitAutogradNonFunctional,
)
# Composed operators that choose a kernel by the device. Split on a CPU, they would name the CPU's kernel.
_DEVICE_KERNELS = {
    "convolution": "_mps_convolution",
    "_convolution": "_mps_convolution",
    "complex": "complex.out",
}


def operator_name(operator: OpOverload) -> str:
    """Name and overload, as native_functions.yaml writes them: "add.Tensor"."""
    return operator.name().removeprefix("aten::")


def composite_key(operator: OpOverload) -> DispatchKey | None:
    """The key of the kernel that composes `operator` of others in the installed torch; None if there is none."""
    for key in _COMPOSITE_KEYS:
        if torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key):
            return key
    return None


@dataclass(frozen=True)
class OperatorTable:
    """The operators that one torch release has on MPS."""

    release: str
    listed: Mapping[str, Kind]

    def kind(self, operator: OpOverload) -> Kind:
        """The kind of `operator` in that release. If it is not listed, it is composed, or the release lacks it."""
        name = operator_name(operator)
        listed = self.listed.get(_DEVICE_KERNELS.get(name, name))
        return listed or ("composite" if composite_key(operator) else "absent")


@cache
def shipped_tables() -> dict[str, OperatorTable]:
    """The tables of the torch releases that are part of the package, oldest first.

    Source: native_functions.yaml inside the macOS arm64 wheels of those releases.
    """
    text = (Path(__file__).parent.parent / "assets" / "mps" / "operators.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    histories = [(row[0], row[1:]) for row in rows[1:]]
    return {
        release: OperatorTable(release, {name: _KINDS[history[i]] for history, names in histories for name in names})
        for i, release in enumerate(rows[0][1:])
    }


@cache
def installed_table() -> OperatorTable:
    """The table of the installed torch, read from the native_functions.yaml that it ships."""
    import torchgen
    from torchgen.gen import parse_native_yaml
    from torchgen.model import DispatchKey as GenKey

    folder = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native"
    parsed = parse_native_yaml(str(folder / "native_functions.yaml"), str(folder / "tags.yaml"))
    functions = {str(function.func.name): function for function in parsed.native_functions}
    mps = parsed.backend_indices[GenKey.MPS]
    listed: dict[str, Kind] = {}
    for name, function in functions.items():
        # the kernels of a structured operator belong to its out= variant
        delegate = functions[str(function.structured_delegate)] if function.structured_delegate else function
        if mps.has_kernel(function) or mps.has_kernel(delegate):
            listed[name] = "mps"
        elif not function.has_composite_kernel:
            listed[name] = "none"
    return OperatorTable(f"{torch.__version__} (installed)", listed)


class MPSRecorder(TorchDispatchMode):
    """Records the operators that run inside it, as MPS under `table` would receive them.

    Attributes:
        operators: number of calls of each operator that needs its own kernel.
        missing: those of them that the release lacks.
        complex, float64: operators that make tensors of these types.
        syncs: operators that make the host wait for the device.
    """

    def __init__(self, table: OperatorTable) -> None:
        super().__init__()
        self.table = table
        self.operators: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self.complex: Counter[str] = Counter()
        self.float64: Counter[str] = Counter()
        self.syncs: Counter[str] = Counter()
        self._open: list[OpOverload] = []  # composed operators that are being split

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name, kind = operator_name(func), self.table.kind(func)
        if _makes_host_wait(func, args, kwargs):
            self.syncs[name] += 1
        # detach is composed of itself, so an operator that is already open is not split again
        key = composite_key(func) if kind == "composite" and func not in self._open else None
        if key is not None:
            self._open.append(func)
            with self:  # a mode is off inside its own handler, but the parts must be recorded
                result = func._op_dk(key, *args, **kwargs)
            self._open.pop()
        else:
            self.operators[name] += 1
            if kind in ("none", "absent"):
                self.missing[name] += 1
            result = func(*args, **kwargs)
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        self.complex[name] += sum(t.is_complex() for t in made)
        self.float64[name] += sum(t.dtype == torch.float64 for t in made)
        return result


def _makes_host_wait(operator: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the host must wait for values of the device: to return them, to learn a shape, or to copy them."""
    if operator_name(operator).startswith(("to.", "_to_copy")):
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, (str, torch.device))]
        return any(torch.device(device).type == "cpu" for device in given)
    if operator_name(operator).startswith("index."):  # a mask must be counted to know the shape
        return any(isinstance(t, Tensor) and t.dtype in (torch.bool, torch.uint8) for t in tree_leaves(args[1]))
    return bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(operator.tags))


Around = Callable[[str], AbstractContextManager[object]]  # stage name -> the context that the stage runs in
DecodePath = Callable[[Tensor, Around], None]  # runs all stages, from audio to audio


@dataclass(frozen=True)
class StageAudit:
    """The operators of one stage of one decode path under one torch release. Most used names come first."""

    path: str
    stage: str
    release: str
    operators: tuple[str, ...]
    missing: tuple[str, ...]
    complex: tuple[str, ...]
    float64: tuple[str, ...]
    syncs: tuple[str, ...]
    clean: bool = field(init=False)  # nothing missing, complex, float64 or waiting

    def __post_init__(self) -> None:
        object.__setattr__(self, "clean", not (self.missing or self.complex or self.float64 or self.syncs))


def our_paths(model: nn.Module) -> dict[str, DecodePath]:
    """All paths through the stages, including refinement, by name.

    Accelerators run those that begin with "matmul" by default.
    """

    def stages(method: str) -> list[Stage]:
        found = [stage.by(method) if stage.methods else stage for stage in family_of(model).stages(model)]
        return [stage if stage.passes is None else replace(stage, passes=_PASSES) for stage in found]

    matmul, fft, name = stages("matmul"), stages("fft"), family_of(model).features(model.config).name
    pieces = {} if any(stage.whole for stage in matmul) else {"matmul, in pieces": partial(_in_pieces, matmul, name)}
    return {
        "matmul": partial(_whole, matmul, name),
        "matmul, ragged batch": partial(_whole, matmul, name, ragged=True),
        **pieces,
        "fft": partial(_whole, fft, name),
    }


def _whole(stages: Sequence[Stage], name: str, audio: Tensor, around: Around, ragged: bool = False) -> None:
    live, rest = _features(stages, name, audio, around)
    valid = None
    if ragged:  # the last item is one frame shorter
        valid = live[name].new_ones(live[name].shape[0], live[name].shape[2], 1)
        valid[-1, -1] = 0.0
    for stage in rest:
        with around(stage.name):
            outputs, _ = stage(tuple(live[name] for name in stage.takes), valid=valid)
            valid = None if valid is None else stage.marks(valid)
        live.update(zip(stage.gives, outputs, strict=True))


def _in_pieces(stages: Sequence[Stage], name: str, audio: Tensor, around: Around) -> None:
    live, rest = _features(stages, name, audio, around)
    states: dict[str, State] = {stage.name: stage.initial_state(live[name].shape[0]) for stage in rest}
    halves = live[name].tensor_split(2, dim=2)
    for i, half in enumerate(halves):
        live[name] = half
        for stage in rest:
            inputs = tuple(live[one] for one in stage.takes)
            with around(stage.name):
                outputs, states[stage.name] = stage(inputs, states[stage.name], final=i == len(halves) - 1)
            live.update(zip(stage.gives, outputs, strict=True))


def _features(
    stages: Sequence[Stage], features: str, audio: Tensor, around: Around
) -> tuple[dict[str, Tensor], Sequence[Stage]]:
    """The tensors before the networks, and the stages from there on. What no stage makes is that of the probes."""
    live = {"audio": audio}
    for stage in stages:
        live = dict(zip(stage.takes, stage.probe(), strict=True)) | live
    front = next((i + 1 for i, stage in enumerate(stages) if features in stage.gives), 0)  # 0: no stage makes features
    for stage in stages[:front]:
        with around(stage.name):
            outputs, _ = stage(tuple(live[name] for name in stage.takes))
        live |= zip(stage.gives, outputs, strict=True)
    return live, stages[front:]


def official_path(model: Vocos) -> DecodePath:
    """The path through the official package with this model's weights. Its head includes the inverse STFT.

    Raises:
        ModuleNotFoundError: the official package is not installed.
    """
    from tts_infer.vocoders.reference import OfficialVocos

    official = OfficialVocos(model.config).eval()
    official.load_state_dict(model.state_dict(), strict=False)  # the windows are missing, which are not weights

    def run(audio: Tensor, around: Around) -> None:
        value = audio
        for name in ("feature_extractor", "backbone", "head"):
            with around("mel" if name == "feature_extractor" else name):
                value = getattr(official, name)(value)

    return run


@torch.inference_mode()
def audit(paths: Mapping[str, DecodePath], audio: Tensor, tables: Iterable[OperatorTable]) -> list[StageAudit]:
    """Run each path on `audio`, and record the operators of each stage under each table.

    This runs in inference mode, as a decode does. Otherwise autograd would split composed operators before MPS receives
    them.

    Args:
        paths: the paths, by name.
        audio: the input.
        tables: of torch releases.

    Shape: audio of (B, T)
    """
    rows = []
    for table in tables:
        for name, run in paths.items():
            recorders: defaultdict[str, MPSRecorder] = defaultdict(partial(MPSRecorder, table))
            run(audio, recorders.__getitem__)
            for stage, seen in recorders.items():
                found = (seen.operators, seen.missing, seen.complex, seen.float64, seen.syncs)
                names = [tuple(operator for operator, n in counts.most_common() if n) for counts in found]
                rows.append(StageAudit(name, stage, table.release, *names))
    return rows
