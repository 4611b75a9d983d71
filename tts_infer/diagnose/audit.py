"""Operator audit: what each stage would ask of an Apple GPU, judged without one.

A stage runs on the CPU while every operator it dispatches is recorded the way the MPS backend of a given torch
release would receive it: an operator with an MPS kernel is recorded as it stands; one that is composed of others is
taken apart, and its parts are judged; the rest is missing there.
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

_PASSES = 2  # of refinement: the second one has a pass before it

Kind = Literal["mps", "composite", "none", "absent"]
_KINDS: dict[str, Kind] = {"m": "mps", "c": "composite", "n": "none", "a": "absent"}
_COMPOSITE_KEYS = (
    DispatchKey.CompositeImplicitAutograd,
    DispatchKey.CompositeExplicitAutograd,
    DispatchKey.CompositeExplicitAutogradNonFunctional,
)
# Composites that pick a kernel by the device: taken apart on a CPU, they would name the CPU's.
_DEVICE_KERNELS = {
    "convolution": "_mps_convolution",
    "_convolution": "_mps_convolution",
    "complex": "complex.out",
}


def operator_name(operator: OpOverload) -> str:
    """Name and overload, as native_functions.yaml spells them: "add.Tensor"."""
    return operator.name().removeprefix("aten::")


def composite_key(operator: OpOverload) -> DispatchKey | None:
    """The kernel of the installed torch that composes `operator` of others, if there is one."""
    for key in _COMPOSITE_KEYS:
        if torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key):
            return key
    return None


@dataclass(frozen=True)
class OperatorTable:
    """Which operators one torch release has on MPS."""

    release: str
    listed: Mapping[str, Kind]

    def kind(self, operator: OpOverload) -> Kind:
        """What `operator` is there; one that is not listed is composed of others, or foreign to that release."""
        name = operator_name(operator)
        listed = self.listed.get(_DEVICE_KERNELS.get(name, name))
        return listed or ("composite" if composite_key(operator) else "absent")


@cache
def shipped_tables() -> dict[str, OperatorTable]:
    """The tables of the torch releases that the package knows, oldest first.

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
        # a structured operator leaves its kernels to its out= variant
        delegate = functions[str(function.structured_delegate)] if function.structured_delegate else function
        if mps.has_kernel(function) or mps.has_kernel(delegate):
            listed[name] = "mps"
        elif not function.has_composite_kernel:
            listed[name] = "none"
    return OperatorTable(f"{torch.__version__} (installed)", listed)


class MPSRecorder(TorchDispatchMode):
    """Records the operators that run inside it, as MPS under `table` would receive them.

    Attributes:
        operators: calls per operator that needs a kernel of its own.
        missing: of these, the ones that the release lacks.
        complex, float64: operators that make tensors of such types.
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
        self._open: list[OpOverload] = []  # composites that are being taken apart

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
        # detach is composed of itself: what is already open has no further parts
        key = composite_key(func) if kind == "composite" and func not in self._open else None
        if key is not None:
            self._open.append(func)
            with self:  # a mode is off inside its own handler; the parts are to be seen too
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
    """Whether the host must know values that the device computed: to return them, to know a shape, or to copy them."""
    if operator_name(operator).startswith(("to.", "_to_copy")):
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, (str, torch.device))]
        return any(torch.device(device).type == "cpu" for device in given)
    if operator_name(operator).startswith("index."):  # indices are shapes already; masks have to be counted
        return any(isinstance(t, Tensor) and t.dtype in (torch.bool, torch.uint8) for t in tree_leaves(args[1]))
    return bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(operator.tags))


Around = Callable[[str], AbstractContextManager[object]]  # what a stage of that name runs in
Way = Callable[[Tensor, Around], None]  # a way through the stages, from audio


@dataclass(frozen=True)
class StageAudit:
    """What one stage of one decode path asks of one torch release. Operator names, most used first."""

    path: str
    stage: str
    release: str
    operators: tuple[str, ...]
    missing: tuple[str, ...]
    complex: tuple[str, ...]
    float64: tuple[str, ...]
    syncs: tuple[str, ...]
    clean: bool = field(init=False)  # real numbers in operators that the release has, and never waiting

    def __post_init__(self) -> None:
        object.__setattr__(self, "clean", not (self.missing or self.complex or self.float64 or self.syncs))


def our_ways(model: nn.Module) -> dict[str, Way]:
    """Every way through the stages, refinement included, by name.

    Those that begin with "matmul" are what an accelerator runs unless told otherwise.
    """

    def stages(method: str) -> list[Stage]:
        found = [stage.by(method) if stage.methods else stage for stage in family_of(model).stages(model)]
        return [stage if stage.passes is None else replace(stage, passes=_PASSES) for stage in found]

    matmul, fft, name = stages("matmul"), stages("fft"), family_of(model).features(model.config).name
    return {
        "matmul": partial(_whole, matmul, name),
        "matmul, ragged batch": partial(_whole, matmul, name, ragged=True),
        "matmul, in pieces": partial(_in_pieces, matmul, name),
        "fft": partial(_whole, fft, name),
    }


def _whole(stages: Sequence[Stage], name: str, audio: Tensor, around: Around, ragged: bool = False) -> None:
    live, rest = _features(stages, name, audio, around)
    valid = None
    if ragged:  # all frames but the last of the last item
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
    if features not in stages[0].gives:  # no stage makes features
        return live, stages
    with around(stages[0].name):
        outputs, _ = stages[0](tuple(live[name] for name in stages[0].takes))
    return live | dict(zip(stages[0].gives, outputs, strict=True)), stages[1:]


def official_way(model: Vocos) -> Way:
    """The stages of the official package with this model's weights; its head includes the inverse STFT.

    Raises:
        ModuleNotFoundError: the official package is not installed.
    """
    from tts_infer.engines.reference import OfficialVocos

    official = OfficialVocos(model.config).eval()
    official.load_state_dict(model.state_dict(), strict=False)  # strict would ask for windows, which are no weights

    def run(audio: Tensor, around: Around) -> None:
        value = audio
        for name in ("feature_extractor", "backbone", "head"):
            with around("mel" if name == "feature_extractor" else name):
                value = getattr(official, name)(value)

    return run


@torch.inference_mode()
def audit(ways: Mapping[str, Way], audio: Tensor, tables: Iterable[OperatorTable]) -> list[StageAudit]:
    """Run each way through the stages on `audio` and judge every stage under every table.

    Inference mode, as in a decode: without it, autograd would take composite operators apart before MPS sees them.

    Shape: audio of (B, T)
    """
    rows = []
    for table in tables:
        for name, run in ways.items():
            recorders: defaultdict[str, MPSRecorder] = defaultdict(partial(MPSRecorder, table))
            run(audio, recorders.__getitem__)
            for stage, seen in recorders.items():
                found = (seen.operators, seen.missing, seen.complex, seen.float64, seen.syncs)
                names = [tuple(operator for operator, n in counts.most_common() if n) for counts in found]
                rows.append(StageAudit(name, stage, table.release, *names))
    return rows
